"""`sa.record`: the hooks alone, around a loop of the user's own, for any network that `sa.profile` takes."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from tests.counting.networks import hooks_of, tiny_sdt
from tests.models.sdt_oracle import exact_input


def test_record_counts_an_ordinary_loop_and_leaves_no_trace() -> None:
    model = tiny_sdt().train()
    before = hooks_of(model)
    images = exact_input(5, 3, 16, 16)
    with sa.record(model) as rec:
        for batch in images.split(3):
            model(batch).sum().backward()
            functional.reset_net(model)
    assert hooks_of(model) == before and model.training
    table = rec.counts()
    assert set(table.columns) == {"forward", "image", "tensor", "t", "nonzero", "abs_sum", "elements"}
    assert table.groupby("forward")["image"].max().tolist() == [2, 1]
    lif = table[table["tensor"] == "patch_embed.proj_lif"]
    assert lif["nonzero"].sum() > 0 and (lif["nonzero"] <= lif["elements"]).all()


def test_a_forgotten_reset_is_an_error_and_an_exception_releases_the_hooks() -> None:
    model = tiny_sdt()
    before = hooks_of(model)
    images = exact_input(2, 3, 16, 16)
    with pytest.raises(SpikeattnError, match="reset_net"), sa.record(model):
        model(images)
        model(images)
    assert hooks_of(model) == before
    functional.reset_net(model)
    with pytest.raises(ZeroDivisionError), sa.record(model):
        model(images)
        raise ZeroDivisionError
    assert hooks_of(model) == before
    functional.reset_net(model)
    with pytest.raises(SpikeattnError, match="nothing recorded yet"), sa.record(model) as rec:
        rec.counts()


class Own(nn.Module):
    """Spikes of a class that SpikingJelly does not know, in one step."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).float()


class BatchFirst(nn.Module):
    """Works on [B, T, ...], T = 4, with B = 4 images: the two axes cannot be told apart by their size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.lif, self.head = nn.Linear(6, 8), Late(step_mode="m"), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(x * 5).unsqueeze(1).expand(-1, 4, -1))).mean(1)


class Late(neuron.LIFNode):
    """A LIF that takes [B, T, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).contiguous()).transpose(0, 1)


def spikes_of(table: pd.DataFrame, tensor: str) -> list[list[int]]:
    """[T][B] of one forward pass."""
    chosen = table[table["tensor"] == tensor]
    return chosen.pivot(index="t", columns="image", values="nonzero").to_numpy().tolist()


def test_neurons_of_ones_own_in_one_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), Own(), nn.Linear(5, 2))
    x = torch.rand(7, 6)
    with pytest.raises(SpikeattnError, match="neurons=lambda module"):
        sa.record(model)
    with sa.record(model, neurons=lambda module: isinstance(module, Own), time_steps=1) as rec:
        model(x)
    expected = (model[0](x) > 0.5).sum(1)
    assert expected.sum() > 0 and spikes_of(rec.counts(), "1") == [expected.tolist()]


def test_the_order_of_time_and_batch_is_the_one_that_is_named() -> None:
    model, x = BatchFirst().eval(), torch.rand(4, 6)
    seen: list[Tensor] = []
    handle = model.lif.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    with sa.record(model, layout="BT") as rec:
        model(x)
    handle.remove()
    assert seen[-1].sum() > 0 and spikes_of(rec.counts(), "lif") == seen[-1].sum(-1).T.tolist()
    with pytest.raises(SpikeattnError, match="valid are 'TB' .* and 'BT'"), sa.record(model, layout="BTX"):
        functional.reset_net(model)
        model(x)

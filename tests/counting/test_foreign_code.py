"""What researchers' code does besides: copies, in-place writes, precisions, modes, wrappers, any output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from tests.counting.brute_force import amounts, assert_exact, exact, pictures
from tests.counting.networks import Stages as Net

IF = neuron.IFNode
STEM = 3 * 64 * 4 * 27  # MACs of three time steps of the first convolution, on a still image charged once


def in_place_mask(x: Tensor, net: Net) -> Tensor:
    y = x.clone()
    return y.mul_(net.gate(x * 0.6))


def written_step_by_step(x: Tensor, net: Net) -> Tensor:
    out = torch.empty_like(x)
    for t in range(len(x)):
        out[t] = x[t].flip(-1)
    return out


def sliced_writes(x: Tensor, net: Net) -> Tensor:
    """Spikes with a border of potentials written into them are no spikes any more."""
    x = F.pad(x, [1] * 4)[..., 1:-1, 1:-1].clone()
    x[..., 0:1] = 0.5
    return x


BETWEEN = {
    "copies": (lambda x, net: torch.cat([x, x.flip(-1)], 2)[:, :, 2:6].roll(1, -1), set()),
    "upsample": (lambda x, net: F.max_pool2d(F.interpolate(x.flatten(0, 1), scale_factor=2), 2).view(x.shape), set()),
    "in-place mask": (in_place_mask, set()),
    "written": (written_step_by_step, set()),
    "stacked": (lambda x, net: torch.stack([x[t] for t in range(4)]), set()),
    "or": (lambda x, net: torch.maximum(x, net.gate(x * 0.6)), set()),
    "average pool": (lambda x, net: F.avg_pool2d(x.flatten(0, 1), 3, 1, 1).view(x.shape), set()),
    "real border": (sliced_writes, set()),
    "potential": (lambda x, net: x + net.conv.bias.view(-1, 1, 1), {"add"}),
    "learned scale": (lambda x, net: x * net.conv.bias.view(-1, 1, 1), {"mul"}),
    "attention": (lambda x, net: F.scaled_dot_product_attention(x.flatten(3), x.flatten(3), x.flatten(3)).view(x.shape),
                  {"_scaled_dot_product_flash_attention_for_cpu"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_what_happens_to_spikes_on_their_way(name: str) -> None:
    """Operations without a rule are listed; what comes behind them is counted by what it receives."""
    between, listed = BETWEEN[name]
    parts = 9 if name == "average pool" else 1  # a spike is a ninth in each of the windows that hold it
    profile = assert_exact(
        exact(Net(between)), pictures(3, 3, 8, 8), macs_once=STEM,
        unit=lambda w: 1 / parts if w.shape[:2] == (6, 4) else 1.0,
    )  # fmt: skip
    assert {u.op for u in profile.ledger.uncounted} == listed


# --------------------------------------------------------------------------------------- precisions, modes, wrappers
def autocast(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(x)


def inference(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x)


@pytest.mark.parametrize(
    ("prepare", "call"),
    [
        (lambda net: net.train(), None), (lambda net: net.half(), lambda m, x: m(x.half())),
        (lambda net: net.double(), lambda m, x: m(x.double())), (lambda net: net, autocast),
        (lambda net: net, inference), (lambda net: net.to(memory_format=torch.channels_last), None),
        (lambda net: net.requires_grad_(False), lambda m, x: m(x.contiguous(memory_format=torch.channels_last))),
        (lambda net: nn.utils.parametrizations.weight_norm(net.conv2) and net, None),
        (lambda net: net, lambda m, x: m(x=x)),
    ],
    ids=["training", "half", "double", "autocast", "inference", "channels_last", "frozen", "weight_norm", "keyword"],
)  # fmt: skip
def test_precisions_and_modes(prepare: Callable, call: Callable | None) -> None:
    net = prepare(exact(Net()))
    training = net.training
    profile = assert_exact(net, pictures(3, 3, 8, 8), call, macs_once=STEM)
    assert not profile.ledger.uncounted and profile.ledger.tensor("lif").kind == "binary"
    assert not training or profile.n_images == 3


@pytest.mark.parametrize("wrap", ["DataParallel", "compile", "compiled layer", "model.compile"])
def test_wrapped_models_are_the_models_inside(wrap: str) -> None:
    net, images = exact(Net()), pictures(3, 3, 8, 8)
    expected = sa.profile(net, [images])
    model: nn.Module = net
    if wrap == "DataParallel":
        model = nn.DataParallel(net)
    elif wrap == "compile":
        model = torch.compile(net, backend="eager")
    elif wrap == "compiled layer":
        net.conv2 = torch.compile(net.conv2, backend="eager")
    else:
        net.compile(backend="eager")
    if wrap != "DataParallel":
        model(images)
        functional.reset_net(net)
    profile = sa.profile(model, [images])
    assert amounts(profile) == amounts(expected)
    assert profile.ledger.model["class"].endswith("Stages")
    with sa.record(model) as recording:
        model(images)
    assert set(recording.counts()["tensor"]) == {t.name for t in profile.ledger.tensors}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neurons": IF}, "neurons is <class.*neurons=lambda module: isinstance"),
        ({"neurons": ["lif"]}, r"neurons is \['lif'\]; give a function"),
        ({"neurons": lambda module: False}, "Stages has no spiking neurons: none of its .* modules"),
        ({"neurons": lambda module: True}, "the model is itself one spiking neuron, a Stages"),
        ({"layout": "bt"}, "layout is 'bt'; valid are 'TB'"),
        ({"time_steps": 3}, "neuron lif sees 4 time steps where 3 are expected"),
        ({"time_steps": 0}, "time_steps is 0; give a whole number of at least 1"),
        ({"time_steps": "4"}, "time_steps is '4'; give a whole number"),
        ({"time_steps": 4.0}, "time_steps is 4.0; give a whole number"),
        ({"forward": lambda model, x: model(x[:, :1])}, "Stages fails on 2 of the 3 images of the first.*channels"),
        ({"forward": lambda model, x: x}, "never called the model with a tensor"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_clear_error(options: dict, message: str) -> None:
    net = exact(Net())
    with pytest.raises(sa.SpikeattnError, match=message):
        sa.profile(net, [pictures(3, 3, 8, 8)], **options)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_model_that_fails_while_its_own_neurons_are_examined_is_one_clear_error() -> None:
    net = exact(Net(lambda x, net: x.view(1, 2, 3)))
    net.lif2 = neuron.ILIFNode(step_mode="m")
    with pytest.raises(sa.SpikeattnError, match="Stages fails on 2 of the 3 images.*RuntimeError: shape"):
        sa.profile(net, [pictures(3, 3, 8, 8)])


class Outputs(Net):
    form = staticmethod(lambda y: y)

    def forward(self, x: Tensor):
        return self.form(super().forward(x))


@pytest.mark.parametrize("form", [lambda y: (y, y * 2), lambda y: {"logits": y, "more": [y]}, lambda y: None])
def test_any_output(form: Callable) -> None:
    net, images = exact(Outputs()), pictures(3, 3, 8, 8)
    net.form = form
    rows = sa.profile(net, [images]).counts.rows
    if form(1) is None:
        assert not any(column.startswith("pred") for column in rows)
    else:
        with torch.no_grad():
            logits = Net.forward(net, images)
        assert rows["pred_4"].tolist() == logits.argmax(1).tolist() and "pred_1" in rows


def test_training_records_the_right_products_beside_dropout() -> None:
    """Dropout multiplies too, in training alone; the mask that is counted is still the mask of the spikes."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)
            self.lif, self.gate = IF(step_mode="m"), IF(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x = x.unsqueeze(0).repeat(4, 1, 1)
            masked = self.lif(self.drop(self.a(x)) * 2) * self.gate(self.b(x) * 2)
            return self.head(masked.flip(-1)).mean(0)

    net = exact(Masked()).train()
    seen: list[Tensor] = []
    handles = [m.register_forward_hook(lambda m, a, out: seen.append(out.detach())) for m in (net.lif, net.gate)]
    with sa.record(net) as recording:
        net(pictures(5, 6)).sum().backward()
    for handle in handles:
        handle.remove()
    spikes, gate = seen[-2:]
    counted = recording.counts().groupby("tensor")["nonzero"].sum()
    assert counted["lif"] == spikes.sum() and counted["gate"] == gate.sum()
    assert counted["head:in"] == (spikes * gate).sum() > 0

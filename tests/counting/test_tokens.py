"""Language models: token ids are looked up, causal masks are no operations, an "image" is a sequence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.any_spikingjelly import neuron
from tests.counting.brute_force import amounts, assert_exact, exact

T, L, D, WORDS = 3, 6, 8, 11
IDS = torch.randint(0, WORDS, (5, L), generator=torch.Generator().manual_seed(0))


def lif() -> nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=0.25)


class Language(nn.Module):
    """[B, L] token ids -> [B, L, words] scores of the next ones, by causal attention of spikes."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.words, self.places, self.mask = nn.Embedding(WORDS, D), nn.Parameter(torch.zeros(L, D)), mask
        self.q, self.k, self.v, self.out, self.head = (nn.Linear(D, D) for _ in range(5))
        self.first, self.q_lif, self.k_lif, self.v_lif, self.sum_lif, self.last = (lif() for _ in range(6))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places  # [B, L, D]
        x = x.expand(T, *x.shape)
        h = self.first(x)
        q, k, v = self.q_lif(self.q(h)), self.k_lif(self.k(h)), self.v_lif(self.v(h))
        scores = self.mask(q @ k.transpose(-1, -2))  # [T, B, L, L]
        scores.summed = True  # type: ignore[attr-defined]  # for the oracle, which forgets it behind a mask
        x = x + self.out(self.sum_lif(scores @ v))
        return self.head(self.last(x)).mean(0)


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "mul": lambda a: a * torch.ones(L, L).tril(),
    "bool": lambda a: a * torch.ones(L, L, dtype=torch.bool).tril(),
    "masked_fill": lambda a: a.masked_fill(torch.ones(L, L, dtype=torch.bool).triu(1), 0.0),
    "tril": lambda a: a.tril(),
    "where": lambda a: torch.where(torch.ones(L, L).tril() > 0, a, 0.0),
    "where with zeros": lambda a: torch.where(torch.ones(L, L).tril() > 0, a, torch.zeros_like(a)),
}


@pytest.mark.parametrize("name", MASKS)
def test_causal_masks_are_no_operations(name: str) -> None:
    profile = assert_exact(exact(Language(MASKS[name])), IDS)
    assert profile.time_steps == T and not profile.ledger.uncounted and not profile.warnings
    assert amounts(profile)["mac"] == [0] * 5  # the tokens are looked up, and everything else receives spikes
    reference = sa.profile(exact(Language(MASKS["tril"])), [IDS])
    assert amounts(profile) == amounts(reference)
    assert profile.structure.attention[0][0].macs == 2 * L * L * D


def test_scales_of_each_place_are_no_mask() -> None:
    fading = 0.5 ** (torch.arange(L)[:, None] - torch.arange(L)).clamp(min=0)
    for scale in (lambda a: a * (fading * 1.0), lambda a: a * (torch.ones(L, L) * 3)):
        profile = sa.profile(exact(Language(scale)), [IDS])
        assert [entry.op for entry in profile.ledger.uncounted] == ["mul"]


@pytest.mark.parametrize("looked_up", [True, False])
def test_token_ids_have_no_rate(looked_up: bool) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lif, self.head = nn.Parameter(torch.ones(WORDS, D)), lif(), nn.Linear(D, 2)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.table[ids] if looked_up else ids[..., None] * self.table[0]
            return self.head(self.lif(x.expand(T, *x.shape)).mean((0, 2)))

    profile = sa.profile(exact(Sum()), [IDS])
    assert (profile.provenance["input"]["kind"] == "token ids") == looked_up
    assert ("input" in set(profile.rates()["tensor"])) == (not looked_up)
    with sa.record(exact(model := Sum())) as rec:
        model(IDS)
    assert ("input" in set(rec.rates()["tensor"])) == (not looked_up)


def test_labels_of_tokens_are_no_classes() -> None:
    model = exact(Language(MASKS["tril"]))
    for ids, following in ((IDS, IDS.roll(-1, 1)), (IDS, IDS.roll(-1, 1).tolist())):
        profile = sa.profile(model, [(ids, following)])
        assert profile.no_accuracy is not None and "it is [B, 6, 8]; the labels (" in profile.no_accuracy
        assert profile.n_images == 5 and profile.counts.rows["label"].tolist() == [-1] * 5
    last = sa.profile(model, [(IDS, IDS[:, 0])], forward=lambda net, ids: net(ids)[:, -1])
    assert last.no_accuracy is None and last.summary()["labelled_images"] == 5  # of the next token alone

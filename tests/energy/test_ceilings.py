"""The largest amount that one image can reach, term by term: what bounds an interval over few images that spike."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import beta

from spikeattn.energy.activity import Constant, Count
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.estimate import energy
from spikeattn.energy.rules import terms_of
from tests.energy.conftest import BruteCounts, N, T


def ceilings(ledger, convention, **changes) -> dict[str, float]:
    return {term.name: term.ceiling for term in terms_of(ledger, get_convention(convention, **changes))}


def test_ceilings_of_every_kind_of_entry(ledger):
    assert ceilings(ledger, "exact") == {
        "conv": 648,  # multiply-accumulates of a static input: once
        "conv1": 486 * T,
        "head": math.inf,  # its input holds integers
        "kv": 27 * T,
        "sum": 27 * T,
        "qk": 243 * T,
        "av": 243 * T,
        "ss": 243 * T,
    }
    assert ceilings(ledger, "exact", first_conv="every-step")["conv"] == 648 * T
    assert ceilings(ledger, "exact", first_layer="ac")["conv"] == 648


def once(entries):
    return tuple(dataclasses.replace(entry, every_step=False) for entry in entries)


def test_what_runs_once_per_image_has_the_ceiling_of_one_step(ledger):
    ledger = dataclasses.replace(ledger, synapses=once(ledger.synapses), products=once(ledger.products))
    expected = {"conv": 648, "conv1": 486, "head": math.inf, "kv": 27, "sum": 27, "qk": 243, "av": 243, "ss": 243}
    assert ceilings(ledger, "exact") == expected


def test_integer_operands_have_no_ceiling(ledger):
    def with_kind(kind: str):
        tensors = [dataclasses.replace(t, summed=False) for t in ledger.tensors]
        tensors = [dataclasses.replace(t, kind=kind) if t.name in ("k", "kv") else t for t in tensors]
        return ceilings(dataclasses.replace(ledger, tensors=tuple(tensors)), "exact")

    assert with_kind("integer")["qk"] == with_kind("integer")["sum"] == math.inf
    assert with_kind("ternary")["qk"] == 243 * T  # a sign is one spike


def test_ceilings_of_the_papers_formulas(sdt_8_512):
    tokens, dim, steps = 196, 512, 4
    qkv, product = "block.3.attn.q_conv", "block.3.attn.sum"
    mean = ceilings(sdt_8_512, "sdt-paper")
    assert get_convention("sdt-paper").qkv_rate == "mean-output"
    assert mean[product] == 2 * tokens * dim * steps  # (R_Q + R_K) x N x D
    assert mean[qkv] == dim * dim * tokens * steps
    narrow = ceilings(sdt_8_512, "sdt-paper", qkv_size="N^2D")
    assert narrow[qkv] == pytest.approx(tokens**2 * dim * steps)


@pytest.mark.parametrize("convention", ["exact", "input-rate"])
def test_neurons_that_fire_at_every_step_reach_the_ceilings(ledger, spikes, convention):
    full = {name: np.ones_like(values) for name, values in spikes.items()}
    counts = BruteCounts(ledger, full)
    for term in terms_of(ledger, get_convention(convention)):
        source = term.source
        if isinstance(source, Constant):
            assert term.factor * source.times == term.ceiling, term
        elif isinstance(source, Count) and source.measure != "fan_abs":  # those know the border, which has no ceiling
            assert term.factor * counts.column(source.measure, source.name)[0].sum() == term.ceiling, term


@pytest.mark.parametrize(("names", "ceiling"), [(("sum",), 27 * T), (("qk", "av"), 2 * 243 * T)])
def test_few_images_that_spike_are_bounded_by_the_ceilings_of_their_part(only, spikes, names, ceiling):
    ledger = only(*names)
    first = np.arange(N)[:, None, None, None] == 0
    rare = {name: np.where(first, spikes[name], 0) for name in ("q", "k", "v", "kv")}
    table = energy(ledger, BruteCounts(ledger, rare))
    assert rare["kv"].any() and table.loc[0, "interval"] == "upper bound"
    share = beta.ppf(0.95, 2, N - 1)  # Clopper-Pearson, one of N images, one-sided
    assert table.loc[0, "ci_high"] == pytest.approx(share * ceiling * 0.9e-9, rel=1e-6)

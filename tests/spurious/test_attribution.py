"""Operations by token: nothing is lost or counted twice, for every family and convention."""

from __future__ import annotations

import numpy as np
import pytest

from spikeattn.energy.activity import CountedActivity
from spikeattn.energy.amounts import OPS, amounts_by_part
from spikeattn.energy.conventions import get_convention, list_conventions
from spikeattn.spurious import spurious_energy
from spikeattn.spurious.attribution import attribute
from spikeattn.spurious.join import join
from tests.attention.cases import FRAMES, images_of, sdt
from tests.spurious.cases import case

FAMILIES = {"lif": {}, "plif": {"spike_mode": "plif"}, "dvs frames": FRAMES, "mlp_ratio 1": {"mlp_ratio": 1.0}}
FAMILIES["shallow"] = {"depth": 1}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("heads", ["mean", "each"])
def test_inside_and_outside_are_the_profile_to_the_last_operation(family, heads):
    model = sdt(**FAMILIES[family])
    profile, attention = case(model, images_of(model), heads=heads)
    activity, energy = CountedActivity(profile.ledger, profile.counts), profile.energy()
    joined = join(profile, attention, "lfdr", None)
    spread = attribute(activity, get_convention("exact"), joined.tokens, joined.rows, heads == "each")
    counted = np.zeros((3, len(OPS)))
    for piece in spread.inside:
        assert piece.amounts.shape[1] == (4 if heads == "each" and piece.attention else 1)
        counted[:, OPS.index(piece.term.op)] += piece.amounts.sum((1, 2))
    for left in spread.outside:
        counted[:, OPS.index(left.term.op)] += left.amounts
    amounts = amounts_by_part(activity, get_convention("exact")).per_image
    np.testing.assert_array_equal(counted, amounts.sum(1))  # whole numbers: no rounding
    assert not spread.evenly
    found = spurious_energy(profile, attention)
    np.testing.assert_array_equal(found.per_image, energy.per_image)
    both = found.frame.groupby("image")["energy_mj"].sum().mean() + found.outside["energy_mj"].sum()
    np.testing.assert_allclose(both, energy.total.value, rtol=1e-14)
    assert set(found.outside["part"]) == {"SPS", "head"} and (found.outside["reason"] == "outside the blocks").all()
    np.testing.assert_allclose(found.maps.sum((1, 2)), found.frame.groupby("image")["energy_mj"].sum(), rtol=1e-13)


@pytest.mark.parametrize("convention", list_conventions())
def test_every_convention_is_spread_without_a_rest(lif, convention):
    _, _, profile, attention = lif
    activity, rules = CountedActivity(profile.ledger, profile.counts), get_convention(convention)
    joined = join(profile, attention, "lfdr", None)
    spread = attribute(activity, rules, joined.tokens, joined.rows)
    total = sum(p.amounts.sum((1, 2)) for p in spread.inside) + sum(left.amounts for left in spread.outside)
    np.testing.assert_allclose(total, amounts_by_part(activity, rules).per_image.sum((1, 2)), rtol=1e-12)
    blocks = {left.term.name for left in spread.outside if left.term.name.startswith("block.")}
    gates = {f"block.{i}.attn.talking_heads_lif" for i in range(2)}
    assert blocks == (gates if rules.neurons == "counted" else set())  # the gate's neurons have no token

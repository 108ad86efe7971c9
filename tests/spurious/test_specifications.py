"""The grid of specifications against shares asked for one by one, its range, its text, and other nulls beside it."""

from __future__ import annotations

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.spurious import spurious_energy
from spikeattn.spurious.significance_rules import RULES
from spikeattn.spurious.specification_text import lines_of
from tests.attention.cases import images_of, sdt

RULE_NAMES = ["q <= 0.05", "q <= 0.1", "q <= 0.2", "p <= 0.05", "p <= 0.1", "lfdr <= 0.1", "lfdr as weight"]


@pytest.fixture(scope="module")
def nulls():
    """A tiny network attended against two nulls, whose replicates are few but real."""
    model = sdt()
    images = images_of(model)
    loader = [(images, [0, 1, 2])]
    attend = {null: sa.attend(model, images, null, 12, layer="all", tokens=True) for null in ("pixel", "normal")}
    return sa.profile(model, loader), attend


def test_every_row_is_the_share_of_its_own_call(nulls):
    profile, attend = nulls
    energy = spurious_energy(profile, attend["pixel"], also=attend["normal"])
    grid = energy.specifications
    assert list(grid["rule"].unique()) == RULE_NAMES == [str(rule) for rule in RULES]
    assert len(grid) == 2 * 7 * 2 and set(grid["question"]) == {"how much", "where"}
    assert set(grid["null"]) == {"pixel", "normal"} and (grid["replicates"] == 12).all()
    assert grid["share"].nunique() > 4  # the questions and rules do differ here
    for row in grid.to_dict("records"):
        threshold = None if row["method"] == "soft" else row["threshold"]
        alone = spurious_energy(
            profile, attend[row["null"]], method=row["method"], threshold=threshold, question=row["question"]
        )
        assert row["share"] == pytest.approx(alone.total.value, abs=1e-12), row
        assert (row["low"], row["high"]) == pytest.approx((alone.total.low, alone.total.high), nan_ok=True), row
        assert row["interval"] == alone.total.method
    assert energy.range == (grid["share"].min(), grid["share"].max())


def test_the_chosen_row_is_the_total_also_of_a_threshold_of_ones_own(nulls):
    profile, attend = nulls
    for options, rule in (({}, "q <= 0.1"), ({"method": "p", "threshold": 0.3, "question": "where"}, "p <= 0.3")):
        energy = spurious_energy(profile, attend["pixel"], also=attend["normal"], **options)
        (chosen,) = energy.specifications[energy.specifications["chosen"]].to_dict("records")
        assert (chosen["null"], chosen["rule"]) == ("pixel", rule)
        assert chosen["question"] == options.get("question", "how much") == energy.provenance["question"]
        assert (chosen["share"], chosen["low"]) == pytest.approx((energy.total.value, energy.total.low))
        assert energy.range[1] <= 1
        last = energy.parts.iloc[-1]
        assert (last["ci_low"], last["ci_high"]) == pytest.approx((energy.total.low, energy.total.high))
    marks = attend["pixel"].where.p > 0.3
    np.testing.assert_allclose(energy.spurious_layer_maps, energy.layer_maps * marks, rtol=1e-12)


def test_what_is_printed_has_the_chosen_line_the_range_and_one_line_each(nulls):
    profile, attend = nulls
    energy = spurious_energy(profile, attend["pixel"], also=attend["normal"])
    lines = repr(energy).splitlines()
    low, high = (f"{100 * share:.1f} %" for share in energy.range)
    assert lines[0] == "<SpuriousEnergy of 3 images, 2 blocks>" and str(energy) == repr(energy)
    assert max(map(len, lines)) <= 80
    table = next(place for place, line in enumerate(lines) if line.startswith("null "))
    said = " ".join(lines[1:table])
    assert "(q ≤ 0.1, how much, null pixel)" in said
    assert f"between {low} and {high} of the blocks' energy" in said and "28 specifications" in said
    assert lines[table].split() == ["null", "significant", "how", "much", "where"]
    assert len(lines) == table + 1 + 14 and repr(energy).count("*") == 1
    (marked,) = (line for line in lines if "*" in line)
    assert marked.startswith("pixel   q ≤ 0.1")
    assert [line["null"] for line in lines_of(energy.specifications)] == ["pixel"] * 7 + ["normal"] * 7


def test_one_null_and_a_null_without_replicates_are_said(nulls):
    profile, attend = nulls
    assert any(note.startswith("one-null: the grid has pixel alone") for note in
               spurious_energy(profile, attend["pixel"]).notes)  # fmt: skip
    both = spurious_energy(profile, attend["pixel"], also=[attend["normal"]])
    assert not any(note.startswith(("one-null", "one-question", "no-q")) for note in both.notes)
    model = sdt()
    exact = spurious_energy(profile, sa.attend(model, images_of(model), "exact", layer="all", tokens=True))
    assert set(exact.specifications["question"]) == {"how much"} and exact.provenance["interval"] == "images alone"
    assert {note.partition(":")[0] for note in exact.notes} >= {"one-question", "images-alone"}


def test_an_estimator_without_q_has_a_grid_without_it(nulls):
    profile, _ = nulls
    model = sdt()
    few = sa.attend(model, images_of(model), "pixel", 12, layer="all", tokens=True, estimator="per-token")
    energy = spurious_energy(profile, few, method="p")
    assert "q" not in set(energy.specifications["method"]) and len(energy.specifications) == 8
    assert any(note.startswith("no-q") for note in energy.notes)
    with pytest.raises(SpikeattnError, match="no per-token q from 12 replicates"):
        spurious_energy(profile, few)


def test_other_nulls_must_be_of_the_same_maps(nulls):
    profile, attend = nulls
    model = sdt()
    images = images_of(model)
    for options, message in (
        ({"null": "pixel"}, "holds attention of the null pixel, as the attention itself"),
        ({"statistic": "V_S"}, "the null normal differs in statistic: 'V_S' and 'Vhat_S'"),
        ({"estimator": "plus-one"}, "the null normal differs in estimator: 'plus-one' and 'standardised'"),
        ({"layer": 0}, r"is of layers \[0\], that of pixel of \[0, 1\]"),
        ({"indices": [0, 1, 9]}, "image 9 of the attention has no token counts"),
    ):
        settings = {"null": "normal", "replicates": 4, "layer": "all"} | options
        with pytest.raises(SpikeattnError, match=message):
            spurious_energy(profile, attend["pixel"], also=sa.attend(model, images, **settings))
    some = sa.attend(model, images[:2], "normal", 4, layer="all")
    with pytest.raises(SpikeattnError, match="image 2 was not attended at layer 0"):
        spurious_energy(profile, attend["pixel"], also=some)
    other = sdt(embed_dim=32)
    with pytest.raises(SpikeattnError, match="the null normal differs in model"):
        spurious_energy(profile, attend["pixel"], also=sa.attend(other, images_of(other), "normal", 4, layer="all"))
    with pytest.raises(SpikeattnError, match="the attention is 'normal'"):
        spurious_energy(profile, attend["pixel"], also="normal")

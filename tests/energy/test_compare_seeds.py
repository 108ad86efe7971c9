"""Several training seeds beside an ANN and beside each other: means, both intervals, and what are no seeds."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import wilson_interval
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.stats.training_seeds import ratio_of_means, spread_of

IMAGES = 24
FP32 = "horowitz-45nm-fp32"


def _trained(seed: int, time_steps: int = 2, images: int = IMAGES, labels: bool = True) -> sa.Profile:
    """The shipped digits network with weights that another seed has moved."""
    model = sa.load_model("sdt_digits", pretrained=True, time_steps=time_steps)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(1 + 0.03 * torch.randn(weights.shape, generator=noise))
    loader = sa.make_loader(sa.open_dataset("digits", model), 12, limit=images)
    if labels:
        return sa.profile(model, loader)
    return sa.profile(model, [batch.images for batch in loader])


@pytest.fixture(scope="module")
def three() -> list[sa.Profile]:
    return [_trained(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def two() -> list[sa.Profile]:
    return [_trained(seed, time_steps=1) for seed in (7, 8)]


def row(found, quantity: str, costs: str | None = FP32, network: str | None = None) -> pd.Series:
    table = found.table[found.table["quantity"] == quantity]
    table = table[table["costs"] == costs] if costs is not None else table
    return (table[table["network"] == network] if network is not None else table).iloc[0]


def test_means_and_spread_over_seeds(three):
    found = sa.compare(three)
    energies = [run.energy().total.value for run in three]
    spread, energy = spread_of(energies), row(found, "energy")
    assert energy["value"] == pytest.approx(np.mean(energies), rel=1e-12)
    assert (energy["sd"], energy["least"], energy["most"]) == pytest.approx((spread.sd, min(energies), max(energies)))
    assert (energy["seeds_low"], energy["seeds_high"]) == pytest.approx((spread.mean.low, spread.mean.high))
    summaries = [run.summary() for run in three]
    for quantity, key in (("SOPs", "sops_per_image"), ("rate", "mean_rate"), ("accuracy", "accuracy")):
        values = [summary[key] for summary in summaries]
        line = row(found, quantity, None)
        assert line["value"] == pytest.approx(np.mean(values)) and line["sd"] == pytest.approx(np.std(values, ddof=1))
        of_runs = found.runs[found.runs["quantity"] == quantity]["value"]
        assert of_runs.tolist() == pytest.approx(values)
    assert set(found.table["n_seeds"]) == {"3"} and found.name == "sdt_digits" and found.against == "ann_digits"


def test_every_run_has_the_interval_that_it_has_alone(three):
    found = sa.compare(three)
    for place, run in enumerate(three):
        name = f"profile[{place}]"
        alone, total = run.energy().total, sa.compare(run).total
        mine = found.runs[(found.runs["run"] == name) & (found.runs["costs"] == FP32)].set_index("quantity")
        assert mine.loc["energy", ["value", "low", "high"]].tolist() == pytest.approx(
            [alone.value, alone.low, alone.high]
        )
        ratio = mine.loc["ratio", ["value", "low", "high"]].tolist()
        assert ratio == pytest.approx([total.value, total.low, total.high])


def test_the_interval_over_images_is_of_the_mean_image_by_image(three):
    found = row(sa.compare(three), "energy")
    mean = np.mean([run.energy().per_image for run in three], axis=0)
    whole = ratio_intervals(mean, np.ones(IMAGES))[0]
    assert (found["images_low"], found["images_high"]) == pytest.approx((whole.low, whole.high), rel=1e-6)
    assert found["images_high"] - found["images_low"] != pytest.approx(found["seeds_high"] - found["seeds_low"])


def test_the_ratio_beside_an_ann_is_of_the_mean_energy(three):
    found = sa.compare(three, "ann_digits")
    ratio, energy = row(found, "ratio"), row(found, "energy")
    theirs = sa.compare(three[0]).lines[0].other.value
    assert ratio["value"] == pytest.approx(theirs / energy["value"])
    assert (ratio["seeds_low"], ratio["seeds_high"]) == pytest.approx(
        (theirs / energy["seeds_high"], theirs / energy["seeds_low"])
    )
    assert (ratio["images_low"], ratio["images_high"]) == pytest.approx(
        (theirs / energy["images_high"], theirs / energy["images_low"])
    )
    assert (
        "sdt_digits is cheaper over training seeds [" in found.sentences[0]
        and "and over images [" in found.sentences[0]
    )
    assert any(note.code == "zeros" and "gamma 0," in note for note in found.notes)
    given = sa.compare(three, "ann_digits", gamma=0.5)
    assert row(given, "ratio")["value"] < ratio["value"] and any("gamma 0.5, " in note for note in given.notes)


def test_two_sides_of_different_numbers_of_seeds(three, two):
    found = sa.compare(three, two)
    assert (found.name, found.against) == ("sdt_digits, T=2", "sdt_digits, T=1")
    mine, theirs = ([run.energy().per_image for run in side] for side in (three, two))
    ratio = row(found, "ratio")
    paired = ratio_intervals(np.mean(theirs, axis=0), np.mean(mine, axis=0))[0]
    assert (ratio["images_low"], ratio["images_high"]) == pytest.approx((paired.low, paired.high))
    unpaired = ratio_of_means([each.mean() for each in theirs], [each.mean() for each in mine])
    assert (ratio["value"], ratio["seeds_low"], ratio["seeds_high"]) == pytest.approx(
        (unpaired.value, unpaired.low, unpaired.high)
    )
    assert ratio["n_seeds"] == "3 and 2" and np.isnan(ratio["sd"])
    assert {note.code for note in found.notes} >= {"over-seeds", "over-images", "two-seeds", "unpaired"}
    assert row(found, "energy", network=found.against)["value"] == pytest.approx(np.mean(theirs))
    swapped = row(sa.compare(two, three), "ratio")
    assert 1 / swapped["seeds_high"] == pytest.approx(ratio["seeds_low"])


def test_one_run_on_a_side_is_one_seed(three, two):
    found = sa.compare(three[0], two)
    assert row(found, "energy", network="sdt_digits, T=2")["seeds_interval"] == "none"
    assert (
        row(found, "ratio")["seeds_interval"] == "none"
        and "unknown over training seeds (no interval)" in found.sentences[0]
    )
    assert any(note == "one-seed: profile[0]: no spread: one seed" for note in found.notes)
    alone = sa.compare([three[0]], [two[0]])
    total, ratio = sa.compare(three[0], two[0]).total, row(alone, "ratio")
    assert (ratio["value"], ratio["images_low"], ratio["images_high"]) == pytest.approx(
        (total.value, total.low, total.high)
    )


def test_old_calls_give_what_they_gave(three, two):
    assert type(sa.compare(three[0])).__name__ == "Comparison" == type(sa.compare(three[0], two[0])).__name__


def test_accuracy_of_one_seed_is_wilson(three):
    found = row(sa.compare(three[:1]), "accuracy", None)
    whole = wilson_interval(round(found["value"] * IMAGES), IMAGES)
    assert (found["images_low"], found["images_high"]) == pytest.approx((whole.low, whole.high))


def test_without_labels_accuracy_is_unknown_and_said():
    found = sa.compare([_trained(seed, labels=False) for seed in (1, 2)])
    assert "accuracy" not in set(found.table["quantity"])
    assert "accuracy: accuracy of sdt_digits unknown: the images have no labels" in found.notes


def test_weights_on_both_sides_are_said(three, two):
    assert any(note.code == "shared" for note in sa.compare(three, three[:2]).notes)
    assert not any(note.code == "shared" for note in sa.compare(three, two).notes)


def test_as_json_and_in_a_notebook(three):
    found = sa.compare(three)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["provenance"]["runs"] == [f"profile[{i}]" for i in range(3)]
    assert record["table"][0]["quantity"] == "energy" and len(record["runs"]) == 3 * 8
    assert "<table" in found._repr_html_() and repr(found).startswith("<SeedComparison of sdt_digits with ann_digits")


def _changed(run: sa.Profile, **changes) -> sa.Profile:
    ledger = dataclasses.replace(run.ledger, **changes)
    return sa.Profile(ledger, run.counts.beside(ledger))


def test_what_are_no_seeds_of_one_recipe(three, two):
    few = _trained(9, images=12)
    settings = {**three[1].ledger.provenance["settings"]}
    settings["data"] = {**settings["data"], "split": "train"}
    elsewhere = _changed(three[1], provenance={**three[1].ledger.provenance, "settings": settings})
    renamed = _changed(three[1], model={**three[1].ledger.model, "name": "another"})
    for runs, told in (
        ([three[0], two[0]], r"profile\[0\] and profile\[1\] are runs of different networks: T = 2 and T = 1"),
        ([three[0], few], r"profile\[0\] and profile\[1\] are of different images: 24 and 12"),
        ([three[0], three[1], three[0]], r"profile\[0\] and profile\[2\] are runs of the same weights"),
        ([three[0], renamed], "different networks: sdt_digits and another"),
        ([three[0], elsewhere], "are of different data: split is .* and 'train'"),
        ([], "profile is an empty list"),
        ([three[0], 3], r"profile\[1\] is 3; give the result of spikeattn.profile"),
    ):
        with pytest.raises(SpikeattnError, match=told):
            sa.compare(runs)
    with pytest.raises(SpikeattnError, match=r"profile\[0\] and ann\[0\] are of different images"):
        sa.compare(three, [few])
    with pytest.raises(SpikeattnError, match="gamma is about"):
        sa.compare(three, two, gamma=0.5)

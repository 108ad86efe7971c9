"""Rates and energy per class: each class as if it were a run of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.runs.result import Profile
from spikeattn.stats.intervals import mean_intervals
from spikeattn.storage.counts import Counts
from spikeattn.storage.ledger import Ledger
from tests.energy.conftest import BruteCounts, T

LABELS = np.array([3, 1, 1, 3, 1, -1, 3, 1, 1, 3, 1, 1])


def profile_of(ledger: Ledger, brute: BruteCounts, labels: np.ndarray) -> Profile:
    n = len(labels)
    columns = {"index": np.arange(n), "id": [str(i) for i in range(n)], "label": labels}
    measured = {
        (measure, t.name): brute.column(measure, t.name) for t in ledger.tensors[1:-1] for measure in ("nnz", "abs")
    }
    measured |= {("nnz", name): np.full((n, T), 7) for name in ("input", "soft")}
    measured |= {("abs", name): np.full((n, T), 0.5) for name in ("input", "soft")}
    measured |= {(f"fan_{by}", "conv1"): brute.fan("conv1", by) for by in ("nnz", "abs")}
    measured[("pairs", "qk")] = brute.column("pairs", "qk")
    for (measure, name), values in measured.items():
        columns |= {f"{measure}:{name}:{t + 1}": values[:, t] for t in range(T)}
    return Profile(ledger, Counts(pa.table(columns), ledger))


@pytest.fixture
def whole(ledger, spikes) -> Profile:
    return profile_of(ledger, BruteCounts(ledger, spikes), LABELS)


@pytest.fixture
def alone(ledger, spikes) -> dict[int, Profile]:
    return {
        label: profile_of(
            ledger,
            BruteCounts(ledger, {name: x[LABELS == label] for name, x in spikes.items()}),
            LABELS[LABELS == label],
        )
        for label in (-1, 1, 3)
    }


def test_rates(whole, alone):
    rates = whole.rates(by="label")
    assert list(rates.columns) == ["label", *whole.rates().columns]
    assert list(rates["label"].unique()) == [-1, 1, 3]
    for label, profile in alone.items():
        part = rates[rates["label"] == label].drop(columns="label").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, profile.rates(), check_exact=False, rtol=1e-12)
    assert set(rates.loc[rates["label"] == 1, "n_images"]) == {7}
    assert rates.attrs == whole.rates().attrs


def test_energy(whole, alone):
    energy = whole.energy(by="label")
    for label, profile in alone.items():
        part = energy[energy["label"] == label].drop(columns=["label", "n_images"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(part, pd.DataFrame(profile.energy()), check_exact=False, rtol=1e-12)
        assert (energy.loc[energy["label"] == label, "n_images"] == profile.n_images).all()
    totals = energy[energy["part"] == "total"]
    mean = np.average(totals["energy_mj"], weights=totals["n_images"])
    assert mean == pytest.approx(whole.energy().total.value)


def test_without_labels(ledger, spikes):
    profile = profile_of(ledger, BruteCounts(ledger, spikes), np.full(12, -1))
    for table in (profile.rates, profile.energy):
        with pytest.raises(SpikeattnError, match="needs labels"):
            table(by="label")
        with pytest.raises(SpikeattnError, match="unknown grouping 'labels': did you mean 'label'"):
            table(by="labels")


def test_clusters_of_labels(ledger, spikes):
    labels = np.arange(12) % 3
    profile = profile_of(ledger, BruteCounts(ledger, spikes), labels)
    images = profile.energy().per_image
    means = np.array([images[labels == label].mean() for label in range(3)])
    total = profile.energy(cluster="label").total
    half = 4.302652730 * means.std(ddof=1) / np.sqrt(3)  # three classes of one size: Student's t of two degrees
    assert (total.low, total.high) == pytest.approx((max(means.mean() - half, 0), means.mean() + half))
    assert profile.rates(cluster="label").attrs["cluster"] == "label"
    assert profile.components(energy_model="compute", cluster="label").provenance["cluster"] == "label"


def test_clusters_under_energy_models(ledger, spikes):
    """A model's mean and its ratio to `compute`, over classes: what the other tables say of the same images."""
    labels = np.arange(12) % 3
    profile = profile_of(ledger, BruteCounts(ledger, spikes), labels)
    table = profile.energy_models(["compute", "ns-ace"], cluster="label")
    alone = profile.energy(cluster="label").total
    compute = table.set_index(["model", "side"]).loc["compute", "SNN"]
    assert (compute.value, compute.ci_low, compute.ci_high) == pytest.approx((alone.value, alone.low, alone.high))
    assert (compute.over_compute_low, compute.over_compute_high) == pytest.approx((1, 1))
    energies = table.per_image["ns-ace", "SNN"].to_numpy()
    expected = mean_intervals(energies[:, None], labels=labels)[0]
    row = table.set_index("model").loc["ns-ace"]
    assert (row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))
    assert table.provenance["cluster"] == "label" and "cluster" not in profile.energy_models("compute").provenance
    images = profile.energy_models(["compute", "ns-ace"])
    pd.testing.assert_series_equal(images["value"], table["value"])
    assert not images["ci_high"].equals(table["ci_high"])


def test_clusters_need_classes(ledger, spikes):
    for labels, message in (
        (np.arange(12) - 1, "1 of 12 images have no label"),
        (np.zeros(12, int), "all of class 0"),
    ):
        profile = profile_of(ledger, BruteCounts(ledger, spikes), labels)
        for table in (profile.rates, profile.energy, profile.energy_models):
            with pytest.raises(SpikeattnError, match=message):
                table(cluster="label")
    with pytest.raises(SpikeattnError, match="give one"):
        profile.energy(by="label", cluster="label")
    with pytest.raises(SpikeattnError, match="unknown cluster 'class'"):
        profile.energy(cluster="class")

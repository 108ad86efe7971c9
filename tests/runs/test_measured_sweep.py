"""A sweep whose points are run: every row is the run at that point; what is kept, and what cannot be swept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.reporting import to_latex
from spikeattn.reporting.figures.measured_sweep_figure import measured_sweep_figure

IMAGES = 20


def network(time_steps: int = 2) -> nn.Module:
    return sa.load_model("sdt_digits", pretrained=True, time_steps=time_steps)


@pytest.fixture(scope="module")
def loader():
    return sa.make_loader(sa.open_dataset("digits", network()), 10, limit=IMAGES)


class Repeating(nn.Module):
    """A network of one's own whose T is a number in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.lif = nn.Linear(256, 10), neuron.LIFNode(step_mode="m")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.lif(self.layer(images.flatten(1)).expand(3, -1, -1))


@pytest.fixture(scope="module")
def steps(loader):
    return sa.measured_sweep(network, loader, time_steps=[1, 2])


def test_every_row_is_the_run_at_its_time_steps(loader, steps):
    assert steps["value"].tolist() == ["1", "2"] and steps["t"].tolist() == [1, 2]
    for row in steps.to_dict("records"):
        alone = sa.profile(network(row["t"]), loader)
        summary, total = alone.summary(), alone.energy().total
        assert (row["energy_mj"], row["ci_low"], row["ci_high"]) == (total.value, total.low, total.high)
        assert (row["accuracy"], row["sops"]) == (summary["accuracy"], summary["sops_per_image"])
        assert [row["accuracy_low"], row["accuracy_high"]] == summary["accuracy_interval"]
        assert row["mean_rate"] == summary["mean_rate"] and row["ratio"] == pytest.approx(summary["ann_over_snn"])
    assert steps["energy_mj"].is_monotonic_increasing and steps.attrs["n_images"] == IMAGES


def test_thresholds_are_scaled_and_the_network_is_as_it_was(loader, tmp_path):
    model = network()
    before = {name: m.v_threshold for name, m in model.named_modules() if hasattr(m, "v_threshold")}
    found = sa.measured_sweep(model, loader, threshold_scales=[0.8, 1, 1.25], out=tmp_path)
    assert found["mean_rate"].is_monotonic_decreasing and found["value"].tolist() == ["0.8", "1", "1.25"]
    assert {name: m.v_threshold for name, m in model.named_modules() if hasattr(m, "v_threshold")} == before
    assert "threshold_scale" not in model.provenance
    assert found.iloc[1]["energy_mj"] == sa.profile(model, loader).energy().total.value
    assert "thresholds: v_threshold of every spiking neuron (19 LIFNode) x the value" in found.attrs["notes"][1]
    kept = json.loads((tmp_path / "threshold-0.8" / "model.json").read_text())
    assert kept["provenance"]["settings"]["model"]["threshold_scale"] == 0.8
    with pytest.raises(SpikeattnError, match="threshold_scale is 0.8 now and was 1"):
        (tmp_path / "threshold-0.8").rename(tmp_path / "away")
        (tmp_path / "threshold-1").rename(tmp_path / "threshold-0.8")
        sa.measured_sweep(model, loader, threshold_scales=[0.8], out=tmp_path)


def test_finished_points_are_kept_and_an_interrupted_sweep_goes_on(loader, tmp_path, steps):
    built = []

    def build(T: int) -> nn.Module:
        built.append(T)
        if T == 2 and built.count(2) == 1:
            raise KeyboardInterrupt
        return network(T)

    with pytest.raises(KeyboardInterrupt):
        sa.measured_sweep(build, loader, time_steps=[1, 2], out=tmp_path)
    first = (tmp_path / "T1" / "counts.parquet").stat()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["T1"]
    found = sa.measured_sweep(build, loader, time_steps=[1, 2], out=tmp_path)
    assert (tmp_path / "T1" / "counts.parquet").stat().st_mtime_ns == first.st_mtime_ns
    assert found["energy_mj"].tolist() == steps["energy_mj"].tolist()
    assert found["run"].tolist() == [str(tmp_path / "T1"), str(tmp_path / "T2")]


def test_checkpoints(loader, tmp_path):
    files = []
    for folder in ("first", "second"):
        model = network()
        with torch.no_grad():
            model.head.bias.add_(10.0 * torch.arange(10) * (folder == "second"))
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "best.pth")
        torch.save(model.state_dict(), files[-1])
    build = lambda path: sa.load_model("sdt_digits", checkpoint=path, time_steps=2)  # noqa: E731
    found = sa.measured_sweep(build, loader, checkpoints=files, out=tmp_path / "runs")
    assert found["accuracy"].iloc[0] > 0.8 > found["accuracy"].iloc[1]
    assert found["energy_mj"].iloc[0] == pytest.approx(found["energy_mj"].iloc[1]), "the head's bias costs nothing"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["checkpoint-best", "checkpoint-best-2"]


def test_a_network_whose_time_steps_stay_is_an_error_before_it_has_run(loader, tmp_path):
    with pytest.raises(SpikeattnError, match="T = 2 was asked for, and the network runs 3 time steps"):
        sa.measured_sweep(lambda T: Repeating(), loader, time_steps=[2, 3], out=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SpikeattnError, match="over time steps give a function of the value"):
        sa.measured_sweep(Repeating(), loader, time_steps=[2, 3])


def test_without_labels_accuracy_is_unknown_and_the_figure_says_so(loader):
    images = [batch.images for batch in loader]
    found = sa.measured_sweep(network, images, time_steps=[1, 2])
    assert found["accuracy"].isna().all() and (found["n_labelled"] == 0).all()
    assert any(
        note.startswith("accuracy: accuracy unknown: the images have no labels") for note in found.attrs["notes"]
    )
    axes = measured_sweep_figure(found).axes[0]
    assert axes.get_ylabel().startswith("Energy") and "accuracy unknown" in [text.get_text() for text in axes.texts]
    assert "unknown" in to_latex(found)


def test_the_figure_draws_every_point_with_both_intervals(steps):
    axes = measured_sweep_figure(steps, "a warning").axes[0]
    points = axes.collections[-1].get_offsets()
    assert points[:, 1].tolist() == steps["accuracy"].tolist()
    assert np.diff(points[:, 0])[0] / points[0, 0] == pytest.approx(
        np.diff(steps["energy_mj"])[0] / steps["energy_mj"][0]
    )
    assert [text.get_text() for text in axes.texts] == ["T = 1", "T = 2"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "none of them given"),
        ({"time_steps": [1], "threshold_scales": [1.0]}, "time_steps and threshold_scales given"),
        ({"time_steps": 2}, "give a list of values"),
        ({"time_steps": []}, "is empty"),
        ({"time_steps": [1, 1]}, "has a value twice"),
        ({"time_steps": [0]}, "a whole number of at least 1"),
        ({"threshold_scales": [-0.5]}, "a finite number above 0"),
        ({"checkpoints": "best.pth"}, "give a list of values"),
        ({"time_steps": [1], "resume": True}, "resume: the points of a sweep are whole runs"),
        ({"time_steps": [1], "costs": "gold"}, "gold"),
    ],
)
def test_what_cannot_be_swept(loader, arguments, told):
    with pytest.raises(SpikeattnError, match=told):
        sa.measured_sweep(network, loader, **arguments)


def test_points_of_different_images_are_an_error(loader):
    images = {T: sa.make_loader(sa.open_dataset("digits", network()), 10, limit=10 * T) for T in (1, 2)}
    with pytest.raises(SpikeattnError, match="the points 1 and 2 are of different images: 10 and 20"):
        sa.measured_sweep(network, images.__getitem__, time_steps=[1, 2])

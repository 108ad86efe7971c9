"""Numbers of a training in TensorBoard and in a csv file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.training.logs import write_scalars
from tests.training.networks import Net, batches


class Writer:
    """What is asked of a SummaryWriter."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))


def test_a_metric_logs_its_numbers_to_a_writer_and_into_a_file(tmp_path: Path) -> None:
    rate, writer, path = sa.FiringRate(Net().eval()), Writer(), tmp_path / "rates.csv"
    for epoch, batch in enumerate(batches(4, 2)):
        rate.update(batch)
        rate.log(writer, epoch, prefix="train/")
        rate.log(path, epoch)
        rate.reset()
    frame = pd.read_csv(path)
    assert frame["step"].tolist() == [0, 1] and frame["n_images"].tolist() == [4, 2]
    assert {name for name, *_ in writer.rows} == {f"train/{name}" for name in frame.columns if name != "step"}
    logged = {step: value for name, value, step in writer.rows if name == "train/mean_rate"}
    assert list(logged.values()) == pytest.approx(frame["mean_rate"].tolist())


def test_a_step_that_is_run_again_takes_the_place_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step, value in ((0, 1.0), (2, 3.0), (1, 2.0), (2, 4.0)):
        write_scalars(str(path), step, {"mean_rate": value})
    write_scalars(path, 3, {"mean_rate": 5.0, "sops_per_image": 7.0})
    frame = pd.read_csv(path)
    assert frame["step"].tolist() == [0, 1, 2, 3] and frame["mean_rate"].tolist() == [1, 2, 4, 5]
    assert frame["sops_per_image"].isna().tolist() == [True] * 3 + [False]
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SpikeattnError, match="has no column 'step', so it is no log of ours"):
        write_scalars(path, 0, {"mean_rate": 1.0})
    assert path.read_text() == "a,b\n1,2\n"
    for wrong in (3, None, object()):
        with pytest.raises(SpikeattnError, match="with add_scalar"):
            write_scalars(wrong, 0, {})
    with pytest.raises(SpikeattnError, match="cannot write"):
        write_scalars(tmp_path / "nowhere" / "log.csv", 0, {"mean_rate": 1.0})


def test_tensorboard_takes_it(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        write_scalars(writer, 5, {"train/mean_rate": 0.25})
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/mean_rate")
    assert [(event.step, event.value) for event in events] == [(5, 0.25)]

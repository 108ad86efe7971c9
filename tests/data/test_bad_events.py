"""Damaged event recordings: each becomes frames that hold every event, or is skipped by name."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeattn.data import Skipped, make_loader, open_dataset
from spikeattn.errors import SpikeattnError

MODEL = SimpleNamespace(in_chans=2, img_size=34, time_steps=4)
N = 120


def events(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(seed)
    return {
        "t": np.sort(rng.randint(0, 10**6, N)).astype(np.int64),
        "x": rng.randint(0, 34, N).astype(np.int16),
        "y": rng.randint(0, 34, N).astype(np.int16),
        "p": rng.randint(0, 2, N).astype(np.int8),
    }


def packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def changed(key: str, value: object, at: int | slice = 7, dtype: type | None = None) -> bytes:
    arrays = events()
    arrays[key] = arrays[key].astype(dtype or arrays[key].dtype)
    arrays[key][at] = value
    return packed(**arrays)


def huge_header() -> bytes:
    """An archive whose array claims 8 exabytes."""
    whole = packed(**events())
    return whole.replace(b"'shape': (120,)", b"'shape': (10**9,)"[:15], 1)


WHOLE = packed(**events())
CORPUS = {
    **{f"cut{k:02}": WHOLE[: len(WHOLE) * k // 24] for k in range(24)},
    **{f"flip{k:02}": WHOLE[:i] + bytes([WHOLE[i] ^ 64]) + WHOLE[i + 1 :] for k in range(24) for i in [k * 97 + 90]},
    "unsorted": changed("t", 0, at=60),
    "unsorted_last": changed("t", 0, at=N - 1),
    "nan_time": changed("t", np.nan, dtype=np.float64),
    "x_34": changed("x", 34),
    "y_34": changed("y", 34),
    "x_negative": changed("x", -1),
    "y_huge": changed("y", 30_000),
    "p_2": changed("p", 2),
    "p_negative": changed("p", -1),
    "x_float": changed("x", 1.5, dtype=np.float32),
    "x_nan": changed("x", np.nan, dtype=np.float32),
    "x_complex": changed("x", 1j, dtype=np.complex64),
    "x_text": packed(**{**events(), "x": np.array(["1"] * N)}),
    "pickled": packed(**{**events(), "x": np.array([{}] * N, dtype=object)}),
    "none": packed(**{key: value[:0] for key, value in events().items()}),
    "no_polarity": packed(**{key: value for key, value in events().items() if key != "p"}),
    "two_axes": packed(**{key: value.reshape(2, -1) for key, value in events().items()}),
    "shorter": packed(**{**events(), "y": events()["y"][:-1]}),
    "huge": huge_header(),
    "text": b"t,x,y,p\n0,1,2,1\n",
    "array": (lambda buffer: (np.save(buffer, np.arange(4)), buffer.getvalue())[1])(io.BytesIO()),
    "pickle": pickle.dumps({"t": [1]}),
}
SAME = {"flip"}  # a flipped bit in a field of the archive that says nothing may leave every event as it is


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "events_np" / "test" / "3"
    root.mkdir(parents=True)
    for name, content in CORPUS.items():
        (root / f"{name}.npz").write_bytes(content)
    (root / "whole.npz").write_bytes(WHOLE)
    os.mkfifo(root / "pipe.npz")
    return tmp_path


def test_every_damaged_recording_is_skipped_by_name_or_whole(folder: Path) -> None:
    dataset = open_dataset(f"nmnist:{folder}", MODEL)
    assert len(dataset) == len(CORPUS) + 2
    frames = next(dataset[i][0] for i in range(len(dataset)) if dataset.id(i).endswith("/whole.npz"))
    read = []
    for i in range(len(dataset)):
        sample, name = dataset[i], Path(dataset.id(i)).stem
        if isinstance(sample, Skipped):
            assert sample.id == dataset.id(i) and sample.reason and str(folder) not in sample.reason
        else:
            assert sample[0].equal(frames), name  # every event, where it was
            read.append(name)
    assert "whole" in read and all(name == "whole" or name[:4] in SAME for name in read), read
    batch = next(iter(make_loader(dataset, batch_size=len(dataset))))
    reasons = {Path(one.id).stem: one.reason for one in batch.skipped}
    assert reasons["unsorted"].startswith("times are not sorted: event 60 is at 0, after ")
    assert "x runs from 0 to 34" in reasons["x_34"] and "polarities run from 0 to 2" in reasons["p_2"]
    assert reasons["none"] == "no events" and "regular file" in reasons["pipe"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(-5, 60), st.integers(-2, 36), st.integers(-2, 36), st.integers(-1, 2)),
        min_size=0,
        max_size=12,
    )
)
def test_any_events_are_all_counted_or_none(tmp_path: Path, rows: list[tuple[int, int, int, int]]) -> None:
    root = tmp_path / "events_np" / "test" / "0"
    root.mkdir(parents=True, exist_ok=True)
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    np.savez(root / "a.npz", **dict(zip("txyp", columns, strict=True)))
    t, x, y, p = columns
    fine = len(t) > 0 and (np.diff(t) >= 0).all() and ((0 <= x) & (x < 34) & (0 <= y) & (y < 34)).all()
    fine = fine and bool(((p == 0) | (p == 1)).all())
    sample = open_dataset(f"nmnist:{tmp_path}", MODEL)[0]
    assert isinstance(sample, Skipped) != bool(fine)
    if fine:
        assert sample[0].sum() == len(t)


def test_a_loop_of_links_is_named(folder: Path) -> None:
    (folder / "events_np" / "test" / "3" / "up").symlink_to(folder / "events_np" / "test")
    with pytest.raises(SpikeattnError, match="a folder that it lies in"):
        open_dataset(f"nmnist:{folder}", MODEL)

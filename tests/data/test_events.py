"""Event recordings: the frames of SpikingJelly's data sets, labels that do not depend on the copy, nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spikeattn.data import Skipped, make_loader, open_dataset
from spikeattn.errors import SpikeattnError

N_MNIST = SimpleNamespace(in_chans=2, img_size=34, time_steps=4)


def recording(path: Path, size: int, n: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    events = {
        "t": np.sort(rng.integers(0, 10**6, n)).astype(np.int64),
        "x": rng.integers(0, size, n).astype(np.int16),
        "y": rng.integers(0, size, n).astype(np.int16),
        "p": rng.integers(0, 2, n).astype(np.int8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **events)
    return events


def nmnist(root: Path, classes: str = "38") -> Path:
    for k, digit in enumerate(classes):
        for i in range(2):
            recording(root / "events_np" / "test" / digit / f"{i}.npz", 34, seed=10 * k + i)
    return root


def brute_force(events: dict[str, np.ndarray], steps: int, size: int) -> np.ndarray:
    """Frames of equally many events, one event at a time; the last frame takes the remainder."""
    frames = np.zeros((steps, 2, size, size), dtype=np.float32)
    per_frame = len(events["t"]) // steps
    for k, (x, y, p) in enumerate(zip(events["x"], events["y"], events["p"], strict=True)):
        frames[min(k // per_frame, steps - 1), p, y, x] += 1
    return frames


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_frames_count_every_event(tmp_path):
    events = recording(tmp_path / "events_np" / "test" / "7" / "a.npz", 34, n=203)
    dataset = open_dataset(f"nmnist:{tmp_path}", N_MNIST)
    frames, label = dataset[0]
    assert frames.shape == (4, 2, 34, 34) and frames.dtype == torch.float32 and label == 7
    assert np.array_equal(frames.numpy(), brute_force(events, 4, 34))
    assert frames.sum((1, 2, 3)).tolist() == [50, 50, 50, 53]
    assert dataset.id(0) == "test/7/a.npz"


def test_frames_equal_spikingjellys_own(tmp_path, monkeypatch):
    from spikingjelly import configure
    from spikingjelly.datasets.n_mnist import NMNIST

    # Its threads read headers of .npy files at a time, which Python 3.11 sometimes fails at (python/cpython#106905).
    monkeypatch.setattr(configure, "max_threads_number_for_datasets_preprocess", 1)
    nmnist(tmp_path, "0123456789")
    ours = open_dataset(f"nmnist:{tmp_path}", time_steps=7)
    theirs = NMNIST(tmp_path, train=False, data_type="frame", frames_number=7, split_by="number")
    assert len(ours) == len(theirs) == 20
    for i in range(20):
        frames, label = theirs[i]
        assert np.array_equal(ours[i][0].numpy(), frames) and ours[i][1] == label
        assert Path(theirs.samples[i][0]).as_posix().endswith(ours.id(i))


def test_labels_do_not_depend_on_the_folders_present(tmp_path):
    dataset = open_dataset(f"nmnist:{nmnist(tmp_path / 'n')}", N_MNIST)
    assert [dataset[i][1] for i in range(4)] == [3, 3, 8, 8]
    # SpikingJelly sorts folder names as text, so a model it trained knows folder "10" as label 2
    for name in ("1", "2", "10"):
        recording(tmp_path / "g" / "events_np" / "test" / name / "0.npz", 128)
    (tmp_path / "g" / "events_np" / "test" / "5").mkdir()
    gesture = open_dataset(f"dvs128-gesture:{tmp_path / 'g'}", time_steps=2)
    labels = {gesture.id(i): gesture[i][1] for i in range(3)}
    assert labels == {"test/1/0.npz": 1, "test/10/0.npz": 2, "test/2/0.npz": 3}
    assert [gesture.classes[i] for i in (0, 2, 3)] == ["hand clapping", "other gestures", "left hand wave"]
    recording(tmp_path / "c" / "events_np" / "frog" / "cifar10_frog_0.npz", 128)
    cifar = open_dataset(f"cifar10-dvs:{tmp_path / 'c'}", time_steps=2)
    assert cifar[0][1] == 6 and cifar.id(0) == "frog/cifar10_frog_0.npz" and cifar.split is None


def test_nothing_is_written(tmp_path):
    nmnist(tmp_path)
    (tmp_path / "frames_number_4_split_by_number.building").touch()  # left over by an interrupted SpikingJelly
    before = tree(tmp_path)
    assert len(list(make_loader(open_dataset(f"nmnist:{tmp_path}", N_MNIST), workers=2))) == 1
    assert tree(tmp_path) == before


def test_splits_and_the_folder_itself(tmp_path):
    nmnist(tmp_path)
    recording(tmp_path / "events_np" / "train" / "1" / "0.npz", 34)
    assert open_dataset(f"nmnist:{tmp_path}", N_MNIST).split == "test"
    assert len(open_dataset(f"nmnist:{tmp_path}", N_MNIST, split="train")) == 1
    assert len(open_dataset(f"nmnist:{tmp_path / 'events_np'}", N_MNIST)) == 4
    with pytest.raises(SpikeattnError, match="valid are test, train"):
        open_dataset(f"nmnist:{tmp_path}", N_MNIST, split="val")


def test_counts_are_summed_where_the_models_size_divides_the_sensors(tmp_path):
    events = recording(tmp_path / "events_np" / "cat" / "0.npz", 128, n=5000)
    model = SimpleNamespace(in_chans=2, img_size=64, time_steps=5)
    dataset = open_dataset(f"cifar10-dvs:{tmp_path}", model)
    small = {**events, "x": events["x"] // 2, "y": events["y"] // 2}
    assert np.array_equal(dataset[0][0].numpy(), brute_force(small, 5, 64))
    assert "128x128 to 64x64" in dataset.provenance()["notes"][0]
    assert dataset.provenance()["input_size"] == [2, 64, 64]
    for size in (48, 256):
        with pytest.raises(SpikeattnError, match=f"2x128x128 but the model takes 2x{size}x{size}.*img_size=128"):
            open_dataset(f"cifar10-dvs:{tmp_path}", SimpleNamespace(in_chans=2, img_size=size, time_steps=5))
    with pytest.raises(SpikeattnError, match="in_chans=2"):
        open_dataset(f"cifar10-dvs:{tmp_path}", SimpleNamespace(in_chans=3, img_size=128, time_steps=5))


def test_time_steps(tmp_path):
    nmnist(tmp_path)
    assert open_dataset(f"nmnist:{tmp_path}", N_MNIST, time_steps=16)[0][0].shape[0] == 16
    with pytest.raises(SpikeattnError, match="give time_steps=T"):
        open_dataset(f"nmnist:{tmp_path}", SimpleNamespace(in_chans=2))
    with pytest.raises(SpikeattnError, match="time_steps=0"):
        open_dataset(f"nmnist:{tmp_path}", time_steps=0)


def test_fewer_events_than_frames(tmp_path):
    recording(tmp_path / "events_np" / "test" / "0" / "a.npz", 34, n=3)
    frames, _ = open_dataset(f"nmnist:{tmp_path}", time_steps=10)[0]
    assert frames.shape[0] == 10 and frames.sum() == 3


def test_a_corrupt_recording_is_skipped_and_named(tmp_path):
    folder = nmnist(tmp_path, "5") / "events_np" / "test" / "5"
    whole = (folder / "0.npz").read_bytes()
    (folder / "a_cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "b_flipped.npz").write_bytes(whole[:400] + bytes(100) + whole[500:])
    (folder / "c_empty.npz").write_bytes(b"")
    np.savez(folder / "d_keys.npz", t=np.arange(3), x=np.arange(3))
    np.savez(folder / "e_none.npz", **{key: np.zeros(0, dtype=np.int16) for key in "txyp"})
    np.savez(folder / "f_shapes.npz", t=np.arange(3), x=np.arange(3), y=np.arange(2), p=np.arange(3))
    recording(folder / "g_sensor.npz", 128)
    np.savez(folder / "h_pickle.npz", **{key: np.array([{}]) for key in "txyp"})
    batch = next(iter(make_loader(open_dataset(f"nmnist:{tmp_path}", N_MNIST))))
    assert batch.ids == ["test/5/0.npz", "test/5/1.npz"] and batch.images.shape == (2, 4, 2, 34, 34)
    assert all(isinstance(one, Skipped) and str(tmp_path) not in one.reason for one in batch.skipped)
    reasons = {Path(one.id).stem: one.reason for one in batch.skipped}
    assert "truncated" in reasons["a_cut"]
    assert "CRC" in reasons["b_flipped"]
    assert reasons["c_empty"] == "empty file"
    assert reasons["d_keys"].startswith("no array y, p")
    assert reasons["e_none"] == "no events"
    assert "different shapes" in reasons["f_shapes"]
    assert "sensor has 34 pixels" in reasons["g_sensor"]
    assert "pickle" in reasons["h_pickle"]


def test_wrong_places_say_how_the_data_is_made(tmp_path):
    def message(root: Path) -> str:
        with pytest.raises(SpikeattnError) as caught:
            open_dataset(f"nmnist:{root}", N_MNIST)
        return str(caught.value)

    assert "does not exist" in message(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "is a file" in message(tmp_path / "file")
    (tmp_path / "raw" / "download").mkdir(parents=True)
    text = message(tmp_path / "raw")
    assert "it holds download" in text and "n_mnist.NMNIST(" in text and "events_np/test/<class>/*.npz" in text
    (nmnist(tmp_path / "half") / "events_np.building").touch()
    assert "did not finish" in message(tmp_path / "half")
    recording(tmp_path / "train_only" / "events_np" / "train" / "1" / "0.npz", 34)
    assert "no folder 'test'; it holds train" in message(tmp_path / "train_only")
    recording(tmp_path / "strange" / "events_np" / "test" / "airplane" / "0.npz", 34)
    assert "airplane is no class folder of N-MNIST" in message(tmp_path / "strange")
    (tmp_path / "bare" / "events_np" / "test" / "1").mkdir(parents=True)
    assert "holds no recordings" in message(tmp_path / "bare")


def test_recordings_are_read_without_spikingjelly(tmp_path):
    """Its data sets import torchaudio, and stop beside a torch of another release."""
    nmnist(tmp_path)
    program = (
        "import sys; sys.modules['spikingjelly'] = None\n"
        "from spikeattn.data import open_dataset\n"
        f"print(int(open_dataset('nmnist:{tmp_path}', time_steps=4)[0][0].sum()))\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert told.stdout == "200\n", told.stderr


def test_provenance_is_json_and_complete(tmp_path):
    told = open_dataset(f"nmnist:{nmnist(tmp_path)}", N_MNIST).provenance()
    assert json.loads(json.dumps(told)) == told
    assert told["split"] == "test" and told["number"] == 4 and told["time_steps"] == 4 and told["notes"] == []


@pytest.mark.parametrize(
    ("spec", "number", "steps", "size", "events"),
    [
        ("dvs128-gesture:dvs128_gesture_sample", 10, 10, 128, 1_206_710),
        ("dvs128-gesture:dvs128_gesture_sample", 10, 16, 128, 1_206_710),
        ("nmnist:nmnist_sample", 100, 4, 34, 385_596),
    ],
)
def test_real_recordings_from_a_read_only_folder(shared, spec, number, steps, size, events):
    name, _, folder = spec.partition(":")
    dataset = open_dataset(f"{name}:{shared / 'data' / folder}", time_steps=steps)
    batch = next(iter(make_loader(dataset, batch_size=number)))
    assert batch.images.shape == (number, steps, 2, size, size) and not batch.skipped
    assert batch.images.double().sum() == events


def test_real_gestures_equal_spikingjellys_frames(shared, tmp_path):
    from spikingjelly.datasets.dvs128_gesture import DVS128Gesture

    source = shared / "data" / "dvs128_gesture_sample" / "events_np" / "test"
    copy = tmp_path / "events_np" / "test"
    copy.mkdir(parents=True)
    for name in ("0", "4"):
        (copy / name).mkdir()
        shutil.copyfile(source / name / "0.npz", copy / name / "0.npz")
    theirs = DVS128Gesture(tmp_path, train=False, data_type="frame", frames_number=16, split_by="number")
    ours = open_dataset(f"dvs128-gesture:{tmp_path}", time_steps=16)
    for i in range(2):
        assert np.array_equal(ours[i][0].numpy(), theirs[i][0])

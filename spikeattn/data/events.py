"""Event-camera recordings as SpikingJelly's data sets prepare them (`events_np`), as count frames.

Each is cut into T frames of equally many events; the frames equal those of SpikingJelly's `data_type="frame",
frames_number=T, split_by="number"`, bit for bit, and nothing of it is imported. They are made when a sample is asked
for (milliseconds) instead of being written beside the recordings for all splits first: so a read-only folder works,
ranks cannot collide in it, and one corrupt recording is skipped instead of stopping everything.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeattn.compat.extras import install
from spikeattn.compat.spikingjelly_version import spikingjelly_version
from spikeattn.data.dataset import Dataset, ModelInput, Skipped, printable, skip, unreadable_kind
from spikeattn.data.disk import LARGEST, expanded, files_below, folders_in, open_regular
from spikeattn.data.sifting import listed, sift
from spikeattn.errors import SpikeattnError, unknown

logger = logging.getLogger(__name__)

EXTENSIONS = (".npy", ".npz")  # of recordings, as SpikingJelly 2 reads them; older versions write .npz alone


@dataclass(frozen=True)
class Source:
    """One of SpikingJelly's event data sets.

    `folders` are all class folders in the order of SpikingJelly's labels, which sort the names as text: gesture "10"
    has label 2. `classes` names them in the same order. `splits` is empty where the data set has none.
    """

    title: str
    module: str
    cls: str
    sensor: tuple[int, int]  # height and width in pixels, as SpikingJelly's class gives them
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...] = ("train", "test")


DIGITS = tuple(str(digit) for digit in range(10))
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GESTURES = (  # numbered 1 to 11 in the data set's own gesture_mapping.csv, 0 to 10 as SpikingJelly's folders
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
GESTURE_FOLDERS = tuple(sorted(str(i) for i in range(11)))
SOURCES = {
    "nmnist": Source("N-MNIST", "n_mnist", "NMNIST", (34, 34), DIGITS, DIGITS),
    "dvs128-gesture": Source(
        "DVS128 Gesture",
        "dvs128_gesture",
        "DVS128Gesture",
        (128, 128),
        GESTURE_FOLDERS,
        tuple(GESTURES[int(folder)] for folder in GESTURE_FOLDERS),
    ),
    "cifar10-dvs": Source("CIFAR10-DVS", "cifar10_dvs", "CIFAR10DVS", (128, 128), CIFAR10, CIFAR10, splits=()),
}


class EventDataset(Dataset):
    """Recordings as float32 [T,2,H,W] frames that count events per pixel and polarity; built by `open_events`.

    `block` > 1 sums the counts over squares of `block` x `block` pixels (no event is lost or weighted).
    """

    slow = True

    def __init__(
        self,
        name: str,
        spec: str,
        split: str | None,
        source: Source,
        files: list[tuple[str, str, int]],
        load: Callable[[str], dict[str, np.ndarray]],
        sensor: tuple[int, int],
        time_steps: int,
        block: int = 1,
    ) -> None:
        self.name, self.spec, self.split = name, spec, split
        self.classes = list(source.classes)
        self.sensor, self.time_steps, self.block = sensor, time_steps, block
        self._files, self._load, self._title = files, load, source.title
        if block > 1:
            h, w = sensor
            self.notes = (f"counts are summed over {block}x{block} pixels, from {h}x{w} to {h // block}x{w // block}",)
            logger.info("%s: %s", spec, self.notes[0])

    def __len__(self) -> int:
        return len(self._files)

    def id(self, i: int) -> str:
        return self._files[i][0]

    def __getitem__(self, i: int) -> tuple[Tensor, int] | Skipped:
        name, path, label = self._files[i]
        h, w = self.sensor
        try:
            events = self._events(path)
            frames = count_frames(events, self.time_steps, h, w)
        except Exception as error:  # numpy and zipfile raise many types on arbitrary bytes
            return skip(name, error, i)
        if self.block > 1:
            k = self.block
            frames = frames.reshape(self.time_steps, 2, h // k, k, w // k, k).sum((3, 5))
        return torch.from_numpy(frames.astype(np.float32)), label

    def _events(self, path: str) -> dict[str, np.ndarray]:
        with open_regular(path) as file:
            kind = unreadable_kind(file.read(64))
        if kind:
            raise ValueError(kind)
        if path.endswith(".npz") and not zipfile.is_zipfile(path):
            raise ValueError("not an .npz archive, or a truncated one")
        if path.endswith(".npz"):
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST:
                raise ValueError(f"its arrays unpack to {size:,} bytes, more than a recording can have")
        try:
            events = self._load(path)
        except MemoryError as error:  # the header of an array may claim any size
            raise ValueError(f"its arrays claim more memory than there is ({error})") from error
        stored = events.dtype.names or () if isinstance(events, np.ndarray) else events
        missing = [key for key in "txyp" if key not in stored]
        if missing:
            raise ValueError(f"no array {', '.join(missing)} among its events (t, x, y, p are needed)")
        sizes = {key: events[key].shape for key in "txyp"}
        if len(set(sizes.values())) > 1 or len(sizes["t"]) != 1:
            raise ValueError(f"arrays of different shapes {sizes}")
        if not events["t"].size:
            raise ValueError("no events")
        for key in "xyp":
            if events[key].dtype.kind not in "biu":
                raise ValueError(f"{key} is of type {events[key].dtype}; pixels and polarities are whole numbers")
        later = np.flatnonzero(~(events["t"][1:] >= events["t"][:-1]))  # NaN is in no order either
        if later.size:
            k = int(later[0])
            before, after = events["t"][k], events["t"][k + 1]
            raise ValueError(f"times are not sorted: event {k + 1} is at {after}, after {before}")
        if int(events["p"].min()) < 0 or int(events["p"].max()) > 1:
            # SpikingJelly drops events of any other polarity without a word.
            raise ValueError(f"polarities run from {events['p'].min()} to {events['p'].max()}, they must be 0 or 1")
        for key, size in (("x", self.sensor[1]), ("y", self.sensor[0])):
            low, high = int(events[key].min()), int(events[key].max())
            # SpikingJelly counts a coordinate beyond the sensor in the neighbouring row.
            if low < 0 or high >= size:
                raise ValueError(f"{key} runs from {low} to {high}, but {self._title}'s sensor has {size} pixels")
        return events

    def preparation(self) -> dict[str, Any]:
        h, w = self.sensor
        return {
            "transform": f"{self.time_steps} count frames of equally many events per recording",
            "time_steps": self.time_steps,
            "split_by": "number",
            "block": self.block,
            "input_size": [2, h // self.block, w // self.block],
            "class_index": "all class folders of the data set, sorted as text (SpikingJelly)",
            "versions": {"spikingjelly": spikingjelly_version(), "numpy": np.__version__},
        }


def open_events(
    kind: str,
    path: str | Path,
    model: Any = None,
    *,
    time_steps: int | None = None,
    split: str | None = None,
    spec: str = "",
) -> EventDataset:
    """Event recordings that SpikingJelly has prepared under `path`/events_np; nothing is downloaded or written.

    Args:
        kind: "nmnist", "dvs128-gesture" or "cifar10-dvs".
        path: the folder given to SpikingJelly as root (or its `events_np`). A partial copy is enough.
        model: checked for 2 channels and its size; where its size divides the sensor's (128 by 64), counts are summed
            over blocks of pixels.
        time_steps: frames per recording; the model's own number unless given.
        split: "train" or "test" (default); CIFAR10-DVS has no split.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: nothing prepared there, an unknown split, or a model that takes another input.
    """
    if kind not in SOURCES:
        raise unknown("event data set", kind, SOURCES)
    source = SOURCES[kind]
    wants = ModelInput.of(model)
    steps = time_steps if time_steps is not None else wants.time_steps
    if steps is None:
        raise SpikeattnError(f"{source.title}: the model states no number of time steps; give time_steps=T")
    if steps < 1:
        raise SpikeattnError(f"{source.title}: time_steps={steps}; give 1 or more")
    if source.splits and split not in (None, *source.splits):
        raise unknown(f"split of {source.title}", split, source.splits)
    if split and not source.splits:
        raise SpikeattnError(f"{source.title} has no train/test split; leave out split={split!r}")

    raw = _recordings(expanded(path), source)
    taken = (split or "test") if source.splits else None
    folder = raw / taken if taken else raw
    if not folder.is_dir():
        raise SpikeattnError(f"{raw} has no folder {taken!r}; it holds {', '.join(folders_in(raw)) or 'no folders'}")
    strangers = sorted(set(folders_in(folder)) - set(source.folders))
    if strangers:
        raise SpikeattnError(
            f"{folder}: {', '.join(strangers[:5])} is no class folder of {source.title}; "
            f"valid are {', '.join(sorted(source.folders, key=lambda name: (len(name), name)))}"
        )

    index = {name: i for i, name in enumerate(source.folders)}
    found, lost = files_below(folder)
    sifted = sift(found, EXTENSIONS, lost)
    inside = [name for name in sifted.samples if "/" in name]
    if not inside:
        raise SpikeattnError(f"{folder} holds no recordings ({' or '.join(EXTENSIONS)} in class folders)")
    files = [
        (printable(Path(folder.name if taken else "", name).as_posix()), str(folder / name), index[name.split("/")[0]])
        for name in inside
    ]
    sensor = source.sensor
    block = _block(wants, sensor)
    advice = f"create it with in_chans=2, img_size={sensor[0]} (or a divisor of it: counts are then summed)"
    wants.require(f"a frame of {source.title}", 2, (sensor[0] // block, sensor[1] // block), advice)
    dataset = EventDataset(kind, spec or f"{kind}:{path}", taken, source, sorted(files), np.load, sensor, steps, block)
    dataset.remark(*wants.class_notes(dataset.classes), *sifted.remarks())
    if beside := [name for name in sifted.samples if "/" not in name]:
        dataset.remark(f"left out: beside the class folders lie {listed(beside)}")
    return dataset


def _block(wants: ModelInput, sensor: tuple[int, int]) -> int:
    """How many sensor pixels make one of the model's along each side, 1 where that is no whole number."""
    if wants.size is None:
        return 1
    factors = {divmod(pixels, size) for pixels, size in zip(sensor, wants.size, strict=True)}
    (factor, rest), *others = sorted(factors)
    return factor if factor >= 1 and rest == 0 and not others else 1


def _recordings(root: Path, source: Source) -> Path:
    """The folder `events_np`, or an error that says how SpikingJelly makes it."""
    raw = root if root.name == "events_np" else root / "events_np"
    how = (
        f"{_maker()} makes it once: put the files of {source.title} into {raw.parent / 'download'} and run "
        f"spikingjelly.datasets.{source.module}.{source.cls}({str(raw.parent)!r}"
        f"{', train=False' if source.splits else ''})"
    )
    layout = f"expected PATH/events_np/{'test/' if source.splits else ''}<class>/*.npz"
    if root.is_file():
        raise SpikeattnError(f"{root} is a file; {layout}")
    if not root.is_dir():
        raise SpikeattnError(f"{root} does not exist; {layout}; {how}")
    unfinished = raw.with_name("events_np.building")
    if unfinished.exists():
        raise SpikeattnError(
            f"{unfinished} says that SpikingJelly did not finish {raw}: remove both, then prepare it again; {how}"
        )
    if not raw.is_dir():
        content = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise SpikeattnError(f"{root} has no folder events_np (it holds {content}); {layout}; {how}")
    return raw


def _maker() -> str:
    """SpikingJelly, with the command that installs it where it is not."""
    return "SpikingJelly" if spikingjelly_version() else f"SpikingJelly ({install('events')})"


def count_frames(events: Mapping[str, np.ndarray], time_steps: int, h: int, w: int) -> np.ndarray:
    """Events per frame, polarity and pixel, [T, 2, h, w] float64; N // T events a frame, and the rest in the last.

    Args:
        events: arrays x, y and p of equal length, in the order of time.
    """
    per_frame, polarity = len(events["x"]) // time_steps, events["p"][:] != 0
    place = (polarity.astype(int) * h + events["y"].astype(int)) * w + events["x"].astype(int)
    edges = [*(per_frame * step for step in range(time_steps)), len(place)]
    counted = [np.bincount(place[a:b], minlength=2 * h * w) for a, b in pairwise(edges)]
    return np.stack(counted).reshape(time_steps, 2, h, w).astype(float)

"""What every data set of spikeattn is: indexed samples with stable ids, and samples that could not be read."""

from __future__ import annotations

import errno
import hashlib
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from spikeattn.errors import SpikeattnError

logger = logging.getLogger(__name__)

NO_SIZE = "the model states no input size"  # how the note begins that the warnings of a run repeat


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read: it is named and counted, never replaced by another one."""

    id: str
    reason: str
    index: int


class Dataset(torch.utils.data.Dataset):
    """Map-style data: sample `i` is (image float32 [C,H,W] or [T,C,H,W], label int; -1 = unknown) or a `Skipped`.

    Attributes:
        name: short name ("imagenet").
        spec: what the user asked for ("imagenet:PATH").
        split: "train", "test", "val" or None.
        classes: name of each label, or None where there are no labels.
        notes: what a reader of the results must know about the input (also logged once, when opened).
        slow: whether reading a sample takes milliseconds, as decoding a file does; `workers_for` asks it.
    """

    name: str
    spec: str
    split: str | None = None
    classes: list[str] | None = None
    notes: tuple[str, ...] = ()
    slow: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples, unreadable ones included."""

    @abstractmethod
    def __getitem__(self, i: int) -> tuple[Tensor, int] | Skipped:
        """Sample `i`, or why it could not be read."""

    @abstractmethod
    def id(self, i: int) -> str:
        """Name of sample `i`, the same on every machine ("n01440764/n01440764_0.JPEG")."""

    def remark(self, *notes: str) -> None:
        """Add notes, each logged as a warning."""
        self.notes = (*self.notes, *notes)
        for note in notes:
            logger.warning("%s: %s", self.spec, note)

    def preparation(self) -> dict[str, Any]:
        """How a stored sample becomes the model's input; JSON types only."""
        return {}

    def provenance(self) -> dict[str, Any]:
        """Where the samples come from and how they were prepared; JSON types only.

        `ids_sha256` (over the ids, one per line) tells two copies of a data set apart without their paths.
        """
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(self.id(i).encode() + b"\n")
        return {
            "name": self.name,
            "spec": self.spec,
            "split": self.split,
            "number": len(self),
            "ids_sha256": digest.hexdigest(),
            **self.preparation(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class ModelInput:
    """What a model says about its input; None where it says nothing (then nothing is checked).

    `size` is (height, width) in pixels; `config` is timm's `pretrained_cfg`.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None
    time_steps: int | None = None
    num_classes: int | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any) -> ModelInput:
        """Read `in_chans`, `img_size`, `time_steps`, `num_classes` and `pretrained_cfg`; a model None says nothing.

        Of a network of the user's own also the arguments that its factory was called with, and `default_cfg`, which
        published ones leave at 224 pixels whatever they were built for.
        """
        config = next((dict(c) for c in _configs(model) if isinstance(c, Mapping) and c), {})
        stated = _stated_by(model)
        shape = config.get("input_size")
        shape = tuple(shape) if isinstance(shape, tuple | list) and len(shape) == 3 else (None, None, None)
        channels = getattr(model, "in_chans", None) or stated.get("channels") or shape[0]
        size = _size(getattr(model, "img_size", None)) or stated.get("size") or _size(shape[1:])
        return cls(
            channels=channels,
            size=size,
            time_steps=getattr(model, "time_steps", None) or stated.get("time_steps"),
            num_classes=getattr(model, "num_classes", None) or stated.get("classes") or config.get("num_classes"),
            config=config,
        )

    def class_notes(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        """What to say where the model has another number of outputs than the data has classes."""
        if classes is None or self.num_classes in (None, len(classes)):
            return ()
        return (
            f"the model has {self.num_classes} outputs and the data {len(classes)} "
            f"{'class' if len(classes) == 1 else 'classes'}: accuracy has no meaning unless their numbering agrees",
        )

    def require(self, what: str, channels: int, size: tuple[int, int], advice: str) -> None:
        """Raise unless the model takes `channels` x `size`; `what` names the data, `advice` says what to do."""
        if self.channels not in (None, channels) or self.size not in (None, size):
            wants = "x".join("?" if n is None else str(n) for n in (self.channels, *(self.size or (None, None))))
            raise SpikeattnError(f"{what} is {channels}x{size[0]}x{size[1]} but the model takes {wants}: {advice}")


# What published factories call the arguments that say what they take.
_ARGUMENTS = {
    "channels": ("in_chans", "in_channels"),
    "time_steps": ("time_steps", "T"),
    "classes": ("num_classes", "nb_classes"),
}
_SIZES = ("img_size", "image_size")


def _configs(model: Any) -> tuple[Any, ...]:
    return tuple(getattr(model, name, None) for name in ("pretrained_cfg", "default_cfg"))


def _stated_by(model: Any) -> dict[str, Any]:
    """What the arguments of a factory of the user's say about the input of its network."""
    known = getattr(model, "provenance", None)
    if not isinstance(known, Mapping) or "code" not in known:
        return {}
    arguments = known.get("config", {})
    stated: dict[str, Any] = {}
    for key, names in _ARGUMENTS.items():
        values = (arguments.get(name) for name in names)
        stated[key] = next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)
    sides = (arguments.get("img_size_h"), arguments.get("img_size_w"))
    stated["size"] = _size(sides) or next((s for n in _SIZES if (s := _size(arguments.get(n)))), None)
    return stated


def _size(value: Any) -> tuple[int, int] | None:
    """Height and width, where a value is these."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return (int(value[0]), int(value[1]))
    return None


def printable(name: str) -> str:
    """A file name as valid UTF-8 (file systems may hold any bytes; tables may not)."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def reason_of(error: BaseException) -> str:
    """One line on why a file could not be read, without the machine's paths."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text if type(error) in (ValueError, OSError) and text else f"{type(error).__name__}: {text}"


def skip(name: str, error: Exception, i: int) -> Skipped:
    """Turn what went wrong while reading sample `i` into a `Skipped`; what is the machine's fault is raised again."""
    machine = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in machine):
        raise error
    return Skipped(name, reason_of(error), i)


def unreadable_kind(head: bytes) -> str | None:
    """Name what a file is when its first bytes already tell that it holds no data; None otherwise."""
    if not head:
        return "empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a git-LFS pointer instead of the file itself (run `git lfs pull`)"
    return None

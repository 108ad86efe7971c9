"""Where images and time steps lie in a tensor: read off its labels, and used to take batches of any size apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.labels import ANY, IMAGE, MIXED, TIME, Label, along, compact, join_along

BATCH = 2  # images that are traced: enough to see which rows belong to which, and which operations join them
_SMALL = 256  # entries of a label that are compared faster than they are read


@dataclass(frozen=True)
class Axes:
    """Order of images and time steps in a tensor.

    Attributes:
        at: the axis that the images lie on; `outer` and `inner` are what else shares it: [outer, B, inner].
        along: the axes that the steps lie on, counted after axis `at` has become three.
        steps: the time step of each position along these, from 0; () where the tensor holds one step, or none.
        step: the one step it holds; None where it holds none in particular.
        joined: it depends on several steps at once, so its counts have no split over them.
    """

    at: int = 0
    outer: int = 1
    inner: int = 1
    along: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    step: int | None = None
    joined: bool = False

    @property
    def timed(self) -> bool:
        """Whether the tensor holds several time steps side by side."""
        return bool(self.steps)

    @property
    def untimed(self) -> Axes:
        """The same without the split over time steps."""
        return replace(self, along=(), steps=(), step=None, joined=True)

    def split(self, x: Tensor, batch: int) -> Tensor:
        """The tensor as [P, B, ...]: one position per entry of `steps`, a single one where there are none."""
        if type(x) is Tensor and x.device.type == "cpu" and x.layout == torch.strided and not x.requires_grad:
            view = _view(self, x.shape, x.stride(), batch)
            if view is not None and not x.is_neg() and not x.is_conj():
                return x.as_strided(*view)
        return self._split(x, batch)

    def _split(self, x: Tensor, batch: int) -> Tensor:
        x = x.unflatten(self.at, (self.outer, batch, self.inner))
        x = x.movedim((*self.along, self.at + 1), tuple(range(len(self.along) + 1)))
        x = x.flatten(0, len(self.along) - 1) if self.along else x.unsqueeze(0)
        return self._tidy(x)

    def _tidy(self, x: Tensor) -> Tensor:
        """Without the axes of size 1 that taking the image axis apart has left."""
        rest = [d for d in range(self._rank(x)) if d not in (*self.along, self.at + 1)]
        alone = {self.at: self.outer == 1, self.at + 2: self.inner == 1}
        gone = [2 + i for i, axis in enumerate(rest) if alone.get(axis, False)]
        return x.squeeze(gone) if gone else x

    def _rank(self, x: Tensor) -> int:
        """Axes of the tensor after its image axis has become three, from its rank behind [P, B]."""
        return x.dim() - 2 + len(self.along) + 1

    def images_in(self, shape: Sequence[int]) -> int:
        """Number of images in a tensor of this shape."""
        return shape[self.at] // (self.outer * self.inner)

    def of_image(self, shape: Sequence[int], batch: int) -> tuple[int, ...]:
        """Axes of one image at one time step."""
        whole = [*shape[: self.at], self.outer, batch, self.inner, *shape[self.at + 1 :]]
        alone = {self.at: self.outer == 1, self.at + 2: self.inner == 1}
        kept = [
            size
            for axis, size in enumerate(whole)
            if axis not in self.along and axis != self.at + 1 and not alone.get(axis, False)
        ]
        repeats = len(self.steps) // max(len(set(self.steps)), 1)  # several positions of one step
        return tuple([repeats, *kept]) if repeats > 1 else tuple(kept)


@lru_cache(maxsize=4096)  # tensors of a few networks; asking for a view takes a fifth of making it step by step
def _view(
    axes: Axes, shape: Sequence[int], strides: Sequence[int], batch: int
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Sizes and strides of `Axes.split` of such a tensor, where that shares its memory; None where it is a copy."""
    x = torch.empty_strided(tuple(shape), tuple(strides), device="meta")
    split = axes._split(x, batch)
    shared = split.untyped_storage()._cdata == x.untyped_storage()._cdata
    return (tuple(split.shape), split.stride()) if shared else None


@dataclass(frozen=True)
class TimeAxis:
    """What the labels call time.

    Attributes:
        name: the field that is time; other candidates are ignored.
        tables: the step of each value, by field: of the candidate, and of those it was split off.
        order: the number of each step, where neurons see some of the steps alone; MIXED for the others.
    """

    name: str = TIME
    tables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    order: tuple[int, ...] | None = None

    def steps(self, label: Label) -> Tensor | None:
        """The time step of every row; None where no step is known."""
        found = self._raw(label)
        if found is None or self.order is None:
            return found
        order = torch.tensor(self.order, dtype=torch.int32)
        there = (found != ANY) & (found != MIXED)
        return torch.where(there, order[found.clamp(0, len(order) - 1).long()], found)

    def _raw(self, label: Label) -> Tensor | None:
        own = label.get(TIME)
        if own is not None:
            return own
        for name, table in self.tables.items():
            values = label.get(name)
            if values is not None:
                steps = torch.tensor(table, dtype=torch.int32)[values.clamp(0, len(table) - 1).long()]
                return compact(torch.where((values == ANY) | (values == MIXED), values, steps))
        return None


class LayoutReader:
    """Reads the axes of tensors off their labels.

    Args:
        time: which field is time.
        time_steps: T.
        batch: images in the traced batch; 1 where a single image was shown to a network that mixes its images.
    """

    def __init__(self, time: TimeAxis, time_steps: int, batch: int = BATCH) -> None:
        self.time, self.time_steps, self.batch = time, time_steps, batch
        self._read: dict[tuple[int, tuple[int, ...]], tuple[Label, Axes | None]] = {}
        self._alike: dict[Hashable, Axes | None] = {}  # by what the labels hold: a network has a handful of layouts

    def read(self, shape: Sequence[int], label: Label) -> Axes | None:
        """The axes of a tensor; None where its images cannot be told apart (see `unreadable`)."""
        key = (id(label), tuple(shape))
        if key not in self._read:
            self._read[key] = (label, self._by_content(tuple(shape), label))
        return self._read[key][1]

    def _by_content(self, shape: tuple[int, ...], label: Label) -> Axes | None:
        """The axes, computed once for all labels that hold the same."""
        if sum(values.numel() for values in label.fields.values()) > _SMALL:
            return self._axes(shape, label)
        held = ((name, tuple(v.shape), tuple(v.flatten().tolist())) for name, v in sorted(label.fields.items()))
        key = (shape, label.loose, tuple(held))
        if key not in self._alike:
            self._alike[key] = self._axes(shape, label)
        return self._alike[key]

    def unreadable(self, shape: Sequence[int], label: Label) -> str:
        """Why a tensor has no axes."""
        size = "x".join(map(str, shape))
        if label.loose is not None:
            return f"which rows of a tensor of {size} belong to an image depends on the data, since {label.loose}"
        if IMAGE in label.joined:
            return f"a tensor of {size} mixes the images of the batch, since {label.joined[IMAGE]}"
        if label.get(IMAGE) is None:
            return f"nothing says which image the rows of a tensor of {size} belong to"
        return f"the images lie in no order in a tensor of {size} for {self.batch} images"

    def _axes(self, shape: tuple[int, ...], label: Label) -> Axes | None:
        images = self._images(shape, label)
        if images is None:
            return None
        if self.time_steps == 1:
            if images.at == 1 and shape[0] == 1:  # [T, B, ...]
                return replace(images, along=(0,), steps=(0,), step=0)
            return replace(images, step=0)
        steps = self.time.steps(label)
        if steps is None:
            return images
        if bool((steps == MIXED).any()):
            return images.untimed
        found = [value for value in steps.unique().tolist() if value != ANY]
        if not found:
            return images
        if max(found) >= self.time_steps:
            raise SpikeattnError(
                f"a tensor of {'x'.join(map(str, shape))} belongs to time step {max(found) + 1}, and the neurons run "
                f"over {self.time_steps} steps: say time_steps= if T is another number"
            )
        if len(found) == 1:
            return replace(images, step=found[0])
        return self._timed(shape, images, steps)

    def _images(self, shape: tuple[int, ...], label: Label) -> Axes | None:
        """The axis of the images, and what shares it."""
        values = label.get(IMAGE)
        if label.loose is not None or not shape:
            return None
        if self.batch == 1:  # one image alone: every row is its own
            return Axes(0, outer=shape[0])
        if values is None:
            return None
        for axis, size in enumerate(shape):
            line = along(values, axis) if values.shape[axis] > 1 else None
            known = [value for value in line or () if value != ANY]
            if line is None or len(set(known)) < self.batch or len(line) != size:
                continue
            per_image = size // self.batch
            for inner in (n for n in range(1, per_image + 1) if per_image % n == 0 and size % self.batch == 0):
                expected = ((i // inner) % self.batch for i in range(size))
                if all(value in (ANY, wanted) for value, wanted in zip(line, expected, strict=True)):
                    return Axes(axis, per_image // inner, inner)
        return None

    def _timed(self, shape: tuple[int, ...], images: Axes, steps: Tensor) -> Axes:
        """The axes with the table of the steps; without a split where one position would hold several."""
        at, whole = images.at, (images.outer, self.batch, images.inner)
        if steps.shape[at] > 1:
            steps = steps.unflatten(at, whole)
        else:
            steps = steps.unsqueeze(at).unsqueeze(at)
        steps = compact(join_along(steps, [at + 1]))
        if bool((steps == MIXED).any()):
            return images.untimed  # other steps in other images
        steps = _along_one(steps)
        axes = tuple(axis for axis, size in enumerate(steps.shape) if size > 1)
        if not axes:
            return replace(images, step=int(steps.flatten()[0]))
        table = steps.flatten().tolist()
        missing = [t for t in range(self.time_steps) if t not in table]
        free = missing if len(missing) == table.count(ANY) else []
        for place, value in enumerate(table):
            if value == ANY:  # constants: in front of shifted steps they stand for a free one, else they go with others
                beside = next((v for v in table[place:] if v != ANY), table[place - 1])
                table[place] = free.pop(0) if free else beside
        counts = {table.count(step) for step in set(table)}
        if len(counts) > 1 or max(table) >= self.time_steps:
            return images.untimed
        return replace(images, along=axes, steps=tuple(table))


def _along_one(steps: Tensor) -> Tensor:
    """The steps along a single axis, where that tells them all; constants in between (ANY) then follow their row."""
    for axis, size in enumerate(steps.shape):
        line = along(steps, axis) if size > 1 else None
        if line is not None and len(set(line) - {ANY}) > 1:
            told = torch.tensor(line, dtype=torch.int32).view([-1 if a == axis else 1 for a in range(steps.dim())])
            if bool(((steps == told) | (steps == ANY)).all()):
                return told
    return steps

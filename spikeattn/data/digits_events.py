"""SIMULATED events: scikit-learn's digits seen by an ideal event camera that a small saccade moves.

No camera recorded these events. They give the neuromorphic path (frames of event counts, two polarities) real labels
without a download, as N-MNIST did with a real camera (Orchard et al., Frontiers in Neuroscience 2015,
https://arxiv.org/abs/1507.07629). The simulation: the picture (16x16, as in `digits`) moves along a square, 2 pixels
right, down, left, up, in quarter pixels, bilinear, on black; a pixel sends an event of polarity 1 (brighter) or
0 (darker) for each full eighth of the white level by which its brightness has changed since its last event. Brightness
is linear, not logarithmic; there is no noise, no refractory time and no timing within a step. All of it is integer
arithmetic, so the events are the same on every machine.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from spikeattn.data.dataset import Dataset, ModelInput
from spikeattn.data.digits import Digits
from spikeattn.errors import SpikeattnError

LEG, QUARTERS = 2, 4  # pixels per side of the square; steps per pixel
STEPS = 4 * LEG * QUARTERS
WHITE = 16 * 16 * QUARTERS  # levels: 16 of a digit's pixel, 16ths of its bilinear weights, quarters of the step
THRESHOLD = WHITE // 8


class DigitsEvents(Dataset):
    """Digits as float32 [T,2,16,16] event counts (0 darker, 1 brighter), SIMULATED; the split is that of `digits`.

    `images` float32 [N,T,2,16,16] and `labels` int64 [N] hold the whole split, for training.
    """

    name = "digits-events"

    def __init__(self, split: str = "test", time_steps: int = 4) -> None:
        if not 1 <= time_steps <= STEPS or STEPS % time_steps:
            valid = ", ".join(str(steps) for steps in range(1, STEPS + 1) if STEPS % steps == 0)
            raise SpikeattnError(f"digits-events: time_steps={time_steps}; the saccade divides into {valid} frames")
        digits = Digits(split)
        self.images = events_of((digits.images[:, 0] * (WHITE // QUARTERS)).int(), time_steps).float()
        self.labels, self.members, self.classes = digits.labels, digits.members, digits.classes
        self.spec, self.split, self.time_steps = self.name, split, time_steps

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.labels[i])

    def id(self, i: int) -> str:
        return f"digits-events/{self.members[i]}"

    def preparation(self) -> dict[str, Any]:
        return {
            "transform": f"SIMULATED events of a saccade ({LEG} pixels right, down, left, up in {STEPS} steps; "
            f"threshold 1/{WHITE // THRESHOLD} of white, linear), counted in {self.time_steps} frames",
            "simulated": True,
            "time_steps": self.time_steps,
            "input_size": [2, 16, 16],
            "class_index": "the digit",
            "versions": {"scikit-learn": version("scikit-learn"), "torch": torch.__version__},
        }


def events_of(levels: Tensor, time_steps: int) -> Tensor:
    """Events of pictures that move along the square: int32 [N,H,W], white at WHITE/4 -> int32 counts [N,T,2,H,W]."""
    N, H, W = levels.shape
    counts = torch.zeros(N, time_steps, 2, H, W, dtype=torch.int32)
    padded = torch.nn.functional.pad(levels, (LEG + 1, 0, LEG + 1, 0))  # black comes in from the left and from above
    reference = _moved(padded, 0, 0, H, W)
    for step, (down, right) in enumerate(_path()):
        change = _moved(padded, down, right, H, W) - reference
        events = torch.div(change, THRESHOLD, rounding_mode="trunc")
        reference = reference + events * THRESHOLD
        frame = counts[:, step * time_steps // STEPS]
        frame[:, 0] += (-events).clamp(min=0)
        frame[:, 1] += events.clamp(min=0)
    return counts


def _path() -> list[tuple[int, int]]:
    """(down, right) of the picture after each step, in quarter pixels."""
    side = LEG * QUARTERS
    out, back = range(1, side + 1), range(side - 1, -1, -1)
    corners = [(0, right) for right in out], [(down, side) for down in out]
    return [*corners[0], *corners[1], *((side, right) for right in back), *((down, 0) for down in back)]


def _moved(padded: Tensor, down: int, right: int, H: int, W: int) -> Tensor:
    """The pictures moved by quarter pixels along one axis and by whole pixels along the other, times 4."""
    (rows, part_down), (columns, part_right) = divmod(down, QUARTERS), divmod(right, QUARTERS)
    top, left = LEG + 1 - rows, LEG + 1 - columns
    here = padded[:, top : top + H, left : left + W]
    if part_down:
        there = padded[:, top - 1 : top - 1 + H, left : left + W]
    else:
        there = padded[:, top : top + H, left - 1 : left - 1 + W]
    part = part_down or part_right
    return here * (QUARTERS - part) + there * part


def open_digits_events(model: Any = None, *, time_steps: int | None = None, split: str | None = None) -> DigitsEvents:
    """The held-out simulated recordings (or `split="train"`), checked against what the model takes.

    `time_steps` frames per recording; the model's own number unless given, 4 where it states none.
    """
    wants = ModelInput.of(model)
    wants.require("a simulated recording", 2, (16, 16), "create the model with in_chans=2, img_size=16")
    steps = time_steps if time_steps is not None else wants.time_steps
    events = DigitsEvents(split or "test", 4 if steps is None else steps)
    events.remark(*wants.class_notes(events.classes))
    return events

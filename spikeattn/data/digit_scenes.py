"""scikit-learn's digits somewhere on a black canvas: most of a picture is empty, and position carries information.

For attention: where a digit fills its picture, as in `digits`, there is no place that a network need not look at.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeattn.data.dataset import Dataset, ModelInput
from spikeattn.data.digits import Digits

SIDE, CANVAS = 16, 32  # pixels of a digit and of the picture


class DigitScenes(Dataset):
    """Digits at fixed random places of a black canvas, float32 [1,32,32] in [0,1]; the split is that of `digits`.

    `images` float32 [N,1,32,32] and `labels` int64 [N] hold the whole split. The place of a digit follows from its
    index in the whole set alone.
    """

    name = "digits-scenes"

    def __init__(self, split: str = "test") -> None:
        digits = Digits(split)
        corners = [np.random.RandomState([32, member]).randint(CANVAS - SIDE + 1, size=2) for member in digits.members]
        self.images = placed(digits.images, torch.from_numpy(np.array(corners)))
        self.labels, self.members, self.classes = digits.labels, digits.members, digits.classes
        self.spec, self.split = self.name, split

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.labels[i])

    def id(self, i: int) -> str:
        return f"digits-scenes/{self.members[i]}"

    def preparation(self) -> dict[str, Any]:
        return {
            "transform": f"x/16, bilinear 8x8 to 16x16 (align_corners=False), at a random place of {CANVAS}x{CANVAS} "
            "black pixels",
            "input_size": [1, CANVAS, CANVAS],
            "class_index": "the digit",
            "versions": {"scikit-learn": version("scikit-learn"), "torch": torch.__version__},
        }


def placed(digits: Tensor, corners: Tensor) -> Tensor:
    """Digits [N,1,16,16] with their upper left corners at `corners` [N,2] (row, column): [N,1,32,32]."""
    canvas = digits.new_zeros(len(digits), 1, CANVAS, CANVAS)
    steps = torch.arange(SIDE)
    rows, columns = (corners[:, axis, None] + steps for axis in (0, 1))  # [N, 16]
    picture = torch.arange(len(digits))[:, None, None]
    canvas[picture, 0, rows[:, :, None], columns[:, None, :]] = digits[:, 0]
    return canvas


def open_digit_scenes(model: Any = None, *, split: str | None = None) -> DigitScenes:
    """The held-out scenes (or `split="train"`), checked against what the model takes."""
    wants = ModelInput.of(model)
    wants.require("a scene", 1, (CANVAS, CANVAS), f"create the model with in_chans=1, img_size={CANVAS}")
    scenes = DigitScenes(split or "test")
    scenes.remark(*wants.class_notes(scenes.classes))
    return scenes

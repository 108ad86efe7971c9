"""scikit-learn's handwritten digits: the real, labelled images that a dependency ships, for the embedded default.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998):
1797 images of 8x8 pixels, values 0 to 16.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeattn.data.dataset import Dataset, ModelInput
from spikeattn.errors import unknown

N_TRAIN = 1437  # four fifths of the 1,797 digits


class Digits(Dataset):
    """Digits as float32 [1,16,16] in [0,1] (bilinear from 8x8), in ascending order of their index in the whole set.

    The split is fixed: the first 1437 of `RandomState(0).permutation(1797)` train, the other 360 test.
    `images` float32 [N,1,16,16] and `labels` int64 [N] hold the whole split, for training.
    """

    name = "digits"

    def __init__(self, split: str = "test") -> None:
        from sklearn.datasets import load_digits

        if split not in ("train", "test"):
            raise unknown("split of digits", split, ("train", "test"))
        pixels, target = load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(pixels))
        self.members = np.sort(order[:N_TRAIN] if split == "train" else order[N_TRAIN:])
        small = torch.from_numpy(pixels[self.members]).float().reshape(-1, 1, 8, 8) / 16
        self.images = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
        self.labels = torch.from_numpy(target[self.members]).long()
        self.spec = "digits"
        self.split = split
        self.classes = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.labels[i])

    def id(self, i: int) -> str:
        return f"digits/{self.members[i]}"

    def preparation(self) -> dict[str, Any]:
        return {
            "transform": "x/16, bilinear 8x8 to 16x16 (align_corners=False)",
            "input_size": [1, 16, 16],
            "class_index": "the digit",
            "versions": {"scikit-learn": version("scikit-learn"), "torch": torch.__version__},
        }


def open_digits(model: Any = None, *, split: str | None = None) -> Digits:
    """The held-out digits (or `split="train"`), checked against what the model takes."""
    advice = "create the model with in_chans=1, img_size=16"
    wants = ModelInput.of(model)
    wants.require("a digit", 1, (16, 16), advice)
    digits = Digits(split or "test")
    digits.remark(*wants.class_notes(digits.classes))
    return digits

"""tiny_imagenet_boxes: photos of 64 pixels of 20 classes with the box of the object, as folders and as tensors.

The source is two parquet files, train and val, with the columns id, wnid, image (JPEG), x0, y0, x1, y1 (pixels, both
ends inside the box) and label. `train.py` and `sa.open_dataset("folder:...")` read the folders.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

import spikeattn as sa

SIDE = 64  # pixels
SPLITS = {"train": "train.parquet", "test": "val.parquet"}
COLUMNS = {"id", "wnid", "image", "x0", "y0", "x1", "y1", "label"}


def unpack(source: Path, folder: Path) -> Path:
    """Write `folder`/train and `folder`/test with a folder per class, and test.csv with the boxes; once."""
    if (folder / "test.csv").is_file():
        return folder
    for split, name in SPLITS.items():
        table = pd.read_parquet(source / name)
        if missing := COLUMNS - set(table):
            raise sa.SpikeattnError(f"{source / name} lacks the columns {', '.join(sorted(missing))}")
        for wnid, rows in table.groupby("wnid"):
            place = folder / split / str(wnid)
            place.mkdir(parents=True, exist_ok=True)
            for row in rows.itertuples():
                (place / str(row.id)).write_bytes(row.image)
        boxes = table.drop(columns="image").sort_values(["wnid", "id"])
        partial = folder / f"{split}.csv.partial"
        boxes.to_csv(partial, index=False)
        os.replace(partial, folder / f"{split}.csv")  # test.csv last: where it stands, all is there
    return folder


def photos(
    folder: Path, model: object, split: str = "test", number: int | None = None
) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """`number` photos evenly over the split, or all of them.

    Returns:
        Images [B, 3, 64, 64] as the model takes them, labels [B], and the pixels of the box [B, 64, 64].
    """
    dataset = sa.open_dataset(f"folder:{folder}", model, split=split)
    number = len(dataset) if number is None else min(number, len(dataset))
    rows = [i * len(dataset) // number for i in range(number)]
    boxes = pd.read_csv(folder / f"{split}.csv", index_col="id").loc[[Path(dataset.id(i)).name for i in rows]]
    samples = [dataset[i] for i in rows]
    masks = np.zeros((len(samples), SIDE, SIDE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes[["x0", "y0", "x1", "y1"]].to_numpy(), strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    images = torch.stack([image for image, _ in samples])
    return images, torch.tensor([label for _, label in samples]), masks

"""CIFAR-10 read from parquet files: order, labels, preparation, and files that are something else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import spikeattn as sa
from spikeattn.data import Skipped
from spikeattn.errors import SpikeattnError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10_jpg"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels) -> Path:
    pq.write_table(pa.table({"image": [png(one) for one in pixels], "label": [7, 0, 9]}), tmp_path / "test.parquet")
    structs = [{"bytes": png(one), "path": None} for one in pixels[:2]]
    pq.write_table(pa.table({"img": structs, "label": [1, 2]}), tmp_path / "train.parquet")
    return tmp_path


@pytest.mark.parametrize("split, labels", [(None, [7, 0, 9]), ("train", [1, 2])])
def test_pixels_and_labels_in_the_order_of_the_file(folder, pixels, split, labels):
    dataset = sa.open_dataset(f"cifar10:{folder}", sa.create_model("sdt_2_256"), split=split)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    assert [dataset[i][1] for i in range(len(dataset))] == labels
    for i in range(len(dataset)):
        wanted = ((torch.from_numpy(pixels[i]).float() / 255 - mean) / std).permute(2, 0, 1)
        assert torch.allclose(dataset[i][0], wanted, atol=1e-5)
    assert dataset.id(1) == f"{split or 'test'}/00001" and dataset.classes[7] == "horse"


def test_a_damaged_image_is_skipped_and_named(folder, pixels):
    pq.write_table(pa.table({"image": [png(pixels[0])[:200], None], "label": [0, 1]}), folder / "test.parquet")
    dataset = sa.open_dataset(f"cifar10:{folder}", sa.create_model("sdt_2_256"))
    assert all(isinstance(dataset[i], Skipped) for i in range(2)) and dataset[0].id == "test/00000"


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"pixels": [b"x"], "label": [0]}, "rows of pixels, label; expected"),
        ({"image": [b"x"], "label": [10]}, "label 10 is none of 0 to 9"),
        ({"image": [], "label": []}, "holds 0 rows"),
    ],
)
def test_other_tables_are_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "test.parquet")
    with pytest.raises(SpikeattnError, match=message):
        sa.open_dataset(f"cifar10:{tmp_path}")


def test_no_files_and_no_such_split(tmp_path):
    with pytest.raises(SpikeattnError, match="test.parquet does not exist; expected"):
        sa.open_dataset(f"cifar10:{tmp_path}")
    with pytest.raises(SpikeattnError, match="split of CIFAR-10"):
        sa.open_dataset(f"cifar10:{tmp_path}", split="val")
    (tmp_path / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(SpikeattnError, match="cannot be read as parquet"):
        sa.open_dataset(f"cifar10:{tmp_path}")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no CIFAR-10 beside the checkout")
def test_the_real_files():
    dataset = sa.open_dataset(f"cifar10:{SHARED}", sa.create_model("sdt_2_256"))
    assert len(dataset) == 10_000 and dataset[0][0].shape == (3, 32, 32)

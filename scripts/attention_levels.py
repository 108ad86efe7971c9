"""How often `attend` calls something where there is nothing: every model, layer and null, old and new estimator.

    python scripts/attention_levels.py [--cifar10 DIR] [--photos DIR] [--images 4]

writes reports/attention/levels.csv and levels.md. B + 1 maps of resampled input are exchangeable, so each of them in
turn is the observed one and the other B are its null: there is nothing to find, by construction. Some 20 minutes.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.significance import AttentionWarning, assess
from spikeattn.storage import csv_text

OUT = Path(__file__).parents[1] / "reports" / "attention"
CIFAR = Path(__file__).parents[1] / "reports" / "cifar10"
LEVEL = 0.1
NULLS = ("normal", "pixel", "patch")
REPLICATES = (100, 200)
ESTIMATORS = ("standardised", "plus-one")
# The bars of the default estimator: P(any call) on average, and the level by position.
ANY, LOW, HIGH = 0.12, 0.02, 0.16


def networks(options: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Tensor, tuple[str, ...]]]:
    """Name, model, images and nulls."""
    for name, data in (
        ("sdt_digits", "digits"),
        ("sdt_digits_scenes", "digits-scenes"),
        ("sdt_digits_events", "digits-events"),
        ("vit_digits", "digits"),
    ):
        model = sa.load_model(name, pretrained=True)
        yield (
            name,
            model,
            spread(sa.open_dataset(data, model), options.images),
            NULLS if "events" not in data else ("events",),
        )
    if options.cifar10 is not None:
        for name in ("sdt_2_256", "ann_2_256"):
            shape = {"img_size": 32, "num_classes": 10}
            model = sa.load_model(name, checkpoint=CIFAR / f"{name}.safetensors", **shape)
            yield name, model, spread(sa.open_dataset(f"cifar10:{options.cifar10}", model), options.images), NULLS
    if options.photos is not None:
        torch.manual_seed(0)
        model = timm.create_model("vit_small_patch16_224").eval()
        images = spread(sa.open_dataset(f"imagenet:{options.photos}", model), options.images)
        yield "random ViT-S/16", model, images, NULLS


def spread(dataset: sa.data.Dataset, number: int) -> Tensor:
    """As many images, evenly over the data set."""
    return torch.stack([dataset[i * len(dataset) // number][0] for i in range(number)])


def cells(name: str, model: nn.Module, images: Tensor, null: str, B: int) -> Iterator[dict[str, object]]:
    """A row per layer and estimator."""
    found = sa.attend(model, images, null, B + 1, layer="all", seed=1)
    maps = found.null_maps
    assert maps is not None
    for layer in range(maps.shape[2]):
        for estimator in ESTIMATORS:
            positions, any_q, any_lfdr = [], [], []
            for of_image in maps[:, :, layer]:
                for observed in range(B + 1):
                    one = assess(of_image[observed], np.delete(of_image, observed, 0), estimator, unit=found.unit)
                    positions.append((one.p <= LEVEL).ravel())
                    any_q.append(bool((one.measure("q") <= LEVEL).any()))
                    any_lfdr.append(bool((one.lfdr <= LEVEL).any()))
            level = np.mean(positions, axis=0)
            moving = ~constant(maps[:, :, layer])
            yield {
                "model": name,
                "layer": layer,
                "null": null,
                "replicates": B,
                "estimator": estimator,
                "maps": len(any_q),
                "any_q": float(np.mean(any_q)),
                "any_q_se": clustered(any_q, len(images)),
                "any_lfdr": float(np.mean(any_lfdr)),
                "any_lfdr_se": clustered(any_lfdr, len(images)),
                "level": float(level.mean()),
                "lowest": float(level[moving].min()) if moving.any() else math.nan,
                "highest": float(level.max()),
                "constant_positions": int((~moving).sum()),
            }


def constant(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Positions at which fewer than one in fifty of an image's null scores differ from the most frequent one.

    There a call in one of fifty images, the lower bar, is out of reach: p cannot be that small so often.
    """
    images, B = maps.shape[:2]
    flat = maps.reshape(images, B, -1)
    most = np.zeros(flat.shape[2])
    for image in flat:
        for position in range(flat.shape[2]):
            most[position] = max(most[position], np.unique(image[:, position], return_counts=True)[1].max() / B)
    return most > 1 - 1 / 50


def clustered(values: list[bool], images: int) -> float:
    """Standard error of a mean whose values of one image depend on each other; of one image that of single values."""
    means = np.reshape(values, (images, -1)).mean(axis=1)
    if images == 1:
        return float(np.std(values) / math.sqrt(len(values)))
    return float(means.std(ddof=1) / math.sqrt(images))


def page(frame: pd.DataFrame, seconds: float, command: str) -> str:
    """The table, with what meets the bars and what does not."""
    ours = frame[frame["estimator"] == "standardised"]
    lower = ours["any_q"] - 1.645 * ours["any_q_se"]
    outside = ours[(ours["lowest"] < LOW) | (ours["highest"] > HIGH)]
    lines = [
        "# How often something is called where there is nothing",
        "",
        f"`{command}`: {seconds:.0f} s on one thread. Each of B + 1 exchangeable maps in turn is tested "
        "against the other B.",
        "",
        f"Estimator `standardised`, {len(ours)} cells: P(any q <= .1) {ours['any_q'].mean():.3f} on average "
        f"(bar {ANY}), P(any lfdr <= .1) {ours['any_lfdr'].mean():.3f}; cells whose lower one-sided 95 % limit "
        f"exceeds {ANY}: "
        f"{int((lower > ANY).sum())} by q. Level by position at a nominal .1: {ours['lowest'].min():.3f} to "
        f"{ours['highest'].max():.3f} (bar {LOW} to {HIGH}); cells outside: {len(outside)}.",
        "",
        "`lowest` leaves out positions at which hardly any null score moves; `constant_positions` says how many.",
        "",
        frame.round(3).to_markdown(index=False),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder with test.parquet and train.parquet")
    parser.add_argument("--photos", type=Path, help="folder with val/<wnid>/*.JPEG")
    parser.add_argument("--images", type=int, default=4, help="per model; B + 1 maps of each")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore", AttentionWarning)
    torch.set_num_threads(1)
    start, rows = time.perf_counter(), []
    for name, model, images, nulls in networks(options):
        for null in nulls:
            for B in REPLICATES:
                rows += cells(name, model, images, null, B)
                print(f"{time.perf_counter() - start:6.0f} s  {name} {null} B = {B}", flush=True)
    frame = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    csv_text.save(frame, options.out / "levels.csv", "%.4f")
    given = [f"--{name} DIR" for name in ("cifar10", "photos") if getattr(options, name) is not None]
    command = " ".join(["python scripts/attention_levels.py", *given])
    (options.out / "levels.md").write_text(page(frame, time.perf_counter() - start, command))


if __name__ == "__main__":
    main()

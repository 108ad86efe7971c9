"""Does the bootstrap of attention find what is there better than what costs nothing to do? The whole experiment.

    python scripts/attention_experiment.py --boxes tiny_imagenet_boxes --cifar10 cifar10_jpg

trains what is not trained yet, measures what is not measured yet, and writes the tables and the page into
reports/attention/experiment. Weights and scores stay in --work; an interrupted experiment goes on from there. Some two
hours on two cores; --small is a version of a minute or two, for the tests, whose numbers mean nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from experiment import faithful, on_boxes, on_scenes
from experiment.controls import randomised, right
from experiment.page import page
from experiment.summaries import summaries

from spikeattn.stats.intervals import wilson_interval
from spikeattn.storage import csv_text

OUT = Path(__file__).resolve().parents[1] / "reports" / "attention" / "experiment"
SCENES = on_scenes.Extent(seeds=5, scenes=60, replicates=100, epochs=40, nulls=("normal", "patch"))
BOXES = on_boxes.Extent(photos=300, replicates=100, epochs=20, nulls=("pixel",), training_photos=100)
SMALL_SCENES = on_scenes.Extent(seeds=2, scenes=4, replicates=10, epochs=1, nulls=("normal",))
SMALL_BOXES = on_boxes.Extent(photos=6, replicates=10, epochs=1, nulls=("pixel",), training_photos=6, limit=128)
CONTROL_SEEDS, NORM_IMAGES, CIFAR_IMAGES = 3, 500, 1000
CURVES, CHECK_REPLICATES = 100, 50  # photos of deletion and insertion; replicates of the check by randomised weights


def options(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--boxes", type=Path, metavar="DIR", help="train.parquet and val.parquet of photos with boxes: parts b, c, d")
    add("--cifar10", type=Path, metavar="DIR", help="CIFAR-10, for part c")
    add("--parts", default="abcd", help="some of a (scenes), b (photos), c (control), d (faithfulness)")
    add("--work", type=Path, default=Path("experiment-work"), help="weights and scores (default: experiment-work)")
    add("--out", type=Path, default=OUT)
    add("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    add("--small", action="store_true", help="a minute or two: seeds, images, replicates and epochs are cut")
    args = parser.parse_args(given)
    if strange := set(args.parts) - set("abcd"):
        parser.error(f"--parts {args.parts}: {', '.join(sorted(strange))} is none of a, b, c, d")
    if args.boxes is None:
        args.parts = "".join(part for part in args.parts if part not in "bd")
    return args


def main(given: list[str] | None = None) -> None:
    args = options(given)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    tables: dict[str, pd.DataFrame] = {}
    if "a" in args.parts:
        tables["scenes"], tables["alarms"] = on_scenes.run(SMALL_SCENES if args.small else SCENES, args.work)
    if args.boxes is not None and set("bcd") & set(args.parts):
        tables |= photos(args)
    if args.cifar10 is not None and "c" in args.parts:
        tables["cifar10"] = cifar10(args)
    found = summaries(tables)
    for name, table in found.items():
        csv_text.save(table, args.out / f"{name}.csv", "%.4g")
    (args.out / "README.md").write_text(page(found, args, time.perf_counter() - start), encoding="utf-8")


def photos(args: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Parts b, d, and c on the photos: by network, trained and with q and k randomised."""
    extent = SMALL_BOXES if args.small else BOXES
    folder = on_boxes.unpack(args.boxes, args.work / "boxes")
    maps, accuracies, curves, checks = [], [], [], []
    for which in on_boxes.NETWORKS:
        model = on_boxes.network(which, extent, folder, args.work)
        every = on_boxes.data(args.boxes, args.work, model, 20 if args.small else 1000, "test")
        train = on_boxes.data(args.boxes, args.work, model, 20 if args.small else NORM_IMAGES, "train")
        shown = on_boxes.data(args.boxes, args.work, model, extent.photos, "test")
        fixed = on_boxes.data(args.boxes, args.work, model, extent.training_photos, "train")
        accuracies.append(accuracy(which, "trained", right(model, every.images, every.labels), len(every.labels)))
        if "b" in args.parts:
            maps.append(on_boxes.run(model, which, shown, fixed, extent, args.work))
        if "d" in args.parts:
            images = shown.images[: 6 if args.small else CURVES]
            null, B = extent.nulls[0], extent.replicates
            curves.append(faithful.curves(model, which, images, null, B, args.work))
            checks.append(faithful.sanity(model, which, shown.images, null, 10 if args.small else CHECK_REPLICATES))
        if "c" in args.parts:
            for seed in range(1 if args.small else CONTROL_SEEDS):
                other = randomised(model, train.images, seed)
                correct = right(other, every.images, every.labels)
                accuracies.append(accuracy(which, f"q, k randomised {seed}", correct, len(every.labels)))
                if seed == 0:
                    maps.append(on_boxes.run(other, f"{which}, q and k randomised", shown, fixed, extent, args.work))
    tables = {"photos": maps, "accuracy": accuracies, "curves": curves, "sanity": checks}
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts}


def cifar10(args: argparse.Namespace) -> pd.DataFrame:
    """Accuracy of the networks of reports/cifar10, trained and with q and k randomised."""
    rows = []
    for which in on_boxes.NETWORKS:
        n = 20 if args.small else CIFAR_IMAGES
        model, images, labels, train = faithful.cifar10(args.cifar10, which, n)
        rows.append(accuracy(which, "trained", right(model, images, labels), n))
        for seed in range(1 if args.small else CONTROL_SEEDS):
            other = randomised(model, train[:NORM_IMAGES], seed)
            rows.append(accuracy(which, f"q, k randomised {seed}", right(other, images, labels), n))
    return pd.concat(rows, ignore_index=True)


def accuracy(network: str, weights: str, correct: int, n: int) -> pd.DataFrame:
    interval = wilson_interval(correct, n)
    return pd.DataFrame(
        [{"network": network, "weights": weights, "images": n, "accuracy": interval.value, "low": interval.low,
          "high": interval.high}]
    )  # fmt: skip


if __name__ == "__main__":
    main()

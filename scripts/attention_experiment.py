"""Does the bootstrap of attention find what is there better than what costs nothing to do? The whole experiment.

    python scripts/attention_experiment.py --boxes tiny_imagenet_boxes --cifar10 cifar10_jpg

trains what is not trained yet, measures what is not measured yet, and writes the tables and the page into
reports/attention; a run of fewer parts, or --small, writes into --work. Weights and scores stay in --work, and an
interrupted experiment goes on from there; parts may run side by side in one --work (--parts a and --parts bcd), and the
command without --parts then writes the page of them all. Some hours on two cores, most of them training; --small takes
minutes, for the tests, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from experiment import on_boxes, on_cifar10, on_scenes
from experiment.page import page
from experiment.summaries import summaries

from spikeattn.storage import csv_text, files

OUT = Path(__file__).resolve().parents[1] / "reports" / "attention"
SCENES = on_scenes.Extent(
    seeds=5,
    scenes=30,
    replicates=100,
    epochs=40,
    maps=(("Vhat_S", "normal"), ("Vhat_S", "patch"), ("drive", "normal")),
)
BOXES = on_boxes.Extent(
    photos=200,
    training_photos=60,
    test=1000,
    curves=100,
    steps=16,
    checked=8,
    check_replicates=50,
    replicates=100,
    redraws=3,
    epochs=20,
    null="pixel",
)
CIFAR10 = on_cifar10.Extent(images=500, shown=20, replicates=60, redraws=3, steps=16, null="pixel")
SMALL_SCENES = on_scenes.Extent(seeds=2, scenes=3, replicates=5, epochs=1, maps=(("Vhat_S", "normal"),))
SMALL_BOXES = on_boxes.Extent(
    photos=4,
    training_photos=4,
    test=20,
    curves=2,
    steps=2,
    checked=2,
    check_replicates=5,
    replicates=5,
    redraws=1,
    epochs=1,
    null="pixel",
    limit=64,
)
SMALL_CIFAR10 = on_cifar10.Extent(images=4, shown=2, replicates=5, redraws=1, steps=2, null="pixel")


def options(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--boxes", type=Path, metavar="DIR", help="train.parquet and val.parquet of photos with boxes: parts b, c, d")
    add("--cifar10", type=Path, metavar="DIR", help="CIFAR-10, for part c")
    add("--parts", default="abcd", help="some of a (scenes), b (photos), c (control), d (faithfulness)")
    add("--work", type=Path, default=Path("experiment-work"), help="weights and scores (default: experiment-work)")
    add("--out", type=Path, help="default: reports/attention; of fewer parts and of --small, WORK/report")
    add("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    add("--small", action="store_true", help="a minute or two: seeds, images, replicates and epochs are cut")
    args = parser.parse_args(given)
    if strange := set(args.parts) - set("abcd"):
        parser.error(f"--parts {args.parts}: {', '.join(sorted(strange))} is none of a, b, c, d")
    if not args.parts:
        parser.error("--parts: give some of a, b, c, d")
    if args.boxes is None and set("bd") & set(args.parts):
        parser.error("parts b and d need --boxes DIR; without it give --parts a or --parts ac")
    if "c" in args.parts and args.cifar10 is None:
        print("part c goes without CIFAR-10: no --cifar10")
    if "c" in args.parts and args.boxes is None:
        print("part c goes without the photos: no --boxes")
    whole = set(args.parts) == set("abcd") and args.cifar10 is not None and not args.small
    args.out = args.out or (OUT if whole else args.work / "report")
    return args


def main(given: list[str] | None = None) -> None:
    args = options(given)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    on = (SMALL_SCENES, SMALL_BOXES, SMALL_CIFAR10) if args.small else (SCENES, BOXES, CIFAR10)
    tables: dict[str, list[pd.DataFrame]] = {}
    if set("ac") & set(args.parts):
        _add(tables, on_scenes.run(on[0], args.work, args.parts))
    if args.boxes is not None and set("bcd") & set(args.parts):
        _add(tables, on_boxes.run(args.boxes, on[1], args.work, args.parts))
    if args.cifar10 is not None and "c" in args.parts:
        _add(tables, on_cifar10.run(args.cifar10, on[2], args.work))
    found = summaries({name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()})
    for name, table in found.items():
        csv_text.save(table, args.out / f"{name}.csv", "%.6g")
    found = {name: csv_text.read(args.out / f"{name}.csv") for name in found}  # the page says what the tables say
    sizes = dict(zip(("scenes", "photos", "CIFAR-10"), on, strict=True))
    files.write(args.out / "README.md", page(found, args, sizes, time.perf_counter() - start))


def _add(tables: dict[str, list[pd.DataFrame]], more: dict[str, pd.DataFrame]) -> None:
    for name, table in more.items():
        tables.setdefault(name, []).append(table)


if __name__ == "__main__":
    main()

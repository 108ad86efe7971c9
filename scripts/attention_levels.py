"""How often `attend` calls something where there is nothing, and where there is: every model, layer and null.

    python scripts/attention_levels.py [--cifar10 DIR] [--photos DIR] [--models NAME ...] [--replicates B ...]

writes reports/attention/levels.csv, part by part, and levels.md. Rows that are there already, of the same settings and
the same code of the tests, stay as they are, so that an interrupted run goes on. All of it takes about two hours on one
core, most of them for passes of up to 60 images and 201 replicates of each null; --maps keeps their maps for another
time. Rows of other models or settings stay in the file, too: give another --out where they do not belong together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from levels.cells import Settings, rows, settings
from levels.draws import draw
from levels.networks import MODELS, networks
from levels.page import page

from spikeattn.errors import SpikeattnError
from spikeattn.storage import csv_text, files

OUT = Path(__file__).parents[1] / "reports" / "attention"
REPLICATES = (100, 200)


def parser() -> argparse.ArgumentParser:
    """The options."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cifar10", type=Path, help="folder with test.parquet and train.parquet")
    words.add_argument("--photos", type=Path, help="folder with val/<wnid>/*.JPEG")
    words.add_argument("--models", nargs="+", help=f"of {', '.join(MODELS)}; by default all whose data are given")
    words.add_argument("--nulls", nargs="+", help="by default all that fit the model")
    words.add_argument("--replicates", nargs="+", type=int, default=list(REPLICATES), help="B, one or several")
    words.add_argument("--images", type=int, default=12, help="per model, of whose replicates each is tested in turn")
    words.add_argument("--real-images", type=int, help="at most so many per model; by default 60 digits, 20, 4 photos")
    words.add_argument("--signals", type=int, default=300, help="maps per cell into which signals are planted")
    words.add_argument("--maps", type=Path, help="folder for the maps of all passes, where a later run finds them")
    words.add_argument("--out", type=Path, default=OUT)
    return words


def stored(table: Path) -> pd.DataFrame:
    """The rows that are there; none where they are not of this edition's columns."""
    frame = csv_text.read(table) if table.is_file() else pd.DataFrame()
    columns = {"model", "null", "replicates", "test", *Settings.__dataclass_fields__}
    return frame if columns <= set(frame.columns) else pd.DataFrame()


def missing(frame: pd.DataFrame, model: str, null: str, replicates: list[int], chosen: Settings) -> list[int]:
    """The numbers of replicates of which `frame` has no rows of these settings."""
    if frame.empty:
        return replicates
    same = (frame["model"] == model) & (frame["null"] == null)
    for name, value in vars(chosen).items():
        same &= frame[name].astype(str) == str(value)
    return [B for B in replicates if B not in set(frame.loc[same, "replicates"])]


def joined(frame: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """The rows of both; those of `part` take the place of rows of the same cells."""
    if frame.empty:
        return part
    keys = ["model", "null", "replicates"]
    old = frame.merge(part[keys].drop_duplicates(), how="left", on=keys, indicator=True)["_merge"] == "left_only"
    return pd.concat([frame[old.to_numpy()], part], ignore_index=True)


def main() -> None:
    """Measure what is missing, write it down part by part, and the page at the end."""
    options = parser().parse_args()
    torch.set_num_threads(1)
    start, table = time.perf_counter(), options.out / "levels.csv"
    options.out.mkdir(parents=True, exist_ok=True)
    frame = stored(table)
    for network in networks(options.models, options.real_images, options.cifar10, options.photos):
        images = min(options.images, len(network.images))
        chosen = settings(images, len(network.images), options.signals)
        for null in options.nulls or network.nulls:
            wanted = missing(frame, network.name, null, options.replicates, chosen)
            if not wanted:
                continue
            drawn = draw(network, null, max(options.replicates) + 1, options.maps)
            for B in wanted:
                part = pd.DataFrame([{"model": network.name, "null": null, **row} for row in rows(drawn, B, chosen)])
                frame = joined(frame, part)
                csv_text.save(frame, table, "%.4f")
                print(f"{time.perf_counter() - start:6.0f} s  {network.name} {null} B = {B}", flush=True)
    folders = [f"--{name} DIR" for name in ("cifar10", "photos") if getattr(options, name) is not None]
    command = " ".join(["python scripts/attention_levels.py", *folders])
    files.write(options.out / "levels.md", page(csv_text.read(table), command))


if __name__ == "__main__":
    try:
        main()
    except SpikeattnError as error:
        raise SystemExit(f"error: {error}") from None

"""The page of the experiment: what came out first, then every table with the command that makes it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pandas as pd

from . import on_boxes
from .conclusion import NOT_TOLD, conclusion, of, verdict
from .on_scenes import TRAINED
from .summaries import CUT, RAW

Lines = list[str]


def page(tables: dict[str, pd.DataFrame], args: argparse.Namespace, sizes: dict[str, Any], seconds: float) -> str:
    """README.md of the results."""
    given = "".join(f" --{name} DIR" for name in ("boxes", "cifar10") if getattr(args, name) is not None)
    parts = "" if args.parts == "abcd" else f" --parts {args.parts}"
    command = f"python scripts/attention_experiment.py{given}{parts}{' --small' if args.small else ''}"
    lines = ["# Does the bootstrap of attention find what is there better than what costs nothing to do?", ""]
    if args.small:
        lines += ["**A trial (--small): everything is cut short, and the numbers mean nothing.**", ""]
    lines += [*conclusion(tables), *NETWORKS, *_sizes(sizes)]
    for title, (names, answer) in QUESTIONS.items():
        missing = ", ".join(name for name in names if name not in tables)
        said = [f"Not answered: {missing} not measured."] if missing else answer(*(tables[name] for name in names))
        lines += [f"**{title}**", "", *said, ""]
    lines += [
        f"`{command}` makes the tables and this page ({seconds:.0f} s for what was not there yet). Intervals of 95 % "
        "over images, on scenes over training seeds and images together. `more` in the csv files is the paired "
        "difference from the raw map (scores), or from one threshold for all images (rules). Layers count from 0. "
        "Seed 0 of the scenes is the shipped network.",
    ]
    for name, (title, shown) in TABLES.items():
        if name in tables:
            lines += ["", f"## {title}", "", f"`{name}.csv`, {len(tables[name])} rows; `{command}`.", ""]
            lines += [str(shown(tables[name]).to_markdown(index=False, floatfmt=".3f"))]
    return "\n".join(lines) + "\n"


def _sizes(extents: dict[str, Any]) -> Lines:
    """How large each part was."""
    texts = []
    for name, extent in extents.items():
        sizes = {key: value for key, value in asdict(extent).items() if value is not None and key != "maps"}
        words = ", ".join(f"{key} {value}" for key, value in sizes.items()).replace("_", " ")
        texts.append(f"{name}: {words}")
    return [f"**Sizes.** {'; '.join(texts)}.", ""]


def _tally(rows: pd.DataFrame, what: str) -> str:
    """How often a way is better or worse than what it is compared with, over maps and settings."""
    found = rows.apply(verdict, axis=1).value_counts()
    counts = ", ".join(f"{found.get(name, 0)} {name}" for name in ("better", "worse", NOT_TOLD))
    return f"- {what}: {counts}, of {len(rows)} maps and settings; on average {rows['more'].mean():+.3f}."


def _ranking(scenes: pd.DataFrame, photos: pd.DataFrame) -> Lines:
    lines = []
    for where, table in {"Scenes, digit against noise": scenes, "Photos, box against the rest": photos}.items():
        ranks = of(table, measure="auc", weights=TRAINED)
        best = of(ranks, way=RAW)["mean"]
        lines.append(f"- {where}: AUC of the raw maps {best.min():.3f} to {best.max():.3f}.")
        for way in ("how much", "where", "gradient", "centre", "random"):
            if len(one := of(ranks, way=way)):
                lines.append("  " + _tally(one, f'"{way}" against the raw map'))
    return lines


def _choice(scenes: pd.DataFrame, photos: pd.DataFrame) -> Lines:
    lines = []
    for where, table, measure in (
        ("Scenes, share of the digit's tokens kept less that of the noise's", scenes, "digit - noise"),
        ("Photos, share of the box kept less that of the rest", photos, "in - outside"),
    ):
        lines.append(f"- {where}:")
        rows = of(table, measure=measure, weights=TRAINED)
        for way in (way for way in dict.fromkeys(rows["way"]) if way != CUT):
            lines.append("  " + _tally(of(rows, way=way), f"{way} against {CUT}"))
    return lines


def _alarm(alarms: pd.DataFrame) -> Lines:
    shown = of(alarms, measure="any", weights=TRAINED)
    lines = []
    for way, rows in shown.groupby("way", sort=False):
        rates = rows.groupby("shown", sort=False)["mean"].agg(["mean", "max"])
        texts = (f"{what} {rate['mean']:.3f} (at most {rate['max']:.3f})" for what, rate in rates.iterrows())
        lines.append(f"- {way}: something is called in {', '.join(texts)} of the images.")
    return lines


def _control(accuracy: pd.DataFrame, scenes: pd.DataFrame, photos: pd.DataFrame) -> Lines:
    lines = []
    for (data, network), rows in accuracy.groupby(["data", "network"], sort=False):
        texts = [f"{row['weights']} {row['accuracy']:.3f}" for _, row in rows.iterrows()]
        lines.append(f"- Accuracy, {data}, {network}: {', '.join(texts)}.")
    for name, table, keys in (
        ("Scenes", of(scenes, measure="auc", contrast=1.0), ["kind", "null", "layer", "noises"]),
        ("Photos", of(photos, measure="auc"), ["network", "kind", "layer"]),
    ):
        for way in (RAW, "how much", "where"):
            wide = of(table, way=way).assign(of=lambda t: t["weights"] == TRAINED)
            both = wide.pivot_table(index=keys, columns="of", values="mean", aggfunc="first").dropna()
            if len(both.columns) == 2 and len(both):
                lines.append(
                    f'- {name}, AUC of "{way}" over {len(both)} maps and settings: trained {both[True].mean():.3f}, '
                    f"q and k randomised {both[False].mean():.3f}; lower in "
                    f"{int((both[False] < both[True]).sum())} of them."
                )
    return lines


def _faithful(curves: pd.DataFrame, sanity: pd.DataFrame) -> Lines:
    lines = []
    for (data, network, weights, measure), rows in curves.groupby(
        ["data", "network", "weights", "measure"], sort=False
    ):
        texts = []
        for _, row in rows.sort_values("mean", ascending=measure == "deletion").iterrows():
            told = "" if row["way"] == RAW or verdict(row) == NOT_TOLD else " *"
            texts.append(f"{row['way']} {row['mean']:.3f}{told}")
        lines.append(f"- {data}, {network}, {weights}, area under {measure}, best first: {', '.join(texts)}.")
    lines.append("  (* differs from the raw map, paired over images.)")
    for network, rows in sanity.groupby("network", sort=False):
        last = rows.iloc[-1]
        lines.append(
            f"- {network}, all weights permuted: rank correlation of the raw map with that of the trained network "
            f"{last['spearman']:.3f}, Jaccard index of what is called {last['jaccard']:.3f}."
        )
    return lines


NETWORKS = [
    "**Networks.** Scenes: SDT-2-48 at T = 2, 10 classes, digits on 32x32 pixels with 0 to 2 squares of noise, "
    "`python scripts/train_scenes.py --epochs 40 --seed SEED --out FILE`; seed 0 is the shipped one. Photos: "
    f"{', '.join(f'{which} = {name}' for which, (name, _) in on_boxes.NETWORKS.items())} with "
    f"{', '.join(f'{key}={value}' for key, value in on_boxes.SHAPE.items())}, T = 2 for sdt, seed 0, "
    f"`train.py {' '.join(on_boxes.RECIPE)}`; boxes are not used in training. CIFAR-10: the networks of "
    "[reports/cifar10](../cifar10). Only the scenes have several training seeds: what is said of photos and "
    "CIFAR-10 is said of one network each.",
    "",
]

# Title: the tables that it rests on, and what says it.
QUESTIONS: dict[str, tuple[tuple[str, ...], Callable[..., Lines]]] = {
    "As a ranking of tokens": (("scenes", "photos"), _ranking),
    "As a choice of tokens": (("scenes", "photos"), _choice),
    "Is anything there?": (("alarms",), _alarm),
    "Does it rest on what q and k have learned?": (("accuracy", "scenes", "photos"), _control),
    "Does the prediction rest on it?": (("curves", "sanity"), _faithful),
}


def _wide(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row per map and setting, a column per way: mean [low, high]."""
    shown = table.assign(text=[f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in table[["mean", "low", "high"]].to_numpy()])
    ways = list(dict.fromkeys(table["way"]))
    return shown.pivot_table(index=keys, columns="way", values="text", aggfunc="first", sort=False)[ways].reset_index()


def _scenes(table: pd.DataFrame) -> pd.DataFrame:
    return _wide(of(table, measure="auc"), ["weights", "kind", "null", "layer", "noises", "contrast"])


def _photos(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["measure"].isin(["auc", "pointing", "energy inside", "iou"])]
    return _wide(rows, ["measure", "network", "weights", "kind", "layer"])


TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "scenes": ("Digit scenes with planted noise: AUC of digit against noise", _scenes),
    "alarms": (
        "Is anything called?",
        lambda table: _wide(of(table, measure="any"), ["weights", "kind", "null", "layer", "shown"]),
    ),
    "photos": ("Photos with object boxes", _photos),
    "accuracy": ("Accuracy, trained and with q and k randomised", lambda table: table),
    "curves": (
        "Deletion and insertion",
        lambda table: _wide(table, ["data", "network", "weights", "kind", "measure"]),
    ),
    "sanity": ("Maps while weights are randomised, from the last layer on", lambda table: table),
}

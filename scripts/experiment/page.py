"""The page of the experiment: what came out first, then every table with the command that makes it."""

from __future__ import annotations

import argparse

import pandas as pd

from .summaries import CUT, RAW

TABLES = {
    "scenes": "Digit scenes with planted noise, several training seeds",
    "alarms": "Is anything called where there is something, and where there is nothing?",
    "photos": "Photos with object boxes",
    "accuracy": "Accuracy, trained and with q and k randomised",
    "cifar10": "The same on CIFAR-10",
    "curves": "Deletion and insertion",
    "sanity": "Maps while weights are randomised",
}
NOT_TOLD = "not told apart"


def page(tables: dict[str, pd.DataFrame], args: argparse.Namespace, seconds: float) -> str:
    """README.md of the results."""
    given = "".join(f" --{name} DIR" for name in ("boxes", "cifar10") if getattr(args, name) is not None)
    parts = "" if args.parts == "abcd" else f" --parts {args.parts}"
    lines = ["# Does the bootstrap of attention find what is there better than what costs nothing to do?", ""]
    if args.small:
        lines += [
            "**A trial (--small): seeds, images, replicates and epochs are cut, and the numbers mean nothing.**",
            "",
        ]
    lines += [line for name, say in CONCLUSIONS.items() if name in tables for line in say(tables[name])]
    lines += [
        "",
        f"`python scripts/attention_experiment.py{given}{parts}`: {seconds:.0f} s for what was not there yet. "
        "Intervals of 95 % over images, on scenes over training seeds and images together. `more` is the paired "
        "difference from the raw map (scores), or from one threshold for all images (rules).",
    ]
    for name, title in TABLES.items():
        if name in tables:
            table = tables[name]
            lines += ["", f"## {title}", "", f"`{name}.csv`, {len(table)} rows."]
            if name in SHOWN:
                lines += ["", _markdown(SHOWN[name](table))]
    return "\n".join(lines) + "\n"


def _of(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def _verdict(row: pd.Series) -> str:
    """What a paired difference with its limits says."""
    if pd.isna(row["more_low"]):
        return NOT_TOLD
    return "better" if row["more_low"] > 0 else "worse" if row["more_high"] < 0 else NOT_TOLD


def _tally(rows: pd.DataFrame, what: str) -> str:
    """How often a way is better or worse than what it is compared with, over maps and settings."""
    found = rows.apply(_verdict, axis=1).value_counts()
    counts = ", ".join(f"{found.get(name, 0)} {name}" for name in ("better", "worse", NOT_TOLD))
    return f"- {what}: {counts}, of {len(rows)} maps and settings; on average {rows['more'].mean():+.3f}."


def _of_scenes(table: pd.DataFrame) -> list[str]:
    ranks, chosen = _of(table, measure="auc"), _of(table, measure="digit - noise")
    lines = ["Scenes, digit against noise:", ""]
    lines += [
        _tally(_of(ranks, way=way), f'AUC of the test\'s z ("{way}") against that of the raw map')
        for way in ("how much", "where")
    ]
    lines += [
        _tally(_of(chosen, way=way), f"share of the digit's tokens kept less that of the noise's, {way}, against {CUT}")
        for way in ("bootstrap, how much", "bootstrap, where")
    ]
    return [*lines, ""]


def _of_alarms(table: pd.DataFrame) -> list[str]:
    nothing = _of(_of(table, shown="a draw of the null"), measure="any").groupby("way")["mean"].agg(["mean", "max"])
    lines = ["Where there is nothing (a draw of the null), something is called in:", ""]
    lines += [
        f"- {way}: {row['mean']:.3f} of the images on average, at most {row['max']:.3f}"
        for way, row in nothing.iterrows()
    ]
    return [*lines, ""]


def _of_photos(table: pd.DataFrame) -> list[str]:
    lines = ["Photos, tokens in the box against those outside:", ""]
    for network, rows in table[table["kind"] != "none"].groupby("network", sort=False):
        ranks = _of(rows, measure="auc")
        raw = _of(ranks, way=RAW).sort_values("mean").iloc[-1]
        lines.append(
            f"- {network}: the best raw map ({raw['kind']}, block {raw['layer'] + 1}) has an AUC of {raw['mean']:.3f} "
            f"[{raw['low']:.3f}, {raw['high']:.3f}]."
        )
        for way in ("how much", "where", "gradient"):
            if len(one := _of(ranks, way=way)):
                lines.append("  " + _tally(one, f'AUC of "{way}" against the raw map'))
    prior = _of(_of(table, measure="auc", kind="none"), way="centre")
    if len(prior):
        row = prior.iloc[0]
        lines.append(f"- A prior for the centre of the photo: {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}].")
    return [*lines, ""]


def _of_accuracy(table: pd.DataFrame) -> list[str]:
    lines = ["q and k randomised:", ""]
    for network, rows in table.groupby("network", sort=False):
        trained = _of(rows, weights="trained").iloc[0]
        others = rows[rows["weights"] != "trained"]["accuracy"]
        text = f"- {network}: accuracy {trained['accuracy']:.3f} [{trained['low']:.3f}, {trained['high']:.3f}]"
        lines.append(
            f"{text}, randomised {', '.join(f'{value:.3f}' for value in others)}." if len(others) else f"{text}."
        )
    return [*lines, ""]


def _of_curves(table: pd.DataFrame) -> list[str]:
    lines = ["Faithfulness (areas; deletion low and insertion high is good):", ""]
    for (network, measure), rows in table.groupby(["network", "measure"], sort=False):
        means = ", ".join(f"{row['way']} {row['mean']:.3f}" for _, row in rows.sort_values("mean").iterrows())
        lines.append(f"- {network}, {measure}: {means}.")
    return [*lines, ""]


CONCLUSIONS = {
    "scenes": _of_scenes,
    "alarms": _of_alarms,
    "photos": _of_photos,
    "accuracy": _of_accuracy,
    "cifar10": _of_accuracy,
    "curves": _of_curves,
}


def _wide(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row per map and setting, a column per way: mean [low, high]."""
    shown = table.assign(text=[f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in table[["mean", "low", "high"]].to_numpy()])
    ways = list(dict.fromkeys(table["way"]))
    return shown.pivot_table(index=keys, columns="way", values="text", aggfunc="first", sort=False)[ways].reset_index()


SHOWN = {
    "scenes": lambda table: _wide(_of(_of(table, measure="auc"), contrast=1.0), ["kind", "null", "layer", "noises"]),
    "alarms": lambda table: _wide(_of(table, measure="any"), ["kind", "null", "layer", "shown"]),
    "photos": lambda table: _wide(_of(table, measure="auc"), ["network", "kind", "null", "layer"]),
    "accuracy": lambda table: table,
    "cifar10": lambda table: table,
    "sanity": lambda table: table,
}


def _markdown(table: pd.DataFrame) -> str:
    return str(table.to_markdown(index=False, floatfmt=".3f"))

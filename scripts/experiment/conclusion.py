"""What the experiment says, in a few sentences whose numbers and verdicts are read from its tables."""

from __future__ import annotations

import pandas as pd

from spikeattn.attention.regularize import LEVEL

from .on_scenes import TRAINED
from .summaries import CUT, RAW

NOT_TOLD = "not told apart"
MOST = 0.5  # of maps and settings: a way that is better in more of them has won, worse in more lost
WON, LOST, EVEN = "yes", "no", "it makes no difference in most"
Lines = list[str]


def of(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The rows that have these values."""
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def verdict(row: pd.Series) -> str:
    """What a paired difference with its limits says."""
    if pd.isna(row["more_low"]):
        return NOT_TOLD
    return "better" if row["more_low"] > 0 else "worse" if row["more_high"] < 0 else NOT_TOLD


def conclusion(tables: dict[str, pd.DataFrame]) -> Lines:
    """The lines that the page begins with; none where a part was not measured."""
    if not {"scenes", "alarms", "photos", "accuracy"} <= set(tables):
        return []
    scenes, photos = of(tables["scenes"], weights=TRAINED), of(tables["photos"], weights=TRAINED)
    ranks = pd.concat([of(scenes, measure="auc"), of(photos, measure="auc")])
    choices = pd.concat([of(scenes, measure="digit - noise"), of(photos, measure="in - outside")])
    alarms = of(tables["alarms"], measure="any", weights=TRAINED)
    uses = {
        "to order tokens": _answer(of(ranks, way="how much")),
        "to choose tokens": _answer(of(choices, way="bootstrap, how much")),
        "to say whether anything is there": WON if _over(alarms, "how much")[0] == 0 else LOST,
    }
    right, wrong = ([use for use, answer in uses.items() if (answer == WON) is won] for won in (True, False))
    return [
        "**Conclusion.**",
        "",
        f'- The bootstrap ("how much") is right {", ".join(right) or "for none of these uses"}'
        f"{', not ' + ' nor '.join(wrong) if wrong else ''}.",
        f"- **To order tokens: {uses['to order tokens']}.** z against the raw map, by AUC: "
        f"{_both(ranks, '')} (maps and settings, paired 95 % intervals).",
        f"- **To choose tokens: {uses['to choose tokens']}.** q <= .1 against one {CUT} of the raw map for all images "
        f"at as many tokens: {_both(choices, 'bootstrap, ')}.",
        _presence(alarms, uses["to say whether anything is there"]),
        _objects(of(photos, measure="auc")),
        _learned(tables),
        "",
    ]


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    """How often a way is better, worse, and not told apart from what it is compared with."""
    found = rows.apply(verdict, axis=1).value_counts()
    return {name: int(found.get(name, 0)) for name in ("better", "worse", NOT_TOLD)}


def _words(rows: pd.DataFrame) -> str:
    return ", ".join(f"{name} in {number}" for name, number in _counts(rows).items())


def _both(rows: pd.DataFrame, prefix: str) -> str:
    return "; ".join(f'"{name}" {_words(of(rows, way=prefix + name))}' for name in ("how much", "where"))


def _answer(rows: pd.DataFrame) -> str:
    counts = _counts(rows)
    return next((say for name, say in (("better", WON), ("worse", LOST)) if counts[name] > MOST * len(rows)), EVEN)


def _over(alarms: pd.DataFrame, question: str) -> tuple[int, int]:
    """In how many maps images of noise alone are called more often than the level says, and of how many."""
    rates = of(alarms, way=f"bootstrap, {question}", shown="a draw of the null")["mean"]
    return int((rates > LEVEL).sum()), len(rates)


def _presence(alarms: pd.DataFrame, answer: str) -> str:
    texts = []
    ways = {'"how much"': "bootstrap, how much", '"where"': "bootstrap, where"}
    for name, way in (ways | {"a threshold of the raw map that null draws fix": "null threshold"}).items():
        null, digit = (of(alarms, way=way, shown=what)["mean"] for what in ("a draw of the null", "a digit and noise"))
        texts.append(f"{name}: {null.mean():.3f} (at most {null.max():.3f}) and {digit.mean():.3f}")
    over = ", ".join('"{}" in {} of {} maps'.format(name, *_over(alarms, name)) for name in ("how much", "where"))
    return (
        f"- **To say whether anything is there: {answer}.** q <= .1 calls something in this share of the images "
        f"without and with a digit: {'; '.join(texts)}. Over .1 without a digit: {over}. "
        "That threshold takes replicates of training images once, none of the image at hand."
    )


def _objects(ranks: pd.DataFrame) -> str:
    raw, centre = of(ranks, way=RAW)["mean"], of(ranks, way="centre")
    return (
        f"- **Where the object of a photo is**: AUC of the raw maps {raw.min():.3f} to {raw.max():.3f}, of the "
        f"distance from the picture's centre {centre['mean'].mean():.3f} ({_words(centre)})."
    )


def _learned(tables: dict[str, pd.DataFrame]) -> str:
    accuracy = tables["accuracy"].assign(trained=lambda t: t["weights"] == TRAINED)
    accuracy["on"] = accuracy["data"] + " " + accuracy["network"].str.split("_").str[0]
    means = accuracy.pivot_table(index="on", columns="trained", values="accuracy", sort=False)
    texts = [f"{on} {row[True]:.3f} to {row[False]:.3f}" for on, row in means.iterrows()]
    aucs = []
    for name, keys in (
        ("scenes", ["kind", "null", "layer", "noises", "contrast"]),
        ("photos", ["network", "kind", "layer"]),
    ):
        table = of(tables[name], measure="auc", way=RAW).assign(trained=lambda t: t["weights"] == TRAINED)
        both = table.pivot_table(index=keys, columns="trained", values="mean").dropna()
        aucs.append(f"{both[True].mean():.3f} to {both[False].mean():.3f} on {name} ({len(both)} maps and settings)")
    return (
        f"- **With q and k randomised** accuracy goes from {', '.join(texts)}; AUC of the raw maps from "
        f"{', '.join(aucs)}. What is left rests on other weights than those of q and k."
    )

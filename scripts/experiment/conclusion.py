"""What the experiment says, in a few sentences whose numbers and verdicts are read from its tables."""

from __future__ import annotations

import pandas as pd

from spikeattn.attention.regularize import LEVEL

from .summaries import CUT, RAW

TRAINED = "trained"
NOT_TOLD = "not told apart"
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
    if not {"scenes", "alarms", "photos", "accuracy", "curves"} <= set(tables):
        return []
    scenes, photos = of(tables["scenes"], weights=TRAINED), of(tables["photos"], weights=TRAINED)
    ranks = pd.concat([of(scenes, measure="auc"), of(photos, measure="auc")])
    choices = pd.concat([of(scenes, measure="digit - noise"), of(photos, measure="in - outside")])
    return [
        "**Conclusion.**",
        "",
        _ranking(ranks),
        _choosing(choices),
        _presence(of(tables["alarms"], measure="any", weights=TRAINED)),
        _objects(of(photos, measure="auc")),
        _learned(tables),
        "- So: ask the bootstrap whether a map has more attention than noise gets, an error rate included. Order "
        "tokens by the raw map, and do not call the tokens that a test leaves the object.",
        "",
    ]


def _counts(rows: pd.DataFrame, ways: list[str]) -> tuple[int, int, int, str]:
    """How often these ways are better, worse, and not told apart from what they are compared with; and in words."""
    found = of_ways(rows, ways).apply(verdict, axis=1).value_counts()
    better, worse, level = (int(found.get(name, 0)) for name in ("better", "worse", NOT_TOLD))
    return better, worse, level, f"better in {better}, worse in {worse}, not told apart in {level}"


def of_ways(rows: pd.DataFrame, ways: list[str]) -> pd.DataFrame:
    return rows[rows["way"].isin(ways)]


def _answer(better: int, worse: int) -> str:
    return "no" if better < worse else "yes" if better > worse else "it makes no difference"


def _ranking(ranks: pd.DataFrame) -> str:
    better, worse, _, counts = _counts(ranks, ["how much"])
    where = _counts(ranks, ["where"])[3]
    return (
        f'- **To order tokens: {_answer(better, worse)}.** z of "how much" against the raw map, by AUC: {counts}; z of '
        f'"where": {where} (maps and settings, paired 95 % intervals).'
    )


def _choosing(choices: pd.DataFrame) -> str:
    better, worse, _, counts = _counts(choices, ["bootstrap, how much"])
    where = _counts(choices, ["bootstrap, where"])[3]
    return (
        f"- **To choose tokens: {_answer(better, worse)}**, not against one {CUT} of the raw map for all images at as "
        f'many tokens: q <= .1 of "how much" is {counts}; of "where" {where}.'
    )


def _presence(alarms: pd.DataFrame) -> str:
    def rates(way: str, what: str) -> tuple[float, float]:
        values = of(alarms, way=way, shown=what)["mean"]
        return float(values.mean()), float(values.max())

    null, digit = "a draw of the null", "a digit and noise"
    much, where, cut = "bootstrap, how much", "bootstrap, where", "null threshold"
    nulls = of(alarms, shown=null)
    over = ", ".join(
        f"{name} is over .1 in {int((of(nulls, way=way)['mean'] > LEVEL).sum())} of {len(of(nulls, way=way))} maps"
        for name, way in (('"how much"', much), ('"where"', where))
    )
    kept = "yes" if rates(much, null)[0] <= LEVEL and rates(where, null)[0] <= LEVEL else "not at the level it names"
    texts = [
        f"{name}: {rates(way, null)[0]:.3f} (at most {rates(way, null)[1]:.3f}) and {rates(way, digit)[0]:.3f}"
        for name, way in (('"how much"', much), ('"where"', where), ("a threshold that null draws fix", cut))
    ]
    return (
        f"- **To say whether anything is there: {kept}.** q <= .1 calls something in this share of the images "
        f"without and with a digit: {'; '.join(texts)}; without one {over}. "
        "That threshold takes replicates of training images once, none of the image at hand."
    )


def _objects(ranks: pd.DataFrame) -> str:
    raw, centre = of(ranks, way=RAW)["mean"], of(ranks, way="centre")
    better, worse, _, counts = _counts(ranks, ["centre"])
    return (
        f"- **Where the object of a photo is, these maps say little**: the distance from the picture's centre has "
        f"AUC {centre['mean'].mean():.3f}, the raw maps {raw.min():.3f} to {raw.max():.3f} (the centre is {counts})."
    )


def _learned(tables: dict[str, pd.DataFrame]) -> str:
    def aucs(name: str) -> tuple[float, float]:
        table = of(tables[name], measure="auc", way=RAW)
        keys = [key for key in ("network", "kind", "null", "layer", "noises", "contrast") if key in table]
        wide = table.assign(trained=table["weights"] == TRAINED).pivot_table(
            index=keys, columns="trained", values="mean"
        )
        both = wide.dropna()
        return float(both[True].mean()), float(both[False].mean())

    accuracy = tables["accuracy"].assign(trained=lambda t: t["weights"] == TRAINED)
    accuracy["on"] = accuracy["data"] + " " + accuracy["network"].str.split("_").str[0]
    means = accuracy.pivot_table(index="on", columns="trained", values="accuracy", sort=False)
    texts = [f"{on} {row[True]:.3f} to {row[False]:.3f}" for on, row in means.iterrows()]
    scenes, photos = aucs("scenes"), aucs("photos")
    return (
        f"- **With q and k randomised** accuracy goes from {', '.join(texts)}; AUC of the raw maps from "
        f"{scenes[0]:.3f} to {scenes[1]:.3f} on scenes and from {photos[0]:.3f} to {photos[1]:.3f} on photos. What "
        "is left does not rest on what attention has learned."
    )

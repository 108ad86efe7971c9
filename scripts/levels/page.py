"""levels.md: the verdict on each bar, and one table of the worst cells of every model and null."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from levels.questions import HOW_MUCH, PLUS_ONE, WHERE

# The bars: P(any call) on average and in no cell significantly more, the level by position at a nominal .1, the false
# discovery rate of planted signals at q = .10 and their power.
ANY, LOW, HIGH, FDR, POWER = 0.12, 0.02, 0.16, 0.12, 0.8
ONE_SIDED = 1.645  # standard errors below a mean: the lower 95 % limit


def page(frame: pd.DataFrame, command: str) -> str:
    """The text for all rows of levels.csv."""
    editions = frame["code"].nunique()
    mixed = ["", f"**Rows of {editions} editions of the code stand side by side.**"] if editions > 1 else []
    lines = [
        "# How often attention is called where there is nothing, and where there is something",
        "",
        *(f"- {verdict}" for verdict in verdicts(frame)),
        *mixed,
        "",
        f"`{command}` makes `levels.csv`, which has every cell, and this page. A cell is a model, null, layer, B and "
        'question; estimator "standardised" asks "how much", and of spikes also "where". Each of B + 1 replicates of '
        "an image is tested against the other B, so that there is nothing to find. The lowest level leaves out "
        "positions that an exact test of their own scores would call in fewer than one of fifty maps, because hardly "
        "a score differs or the largest tie (`tied_positions`). Signals are 4 deviations of a token's own log null, "
        "rounded up to whole spikes, at 5 % of the tokens (at least 2) whose null is not constant; clear ones are "
        "above every null score of their token. vit_small_patch16_224 has random weights.",
        "",
        summary(frame).map(shown).to_markdown(index=False, disable_numparse=True),
        "",
        "Worst over layers and B: the largest P(any) and FDR, the extreme levels, the smallest power and share of "
        "clear signals. Tokens called on real images are the mean over layers at the largest B; before, by "
        'estimator "plus-one", the former default.',
        "",
    ]
    return "\n".join(lines)


def verdicts(frame: pd.DataFrame) -> Iterator[str]:
    """Sentences on the bars for each question, and on real images."""
    for test in (HOW_MUCH, WHERE):
        ours = frame[frame["test"] == test]
        if not ours.empty:
            yield from (f"{test}, {sentence}" for sentence in (of_noise(ours), of_positions(ours), of_signals(ours)))
    for model, cells in frame[frame["model"].str.contains("digits")].groupby("model", sort=False):
        if {HOW_MUCH, PLUS_ONE} <= set(cells["test"]):
            yield of_real_images(str(model), cells)


def of_real_images(model: str, cells: pd.DataFrame) -> str:
    """Tokens called now and before, at the largest B, and the levels by position at which they are."""
    shares = cells[cells["replicates"] == cells["replicates"].max()].groupby("test")["real_called"].mean()
    tops = cells.groupby("test")["highest"].max()
    said = {test: f"{shares[test]:.3f} (level by position up to {tops[test]:.3f})" for test in (HOW_MUCH, PLUS_ONE)}
    verdict = met(shares[HOW_MUCH] > shares[PLUS_ONE])
    return f"tokens of real images called on {model}: {said[PLUS_ONE]} before, {said[HOW_MUCH]} now: {verdict}."


def of_noise(cells: pd.DataFrame) -> str:
    """P(any call) on average, and in no cell significantly above the bar."""
    averages = {f"P(any {measure} <= .1)": cells[f"any_{measure}"].mean() for measure in ("q", "lfdr")}
    above = sum(int((lower(cells, f"any_{measure}") > ANY).sum()) for measure in ("q", "lfdr"))
    said = ", ".join(f"{name} {value:.3f}" for name, value in averages.items())
    verdict = met(max(averages.values()) <= ANY and not above)
    return f"{len(cells)} cells: {said} on average (bar {ANY}), {above} cells surely above it: {verdict}."


def of_positions(cells: pd.DataFrame) -> str:
    """The level by position; cells in which every position is tied have a highest level alone."""
    low, high = cells["lowest"].min(), cells["highest"].max()
    outside = int(((cells["lowest"] < LOW) | (cells["highest"] > HIGH)).sum())
    return (
        f"level by position at a nominal .1: {low:.3f} to {high:.3f} (bar {LOW} to {HIGH}), {outside} cells outside: "
        f"{met(not outside)}."
    )


def of_signals(cells: pd.DataFrame) -> str:
    """False discoveries beside signals, and power: of all of them, and of those that stand out from their own null."""
    wrong, weak, dim = (cells["fdr"] > FDR).sum(), cells["power"] < POWER, cells["clear_power"] < POWER
    models = sorted(set(cells.loc[weak, "model"]))
    where = f" (of {' and '.join(models)})" if models else ""
    power = cells["power"].mean()
    return (
        f"signals: FDR {cells['fdr'].mean():.3f} on average (bar {FDR}), {wrong} cells above: {met(not wrong)}; power "
        f"{power:.3f} on average (bar {POWER}): {met(power >= POWER)}; {weak.sum()} cells are below{where}; of clear "
        f"signals {cells['clear_power'].mean():.3f}, {dim.sum()} cells below."
    )


def lower(frame: pd.DataFrame, name: str) -> pd.Series:
    """Lower one-sided 95 % limit of a mean over images."""
    return frame[name] - ONE_SIDED * frame[f"{name}_se"]


def met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per model, null and question."""
    lines = []
    largest = frame["replicates"].max()
    for (model, null), cells in frame.groupby(["model", "null"], sort=False):
        called = cells[cells["replicates"] == largest].groupby("test")["real_called"].mean()
        for test in (HOW_MUCH, WHERE):
            ours = cells[cells["test"] == test]
            if ours.empty:
                continue
            lines.append(
                {
                    "model": model,
                    "null": null,
                    "question": test,
                    "any q": ours["any_q"].max(),
                    "any lfdr": ours["any_lfdr"].max(),
                    "level by position": f"{shown(ours['lowest'].min())} to {shown(ours['highest'].max())}",
                    "FDR": ours["fdr"].max(),
                    "power": ours["power"].min(),
                    "clear": ours["clear"].min(),
                    "power of clear": ours["clear_power"].min(),
                    "real": called.get(test),
                    "real, before": called.get(PLUS_ONE) if test == HOW_MUCH else None,
                }
            )
    return pd.DataFrame(lines)


def shown(value: object) -> object:
    """A number with three places, and a dash for one that is not there."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else value

"""levels.md: the verdict on each bar, and one table of the worst cells of every model and null."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from levels.questions import HOW_MUCH, PLUS_ONE, WHERE

# The bars: P(any call) on average and in no cell significantly more, the level by position at a nominal .1, the false
# discovery rate of planted signals at q = .10 and their power.
ANY, LOW, HIGH, FDR, POWER = 0.12, 0.02, 0.16, 0.12, 0.8
ONE_SIDED = 1.645  # standard errors below a mean: the lower 95 % limit


def page(frame: pd.DataFrame, command: str) -> str:
    """The text for all rows of levels.csv."""
    lines = [
        "# How often attention is called where there is nothing, and where there is something",
        "",
        *(f"- {verdict}" for verdict in verdicts(frame)),
        "",
        f"`{command}` makes `levels.csv`, which has every cell, and this page. Each of B + 1 replicates of an image is "
        "tested against the other B, so that there is nothing to find; a cell is a model, null, layer, B and question. "
        'Estimator "standardised" asks "how much", and of spikes also "where"; "before" is the former default, '
        '"plus-one". Positions that an exact test of their own scores would call in fewer than one of fifty maps, '
        "because hardly a score differs or the largest tie (`tied_positions`), are left out of the lowest level. "
        "Signals are 4 deviations of a token's own log null, in whole spikes, at 5 % of the tokens (at least 2) whose "
        "null is not constant. vit_small_patch16_224 has random weights.",
        "",
        summary(frame).to_markdown(index=False, floatfmt=".3f", missingval="–"),
        "",
        "Worst over layers and B: the largest P(any), the lowest and highest level by position, the largest FDR, the "
        "smallest power; of real images the mean over layers, at the largest B.",
        "",
    ]
    return "\n".join(lines)


def verdicts(frame: pd.DataFrame) -> Iterator[str]:
    """A sentence per bar for each question, and on real images."""
    for test in (HOW_MUCH, WHERE):
        ours = frame[frame["test"] == test]
        if ours.empty:
            continue
        averages = {f"P(any {measure} <= .1)": ours[f"any_{measure}"].mean() for measure in ("q", "lfdr")}
        above = sum(int((lower(ours, f"any_{measure}") > ANY).sum()) for measure in ("q", "lfdr"))
        said = ", ".join(f"{name} {value:.3f}" for name, value in averages.items())
        verdict = met(max(averages.values()) <= ANY and not above)
        yield f"{test}, {len(ours)} cells: {said} on average (bar {ANY}), {above} cells surely above it: {verdict}."
        low, high = ours["lowest"].min(), ours["highest"].max()
        outside = int(((ours["lowest"] < LOW) | (ours["highest"] > HIGH)).sum())
        yield (
            f"{test}, level by position at a nominal .1: {low:.3f} to {high:.3f} (bar {LOW} to {HIGH}), "
            f"{outside} cells outside: {met(not outside)}."
        )
        false, right = ours["fdr"].mean(), ours["power"].mean()
        wrong, weak = int((ours["fdr"] > FDR).sum()), int((ours["power"] < POWER).sum())
        without = int(ours["power"].isna().sum())
        exempt = f"; {without} cells have no token that can hold a signal" if without else ""
        yield (
            f"{test}, planted signals: FDR {false:.3f} (bar {FDR}), {wrong} cells above; power {right:.3f} (bar "
            f"{POWER}), {weak} cells below{exempt}: {met(not wrong and not weak)}."
        )
    largest = frame[frame["replicates"] == frame["replicates"].max()]
    shares = largest[largest["model"].str.contains("digits")].groupby("test")["real_called"].mean()
    if {HOW_MUCH, PLUS_ONE} <= set(shares.index):
        before, now = shares[PLUS_ONE], shares[HOW_MUCH]
        yield f"Tokens called on real digits at q <= .1: {before:.3f} before, {now:.3f} now: {met(now > before)}."


def lower(frame: pd.DataFrame, name: str) -> pd.Series:
    """Lower one-sided 95 % limit of a mean over images."""
    return frame[name] - ONE_SIDED * frame[f"{name}_se"]


def met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per model and null."""
    lines = []
    largest = frame["replicates"].max()
    for (model, null), cells in frame.groupby(["model", "null"], sort=False):
        line: dict[str, object] = {"model": model, "null": null}
        for test in (HOW_MUCH, WHERE):
            ours = cells[cells["test"] == test]
            line |= {
                f"{test}: any q": ours["any_q"].max(),
                "any lfdr" + mark(test): ours["any_lfdr"].max(),
                "level by position" + mark(test): span(ours),
                "FDR" + mark(test): ours["fdr"].max(),
                "power" + mark(test): ours["power"].min(),
            }
        called = cells[cells["replicates"] == largest].groupby("test")["real_called"].mean()
        line |= {f"real: {name}": called.get(test) for test, name in NAMES.items()}
        lines.append(line)
    return pd.DataFrame(lines)


NAMES = {HOW_MUCH: "how much", WHERE: "where", PLUS_ONE: "before"}


def mark(test: str) -> str:
    """The columns of the second question are primed, for a table has each name once."""
    return "" if test == HOW_MUCH else "'"


def span(cells: pd.DataFrame) -> str | None:
    """Lowest and highest level by position."""
    if cells.empty:
        return None
    lowest, highest = cells["lowest"].min(), cells["highest"].max()
    return f"{'–' if pd.isna(lowest) else f'{lowest:.3f}'} to {highest:.3f}"

"""The outcome of a comparison in plain sentences: who is cheaper, by how much, and whether it could be otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import MISSING, energy_in, energy_unit
from spikeattn.boundary.terms import WEIGHTED
from spikeattn.energy.accumulators import said_of
from spikeattn.energy.dense_twin import ATTENTION
from spikeattn.energy.gamma import GammaRange, in_words, number
from spikeattn.stats.intervals import Interval

Row = Mapping[str, Any]


def beside_ann(
    name: str,
    time_steps: int,
    parts: pd.DataFrame,
    attention: pd.DataFrame,
    prices: pd.DataFrame,
    zeros: pd.DataFrame,
    gammas: Sequence[GammaRange],
) -> tuple[str, ...]:
    """Sentences on a spiking network beside an ANN; the arguments are tables of a `Comparison`."""
    sentences = []
    for price, gamma in zip(records(prices), gammas, strict=True):
        rows, over = _rows(parts, price), _rows(zeros, price)
        total = rows[-1]
        sentences.append(_beside(name, price, total, gamma))
        sentences.append(_break_even(name, time_steps, price, rows, over, gamma))
        losing = [
            f"{row['part']} (rate {row['rate']:.3g}, break-even {rate_in_words(row)})"
            for row in rows[:-1]
            if row["verdict"] == "loses"
        ]
        if losing:
            at = _at(price, gamma)
            sentences.append(f"{price['costs']}: {name} loses to {price['against']} in {', '.join(losing)}, {at}.")
    if len(attention):
        sentences += _alone(prices, _rows(attention, records(prices)[0]), gammas[0])
    return tuple(sentences)


def beside_profile(name: str, parts: pd.DataFrame) -> tuple[str, ...]:
    """Sentences on two spiking networks."""
    totals = records(parts[parts["part"] == "total"])
    return tuple(f"{_energies(name, row, row)}: {_outcome(name, row, row)}" for row in totals)


def rate_in_words(row: Row) -> str:
    """The break-even rate of a row, or that there is none; a dash where nothing is compared."""
    if pd.notna(row["break_even"]):
        return f"{row['break_even']:.3g}"
    lost = pd.notna(row["cannot_lose"]) and pd.notna(row["ratio"]) and row["ratio"] < 1
    return "none: loses at any rate" if lost else MISSING


def _energies(name: str, price: Row, total: Row) -> str:
    unit, factor = energy_unit([total["against_mj"], total["energy_mj"]])
    theirs, own = (energy_in(total[key], unit, factor, 4) for key in ("against_mj", "energy_mj"))
    return f"{price['costs']}: {price['against']} costs {theirs} per image, {name} {own}, a ratio of {_ratio(total)}"


def _beside(name: str, price: Row, total: Row, gamma: GammaRange) -> str:
    """Energies, ratio over gamma, and who is cheaper where."""
    at = _at(price, gamma)
    end = _outcome(name, price, total)
    start = f"{_energies(name, price, total)} {at} ({gamma.source})"
    others = []
    if gamma.measured or price["gamma"]:
        others.append(f"{in_words(gamma.at_zero)} at gamma 0")
    if not gamma.measured:
        others.append(f"{in_words(gamma.at_high)} at gamma {gamma.high:.3g}")
    return f"{start}, {', '.join(others)}; {gamma.same()}. A{at[1:]} {end}"


def _outcome(name: str, price: Row, total: Row) -> str:
    if total["verdict"] == "wins":
        return f"{name} is cheaper."
    if total["verdict"] == "loses":
        return f"{name} loses, it costs {number(1 / total['ratio'])} times as much as {price['against']}."
    if total["verdict"] == "undecided":
        return "the interval holds 1, so these images do not tell which is cheaper."
    return "without an interval that is no verdict."


def _at(price: Row, gamma: GammaRange) -> str:
    """At which gamma the figures of a pricing stand."""
    return f"at the measured gamma {gamma.low:.3g}" if gamma.measured else f"at gamma {price['gamma']:.3g}"


def _break_even(name: str, time_steps: int, price: Row, rows: list[Row], over: list[Row], gamma: GammaRange) -> str:
    layer, total = price["break_even"], rows[-1]
    whole, rate = rate_in_words(total), total["rate"]
    at = "" if gamma.measured else f" at gamma {price['gamma']:.3g}"
    further = ""
    if not gamma.measured and price["gamma"] < 1:
        there = layer * (1 - gamma.high) / (1 - price["gamma"])
        further = f" ({there:.3g} at gamma {gamma.high:.3g})"
    text = (
        f"{price['costs']}: a multiply-accumulate of {price['against']} costs {price['mac_pj']:.4g} pJ{at}, an "
        f"addition at a spike {price['sop_pj']:.4g} pJ; at T = {time_steps} a layer breaks even at a "
        f"firing rate of {layer:.3g}{further}, the whole network at {whole}. "
    )
    if total["cannot_lose"]:
        which = "Both are" if layer > 1 else "That of the whole network is"
        if over[-1]["cannot_lose"]:
            text += f"{which} above 1: this metric cannot make {name} lose, whatever its spikes"
            return f"{text}, at any gamma up to {gamma.high:.3g}." if not gamma.measured else f"{text}."
        return f"{text}{which} above 1{at}; at gamma {gamma.high:.3g} enough spikes make {name} lose."
    if pd.isna(total["break_even"]):
        return f"{text}The {WEIGHTED.lower()} of {name} is {rate:.3g}."
    text += f"The {WEIGHTED.lower()} of {name} is {rate:.3g}; above {whole} this metric makes it lose{at}"
    text += f" ({said})" if (said := said_of(price["costs"])) else ""
    safe = [row["part"] for row in over[:-1] if pd.notna(row["cannot_lose"]) and row["cannot_lose"]]
    return f"{text}, but never in {', '.join(safe)}." if safe else f"{text}."


def _alone(prices: pd.DataFrame, rows: list[Row], gamma: GammaRange) -> list[str]:
    """One sentence per row of attention alone: how often the ANN's costs more, and what that includes."""
    found: list[str] = []
    for row in rows:
        what = f"{row['part']} alone" if row["part"] == ATTENTION else row["part"]
        start = f"{prices['costs'].iloc[0]}: {what}"
        if pd.isna(row["ratio"]):
            found.append(f"{start} has no ratio ({row['includes'] or 'only one network has it'}).")
            continue
        found.append(
            f"{start}: softmax attention costs {_ratio(row)} times as much as the spiking one "
            f"{_at(records(prices)[0], gamma)}; the spiking one includes {row['includes']}."
        )
    return found


def _ratio(row: Row) -> str:
    return in_words(Interval(row["ratio"], row["ratio_low"], row["ratio_high"], str(row["interval"])))


def _rows(frame: pd.DataFrame, price: Row) -> list[Row]:
    chosen = (frame["costs"] == price["costs"]) & (frame["against"] == price["against"])
    return records(frame[chosen])


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a table by column."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]

"""The outcome of a comparison in plain sentences: who is cheaper, by how much, and whether it could be otherwise."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import NO_UPPER_LIMIT

Row = dict[str, Any]


def beside_ann(
    name: str, time_steps: int, parts: pd.DataFrame, attention: pd.DataFrame, prices: pd.DataFrame
) -> tuple[str, ...]:
    """Sentences on a spiking network beside an ANN; the arguments are tables of a `Comparison`."""
    sentences = []
    for price in records(prices):
        rows = _rows(parts, price)
        total = rows[-1]
        sentences.append(_outcome(name, price, total))
        sentences.append(_break_even(name, time_steps, price, total, rows[:-1]))
        losing = [
            f"{row['part']} (rate {row['rate']:.3g}, break-even {row['break_even']:.3g})"
            for row in rows[:-1]
            if row["verdict"] == "loses"
        ]
        if losing:
            sentences.append(f"{price['costs']}: {name} loses to {price['against']} in {', '.join(losing)}.")
    alone = _rows(attention, records(prices)[0]) if len(attention) else []
    ratios = [f"{_number(row['ratio'])} times for {row['part']}" for row in alone if pd.notna(row["ratio"])]
    if ratios:
        sentences.append(
            f"{prices['costs'].iloc[0]}: softmax attention costs, against the spiking one, {' and '.join(ratios)}."
        )
    return tuple(sentences)


def beside_profile(name: str, parts: pd.DataFrame) -> tuple[str, ...]:
    """Sentences on two spiking networks."""
    totals = records(parts[parts["part"] == "total"])
    return tuple(_outcome(name, row, row) for row in totals)


def _outcome(name: str, price: Row, total: Row) -> str:
    theirs, ratio = price["against"], total["ratio"]
    start = f"{price['costs']}: {theirs} costs {total['against_mj']:.4g} mJ per image, {name} {total['energy_mj']:.4g}"
    start += f" mJ, a ratio of {_number(ratio)}{_limits(total)}"
    if total["verdict"] == "wins":
        return f"{start}: {name} is cheaper."
    if total["verdict"] == "loses":
        return f"{start}: {name} loses, it costs {_number(1 / ratio)} times as much as {theirs}."
    if total["verdict"] == "undecided":
        return f"{start}: the interval holds 1, so these images do not tell which is cheaper."
    return f"{start}; without an interval that is no verdict."


def _break_even(name: str, time_steps: int, price: Row, total: Row, parts: list[Row]) -> str:
    layer, whole, rate = price["break_even"], total["break_even"], total["rate"]
    text = (
        f"{price['costs']}: a multiply-accumulate of {price['against']} costs {price['mac_pj']:.4g} pJ, an addition at "
        f"a spike {price['sop_pj']:.4g} pJ; at T = {time_steps} a layer breaks even at a firing rate of {layer:.3g}, "
        f"the whole network at {whole:.3g}. "
    )
    if total["cannot_lose"]:
        which = "Both are" if layer > 1 else "That of the whole network is"
        return f"{text}{which} above 1: this metric cannot make {name} lose, whatever its spikes."
    text += f"The rate of {name} is {rate:.3g}; above {whole:.3g} this metric makes it lose"
    safe = [row["part"] for row in parts if pd.notna(row["cannot_lose"]) and row["cannot_lose"]]
    return f"{text}, but never in {', '.join(safe)}." if safe else f"{text}."


def _limits(row: Row) -> str:
    if row["interval"] == "lower bound":
        return f" (at least {_number(row['ratio_low'])})"
    if pd.isna(row["ratio_low"]):
        return ""
    high = NO_UPPER_LIMIT if row["ratio_high"] == float("inf") else _number(row["ratio_high"])
    return f" [{_number(row['ratio_low'])}, {high}]"


def _number(value: float) -> str:
    """Four digits, without an exponent for a large ratio."""
    return f"{value:,.0f}" if 1000 <= value < float("inf") else f"{value:.4g}"


def _rows(frame: pd.DataFrame, price: Row) -> list[Row]:
    chosen = (frame["costs"] == price["costs"]) & (frame["against"] == price["against"])
    return records(frame[chosen])


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a table by column."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]

"""Operations by part and block, and the scopes that a comparison prices: parts, blocks, attention, total."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.activity import Activity
from spikeattn.energy.amounts import OPS, Amounts, amounts_by, part_order
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import PJ_TO_MJ, CostTable
from spikeattn.energy.dense_twin import ATTENTION, shared_part
from spikeattn.stats.intervals import Floats

Key = tuple[str, int | None]  # part and block; None where a part stands outside the blocks


@dataclass(frozen=True)
class Scope:
    """What has a row of its own in one table of a comparison: a part, a block, or a sum of some.

    Attributes:
        members: [keys], which (part, block) pairs it adds up.
    """

    table: str
    part: str
    block: int | None
    members: NDArray[np.bool_]


def amounts_by_part_and_block(activity: Activity, convention: Convention) -> Amounts[Key]:
    """The operations of an activity under a convention by (part, block), in `in_order`."""
    amounts = amounts_by(lambda term: (shared_part(term.part), term.block), activity, convention)
    return amounts.over(in_order(amounts.keys))


def energies_of(amounts: Amounts[Key], costs: CostTable, scopes: Sequence[Scope]) -> Floats:
    """mJ per image and scope, [N, scopes]."""
    prices, members = _prices(costs), _members(scopes)
    energies = np.empty((amounts.n_images, len(scopes)))
    for rows, block in amounts.blocks():
        energies[rows] = block @ prices @ members * PJ_TO_MJ
    return energies


def limits_of(
    amounts: Amounts[Key], costs: CostTable, scopes: Sequence[Scope]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """mJ per scope without any spike, mJ that all possible spikes would add, and whether that is a limit."""
    prices, members = _prices(costs), _members(scopes)
    unbounded = (~amounts.bounded & (amounts.full @ prices > 0)) @ members
    return amounts.floor @ prices @ members * PJ_TO_MJ, amounts.full @ prices @ members * PJ_TO_MJ, unbounded == 0


def keys_of_layers(layers: pd.DataFrame) -> list[Key]:
    """The (part, block) pair of every row of a table of layers."""
    rows = zip(layers["part"], layers["block"].astype(object), strict=True)
    return [(shared_part(part), None if pd.isna(block) else int(block)) for part, block in rows]


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Pairs without block first, then block by block, parts in the order of the network."""

    def place(key: Key) -> tuple[int, int, str]:
        part, block = key
        return (-1 if block is None else block), *part_order(part)

    return sorted(keys, key=place)


def scopes_of(keys: Sequence[Key]) -> list[Scope]:
    """Every row of the three tables of a comparison."""
    parts = sorted({part for part, _ in keys}, key=part_order)
    blocks = sorted({block for _, block in keys if block is not None})

    def where(table: str, label: str, block: int | None, names: Sequence[str]) -> Scope:
        mask = [part in names and block in (None, at) for part, at in keys]
        return Scope(table, label, block, np.array(mask))

    scopes = [where("parts", part, None, [part]) for part in parts] + [where("parts", "total", None, parts)]
    for block in blocks:
        scopes += [where("blocks", part, block, [part]) for part in parts if (part, block) in keys]
        scopes.append(where("blocks", "total", block, parts))
    if ATTENTION in parts:
        scopes.append(where("attention", ATTENTION, None, [ATTENTION]))
        if "QKV" in parts:
            scopes.append(where("attention", f"QKV + {ATTENTION}", None, ["QKV", ATTENTION]))
    return scopes


def _prices(costs: CostTable) -> Floats:
    """pJ of each of OPS; one that the table lacks is an error, for half a network is no side of a comparison."""
    return np.array([costs.price(op) for op in OPS])


def _members(scopes: Sequence[Scope]) -> Floats:
    return np.stack([scope.members for scope in scopes], axis=1).astype(float)

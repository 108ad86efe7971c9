"""Operations by part and block, and the groups of them that a comparison prices: parts, blocks, attention, total."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.activity import Activity
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.counted_terms import OPS, PARTS, Constant, Count, Term
from spikeattn.energy.estimate import PJ_TO_MJ
from spikeattn.energy.rules import terms_of
from spikeattn.energy.twins import ATTENTION, shared_part
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

Key = tuple[str, int | None]
ORDER = PARTS


@dataclass(frozen=True)
class Scope:
    """A group of cells with a row of its own in one table of a comparison: a part, a block, or a sum of some."""

    table: str
    part: str
    block: int | None
    cells: NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """Operations of one network by (part, block).

    Attributes:
        amounts: [N, cells, OPS], per image over all time steps.
        full: [cells, OPS], those of them that spikes trigger, if every element of every tensor were one spike.
        fixed: [cells, OPS], those that do not depend on spikes.
        bounded: [cells], whether no image can have more than `full` (binary spikes; not integer ones).
    """

    keys: tuple[Key, ...]
    amounts: Floats
    full: Floats
    fixed: Floats
    bounded: NDArray[np.bool_]

    def energies(self, costs: CostTable, scopes: Sequence[Scope]) -> Floats:
        """mJ per image and scope, [N, scopes]."""
        return self.amounts @ _prices(costs) @ _members(scopes) * PJ_TO_MJ

    def limits(self, costs: CostTable, scopes: Sequence[Scope]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """mJ per scope without any spike, mJ that all possible spikes would add, and whether that is a limit."""
        prices, members = _prices(costs), _members(scopes)
        unbounded = (~self.bounded & (self.full @ prices > 0)) @ members
        return self.fixed @ prices @ members * PJ_TO_MJ, self.full @ prices @ members * PJ_TO_MJ, unbounded == 0


def cells_of(ledger: Ledger, activity: Activity, convention: Convention, keys: Sequence[Key]) -> Cells:
    """The operations of an activity under a convention, in the order of `keys`, which hold all of its own."""
    shape = (len(keys), len(OPS))
    amounts, full, fixed = np.zeros((activity.n_images, *shape)), np.zeros(shape), np.zeros(shape)
    bounded = np.ones(len(keys), dtype=bool)
    for term in terms_of(ledger, convention):
        cell = keys.index(_key(term.part, term.block))
        amount = activity.total(term.source) * term.factor
        amounts[:, cell, OPS.index(term.op)] += amount
        if isinstance(term.source, Constant):
            fixed[cell, OPS.index(term.op)] += term.factor * term.source.times
        else:
            full[cell, OPS.index(term.op)] += _full(term, ledger)
            bounded[cell] &= np.isfinite(term.ceiling)
    return Cells(tuple(keys), amounts, full, fixed, bounded)


def keys_of(ledger: Ledger, convention: Convention) -> set[Key]:
    """The (part, block) pairs that a network has operations in."""
    return {_key(term.part, term.block) for term in terms_of(ledger, convention)}


def keys_of_layers(layers: pd.DataFrame) -> list[Key]:
    """The (part, block) pair of every row of a table of layers."""
    blocks = layers["block"].astype(object)
    return [
        _key(part, None if pd.isna(block) else int(block)) for part, block in zip(layers["part"], blocks, strict=True)
    ]


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Pairs without block first, then block by block, parts in the order of the network."""

    def place(key: Key) -> tuple[int, int, str]:
        part, block = key
        return (-1 if block is None else block), (ORDER.index(part) if part in ORDER else len(ORDER)), part

    return sorted(keys, key=place)


def scopes_of(keys: Sequence[Key]) -> list[Scope]:
    """Every row of the three tables of a comparison."""
    parts = sorted({part for part, _ in keys}, key=lambda p: (ORDER.index(p) if p in ORDER else len(ORDER), p))
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
    return np.stack([scope.cells for scope in scopes], axis=1).astype(float)


def _key(part: str, block: int | None) -> Key:
    return shared_part(part), block


def _full(term: Term, ledger: Ledger) -> float:
    """Operations of a term if every element of its tensors were one spike at every time step."""
    if np.isfinite(term.ceiling):
        return term.ceiling
    source, T = term.source, ledger.time_steps
    if not isinstance(source, Count):
        assert not isinstance(source, Constant)
        return term.factor * len(source.tensors) * (1 if source.once else T)
    if source.measure.startswith("fan_"):
        return float(ledger.synapse(source.name).dense_macs * (1 if source.once else T))
    if source.measure.startswith("pairs"):
        return float(ledger.product(source.name).elements * (1 if source.once else T))
    return term.factor * ledger.tensor(source.name).elements * (1 if source.once else T)

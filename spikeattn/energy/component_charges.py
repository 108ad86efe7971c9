"""What the lines of an energy model cost on an activity, by part and component, and the totals of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.energy.activity import Activity, Constant
from spikeattn.energy.amounts import part_order
from spikeattn.energy.costs import PJ_TO_MJ, CostTable
from spikeattn.energy.models.memory import COMPONENTS, Line, word_price
from spikeattn.energy.models.registry import EnergyModel
from spikeattn.stats import intervals
from spikeattn.stats.intervals import Floats, Intervals


@dataclass(frozen=True, eq=False)
class Charges:
    """What the lines of an energy model come to.

    Attributes:
        rows: part and component, in the order of the table.
        energies: [N, rows] mJ per image.
        ceiling, floor: [rows] mJ, the most of one image and what every image costs.
        priced: [rows], whether the cost table has a price for anything in it.
        charged: the rows of `ComponentTable.lines`.
        unpriced: operations per image that have no price, by what they are.
    """

    rows: list[tuple[str, str]]
    energies: Floats
    ceiling: Floats
    floor: Floats
    priced: NDArray[np.bool_]
    charged: list[dict[str, Any]]
    unpriced: dict[str, float]


def charges_of(activity: Activity, costs: CostTable, model: EnergyModel, lines: Sequence[Line]) -> Charges:
    """Price line after line, each in its row."""
    total = lru_cache(maxsize=8)(activity.total)  # the lines of a layer, fewer than 8, stand together
    rows = sorted({(line.part, line.component) for line in lines}, key=_order)
    energies = np.zeros((activity.n_images, len(rows)))
    ceiling, floor = np.zeros(len(rows)), np.zeros(len(rows))
    charged, unpriced, priced = [], defaultdict[str, float](float), np.zeros(len(rows), dtype=bool)
    for line in lines:
        amount, row = total(line.source) * line.factor, rows.index((line.part, line.component))
        if line.op is not None and not costs.has(line.op):
            unpriced[line.what] += float(amount.mean())
            continue
        pj = costs.price(line.op) if line.op is not None else word_price(costs, model, line.buffer or 0)
        energies[:, row] += amount * (pj * PJ_TO_MJ)
        ceiling[row] += line.ceiling * pj * PJ_TO_MJ if pj else 0.0
        floor[row] += amount[0] * pj * PJ_TO_MJ if isinstance(line.source, Constant) else 0.0
        priced[row] = True
        charged.append(_charged(line, float(amount.mean()), pj, costs))
    return Charges(rows, energies, ceiling, floor, priced, charged, unpriced)


def with_totals(
    charges: Charges,
    model: EnergyModel,
    replicates: int,
    seed: int,
    confidence: float,
    labels: NDArray[np.integer] | None = None,
) -> tuple[list[str], Floats, Intervals]:
    """The components there are, mJ of each per image, and the intervals of all rows of the table."""
    kinds = [kind for kind in COMPONENTS if any(kind == component for _, component in charges.rows)]
    of_kind = np.array([[component == kind for kind in kinds] for _, component in charges.rows], dtype=float)
    finite = np.where(np.isfinite(charges.ceiling), charges.ceiling, 0.0)
    boundless = (np.isinf(charges.ceiling).astype(float) @ of_kind) > 0
    per_image, most = charges.energies @ of_kind, np.where(boundless, np.inf, finite @ of_kind)
    least = charges.floor @ of_kind
    columns, ceilings, floors = [charges.energies, per_image], [charges.ceiling, most], [charges.floor, least]
    if model.memory:
        columns.append(per_image.sum(axis=1, keepdims=True))
        ceilings.append(most.sum(keepdims=True))
        floors.append(least.sum(keepdims=True))
    limits = intervals.mean_intervals(
        np.concatenate(columns, axis=1),
        replicates,
        seed,
        confidence,
        ceiling=np.concatenate(ceilings),
        floor=np.concatenate(floors),
        labels=labels,
    )
    return kinds, per_image, limits


def _order(row: tuple[str, str]) -> tuple[Any, ...]:
    part, component = row
    return *part_order(part), COMPONENTS.index(component)


def _charged(line: Line, amount: float, pj: float, costs: CostTable) -> dict[str, Any]:
    size = None if line.buffer is None or costs.bits is None else line.buffer * costs.bits // 8
    return {
        "name": line.name,
        "part": line.part,
        "component": line.component,
        "what": line.what,
        "amount": amount,
        "unit": "operations" if line.op is not None else "words",
        "buffer_bytes": size,
        "pj": pj,
        "energy_mj": amount * pj * PJ_TO_MJ,
    }

"""One run under several energy models, side by side: how far the answer depends on the model. Never a sum over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Activity, Constant, Remembering, Run
from spikeattn.energy.amounts import part_order
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import sample_of
from spikeattn.energy.models.catalogue import ALL, FIRST, chosen_models, get_energy_model
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import ANN, SNN, Charge, ModelRecord, NamedModel
from spikeattn.energy.profile_argument import counted, labels_to_cluster, of_profile
from spikeattn.errors import SpikeattnError
from spikeattn.stats import intervals
from spikeattn.stats.column_blocks import columns_at_once, joined
from spikeattn.stats.intervals import Floats, Intervals
from spikeattn.stats.ratios import ratio_intervals


class ModelTable(pd.DataFrame):
    """A run under several energy models, a DataFrame that carries how it came about. It has no total: models are
    answers to the same question, not parts of one.

    Rows: one per model and side. Columns: model, side ("SNN", or "ANN" for the network beside it), value (per image),
    ci_low, ci_high, unit ("mJ", "1", "spikes per synapse"), interval (the method; "constant" of an ANN), over_compute
    (value / that of `compute` on the same side, where both are energies), over_compute_low, over_compute_high,
    fidelity, inside, outside, verdict (against published thresholds, where the model has some).
    What is derived from the table (a slice, a copy) is a plain DataFrame.

    Attributes:
        parts: the same split by part and component: model, side, part, component, value, ci_low, ci_high, unit,
            interval; for every model whose parts add up to its total.
        unpriced: model, side, what, per_image: what a model has no price for; no figure of its holds it.
        missing: by model, or by "model (side)", why it has no row.
        records: the record of every model that has rows.
        per_image: [N] values of every image, a column per row, named (model, side).
        notes: choices and limits a reader must know.
        provenance: models, costs, first_conv, n_images, time_steps, replicates, seed, confidence, ledger hash; cluster
            where classes were drawn.
    """

    _metadata: ClassVar[list[str]] = [
        "parts", "unpriced", "missing", "records", "per_image", "notes", "provenance",
    ]  # fmt: skip
    parts: pd.DataFrame
    unpriced: pd.DataFrame
    missing: dict[str, str]
    records: tuple[ModelRecord, ...]
    per_image: pd.DataFrame
    notes: list[Note]
    provenance: dict[str, Any]

    def verdicts(self) -> list[tuple[str, str]]:
        """Models that hold their figure against published thresholds, and what they say."""
        rows = self.loc[self["verdict"].notna(), ["model", "verdict"]].to_dict("records")
        return [(row["model"], row["verdict"]) for row in rows]

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Side:
    """What one model says of one side: rows are (part, component), the last column is the total.

    Attributes:
        values, floor, ceiling: [N, rows + 1], [rows + 1], [rows + 1] in the unit of the model; of values the last
            column alone once the rows have their intervals.
        unpriced: items per image, by what they are.
    """

    model: NamedModel
    side: str
    rows: list[tuple[str, str]]
    values: Floats
    floor: Floats
    ceiling: Floats
    unpriced: dict[str, float]


class _Blocks:
    """Sides on their way to intervals: as many at a time as `stats.column_blocks` has room for; of those that have
    theirs only the totals are kept."""

    def __init__(
        self, n_images: int, sampling: tuple[int, int, float], labels: NDArray[np.integer] | None
    ) -> None:  # fmt: skip
        self._at_once, self._sampling, self._labels = columns_at_once(n_images), sampling, labels
        self._waiting, self._done, self._limits = list[_Side](), list[_Side](), list[Intervals]()

    def add(self, sides: Sequence[_Side]) -> None:
        """Sides of one model."""
        for side in sides:
            if self._waiting and sum(len(each.floor) for each in (*self._waiting, side)) > self._at_once:
                self._settle()
            self._waiting.append(side)

    def finish(self) -> tuple[list[_Side], Intervals | None]:
        """All of them, with totals alone, and the limits of all their columns; None where there are no sides."""
        if self._waiting:
            self._settle()
        return self._done, joined(self._limits) if self._limits else None

    def _settle(self) -> None:
        values, ceiling, floor = (
            np.concatenate([getattr(side, key) for side in self._waiting], axis=-1)
            for key in ("values", "ceiling", "floor")
        )
        self._done += [replace(side, values=side.values[:, -1:].copy()) for side in self._waiting]
        self._waiting.clear()
        self._limits.append(
            intervals.mean_intervals(values, *self._sampling, ceiling=ceiling, floor=floor, labels=self._labels)
        )


@of_profile
def by_model(
    profile: Run,
    models: str | NamedModel | Iterable[str | NamedModel] = ALL,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    first_conv: str = "once",
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
    cluster: str | None = None,
) -> ModelTable:
    """A run under energy models side by side, each with its interval over images and what it leaves out.

    Args:
        profile: a finished run; a ledger and its counts, two arguments, may stand in its place.
        models: "all", a name of `list_energy_models()`, a `NamedModel` such as `sana_fe_loihi(...)`, or several. Under
            "all" a model that cannot price this run is left out and `missing` says why.
        costs: for models whose prices are those of a cost table; the others have their own.
        first_conv: "once" or "every-step", how often the first layer runs on a still image.
        cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

    Raises:
        SpikeattnError: unknown model or cost table, a model named here that cannot price this run, zero images, counts
            that do not belong to the ledger, images to cluster without labels or of one class alone.
    """
    chosen, costs = chosen_models(models), get_costs(costs)
    activity, labels = counted(profile), labels_to_cluster(profile, cluster)
    remembering = Remembering(activity)
    network = NetworkEvents(activity.ledger, get_convention("exact", first_conv=first_conv), costs)
    blocks = _Blocks(activity.n_images, (replicates, seed, confidence), labels)
    missing: dict[str, str] = {}
    for model in chosen:
        try:
            blocks.add(_sides_of(model, network, remembering, missing))
        except SpikeattnError as error:
            if not (isinstance(models, str) and models == ALL):
                raise
            missing[model.name] = str(error)
    sides, limits = blocks.finish()
    if limits is None:
        raise SpikeattnError("no energy model can price this run: " + "; ".join(missing.values()))
    ends = np.cumsum([len(side.floor) for side in sides]) - 1
    table = ModelTable(_rows(sides, ends, limits))
    ratios = _over_compute(sides, network, remembering, (replicates, seed, confidence), labels)
    for column, key in (("over_compute", "value"), ("over_compute_low", "low"), ("over_compute_high", "high")):
        table.insert(len(table.columns) - 4, column, ratios[key])
    table.parts, table.unpriced = _parts(sides, ends, limits), _unpriced(sides)
    table.missing = missing
    table.records = tuple({side.model.name: side.model.record for side in sides}.values())
    names = pd.MultiIndex.from_tuples([(side.model.name, side.side) for side in sides], names=["model", "side"])
    table.per_image = pd.DataFrame(np.stack([side.values[:, -1] for side in sides], axis=1), columns=names)
    table.notes = _notes(table, costs)
    table.provenance = {
        "models": [model.name for model in chosen],
        "costs": costs.name,
        "cost_source": costs.source,
        "first_conv": first_conv,
        **sample_of(activity, replicates, seed, confidence),
        **({} if labels is None else {"cluster": "label"}),
    }
    return table


def _sides_of(model: NamedModel, network: NetworkEvents, activity: Activity, missing: dict[str, str]) -> list[_Side]:
    """The network, and the ANN beside it, under one model; why one of the two cannot be priced goes to `missing`.

    Raises:
        SpikeattnError: the model has a price for nothing that happens here.
    """
    found, reasons = [], {}
    for side, charges in model.sides.items():
        try:
            found.append(_priced(model, side, list(charges(network)), activity))
        except SpikeattnError as error:
            reasons[f"{model.name} ({side})"] = str(error)
    if not found:
        raise SpikeattnError(next(iter(reasons.values())))
    missing |= reasons
    return found


def _priced(model: NamedModel, side: str, charges: Sequence[Charge], activity: Activity) -> _Side:
    total = lru_cache(maxsize=8)(activity.total)  # the charges of a layer stand together
    unpriced = defaultdict[str, float](float)
    priced = [charge for charge in charges if charge.price is not None]
    for charge in charges:
        if charge.price is None:
            unpriced[charge.what] += float(total(charge.items.source).mean()) * charge.items.factor
    if not priced:
        listed = ", ".join(f"{amount:,.0f} {what}" for what, amount in unpriced.items()) or "nothing"
        raise SpikeattnError(
            f"energy model {model.name!r} has no price for anything in this network, which has {listed} per image; "
            "take another model, or another cost table where the prices are its"
        )
    order = list(dict.fromkeys(charge.component for charge in priced))
    keys = {(charge.items.part, charge.component) for charge in priced}
    rows = sorted(keys, key=lambda row: (*part_order(row[0]), order.index(row[1])))
    places, scale = {row: place for place, row in enumerate(rows)}, model.record.scale
    values = np.zeros((activity.n_images, len(rows) + 1))
    floor, ceiling = np.zeros((2, len(rows) + 1))
    for charge in priced:
        assert charge.price is not None
        items, each, row = charge.items, charge.price * scale, places[charge.items.part, charge.component]
        amount = total(items.source) * items.factor
        values[:, row] += amount * each
        ceiling[row] += items.ceiling * each if each else 0.0
        floor[row] += amount[0] * each if isinstance(items.source, Constant) else 0.0
    values[:, -1], floor[-1], ceiling[-1] = values.sum(axis=1), floor.sum(), ceiling.sum()
    if not model.record.additive:
        rows, values, floor, ceiling = [], values[:, -1:], floor[-1:], ceiling[-1:]
    listed_unpriced = {what: amount for what, amount in unpriced.items() if amount > 0}
    return _Side(model, side, rows, values, floor, ceiling, listed_unpriced)


def _rows(sides: Sequence[_Side], ends: Floats, limits: Intervals) -> pd.DataFrame:
    records = [side.model.record for side in sides]
    verdicts = [
        side.model.verdict(limits[end]) if side.model.verdict is not None and side.side == SNN else None
        for side, end in zip(sides, ends, strict=True)
    ]
    return pd.DataFrame(
        {
            "model": [record.name for record in records],
            "side": [side.side for side in sides],
            "value": limits.value[ends],
            "ci_low": limits.low[ends],
            "ci_high": limits.high[ends],
            "unit": [record.unit for record in records],
            "interval": limits.method[ends],
            "fidelity": [record.fidelity for record in records],
            "inside": ["; ".join(record.inside) for record in records],
            "outside": ["; ".join(record.outside) for record in records],
            "verdict": pd.Series(verdicts, dtype=object),
        }
    )


def _over_compute(
    sides: Sequence[_Side],
    network: NetworkEvents,
    activity: Activity,
    sampling: tuple[int, int, float],
    labels: NDArray[np.integer] | None,
) -> dict[str, Floats]:
    """Every energy over that of `compute` on the same side, image by image; NaN where the model is no energy."""
    found = {key: np.full(len(sides), np.nan) for key in ("value", "low", "high")}
    try:
        beside = {side.side: side for side in _sides_of(get_energy_model(FIRST), network, activity, {})}
    except SpikeattnError:  # the cost table has no price for arithmetic
        return found
    for name in (SNN, ANN):
        places = [i for i, side in enumerate(sides) if side.side == name and side.model.record.unit == "mJ"]
        if not places or name not in beside or beside[name].unpriced:
            continue
        over = np.stack([sides[i].values[:, -1] for i in places], axis=1)
        under = np.repeat(beside[name].values[:, -1:], len(places), axis=1)
        ratio = ratio_intervals(over, under, *sampling, labels=labels)
        for key, column in found.items():
            column[places] = getattr(ratio, key)
    return found


def _parts(sides: Sequence[_Side], ends: Floats, limits: Intervals) -> pd.DataFrame:
    tables, start = [], 0
    for side, end in zip(sides, ends, strict=True):
        own = slice(start, int(end))
        start = int(end) + 1
        tables.append(
            pd.DataFrame(
                {
                    "model": side.model.name,
                    "side": side.side,
                    "part": [part for part, _ in side.rows],
                    "component": [component for _, component in side.rows],
                    "value": limits.value[own],
                    "ci_low": limits.low[own],
                    "ci_high": limits.high[own],
                    "unit": side.model.record.unit,
                    "interval": limits.method[own],
                }
            )
        )
    filled = [frame for frame in tables if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _unpriced(sides: Sequence[_Side]) -> pd.DataFrame:
    rows = [(side.model.name, side.side, what, amount) for side in sides for what, amount in side.unpriced.items()]
    return pd.DataFrame(rows, columns=["model", "side", "what", "per_image"])


def _notes(table: ModelTable, costs: CostTable) -> list[Note]:
    text = (
        "these are answers of different models to the same question; they measure different things, so none of them "
        "is added to another, and a figure is to be compared with figures of the same model alone"
    )
    notes = [Note.plain("side-by-side", text)]
    if any(record.costs for record in table.records):
        users = ", ".join(record.name for record in table.records if record.costs)
        notes.append(
            Note.plain("costs-of-models", f"cost table {costs.name} prices {users}; the others have their own")
        )
        notes += costs.notes()
    bare: dict[str, list[str]] = {}
    for (model, side), rows in table.unpriced.groupby(["model", "side"], sort=False):
        amounts = zip(rows["what"], rows["per_image"], strict=True)
        listed = ", ".join(f"{amount:,.0f} {what}" for what, amount in amounts)
        bare.setdefault(listed, []).append(str(model) if side == SNN else f"{model} ({side})")
    for listed, named in bare.items():
        verb = "has" if len(named) == 1 else "have"
        text = f"{', '.join(named)} {verb} no price for {listed} per image; these figures leave them out"
        notes.append(Note("unpriced", text))
    notes += [Note("left-out", f"{model}: {reason}") for model, reason in table.missing.items()]
    return notes

"""Training recipes by several seeds beside an ANN or beside each other: spread between seeds, interval over images.

The mean over seeds is formed image by image (`seed_runs.MeanActivity`), and priced and resampled as any run is. The
interval over images is thus of these networks, the one over training seeds of these images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Run
from spikeattn.energy.amounts import OPS, amounts_by_part
from spikeattn.energy.beside_ann import ARITHMETIC, compare_with_ann, provenance_of
from spikeattn.energy.comparison_result import Resampling
from spikeattn.energy.comparison_tables import inverted
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import prices_of
from spikeattn.energy.paired_runs import check_same_images, names_of
from spikeattn.energy.quantised_ann import QUANTISED
from spikeattn.energy.seed_result import SeedComparison
from spikeattn.energy.seed_rows import Row, rows_of, run_rows, sentences_of
from spikeattn.energy.seed_runs import SeedRuns
from spikeattn.energy.twins import twin_for
from spikeattn.stats.accuracy import mean_accuracy
from spikeattn.stats.intervals import Floats, Interval, Intervals, mean_intervals, wilson_interval
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.stats.training_seeds import WIDE, ratio_of_means, spread_of
from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True, eq=False)
class _Column:
    """One quantity of every run, image by image.

    Attributes:
        table: [N, seeds].
        least, most: of one image.
    """

    table: Floats
    least: float = 0.0
    most: float = float("inf")

    def intervals(self, resampling: Resampling) -> Intervals:
        """Over images, of every run and, last, of their mean; all of them from the same resampled images."""
        labels = resampling.labels
        every = np.concatenate([self.table, self.table.mean(axis=1, keepdims=True)], axis=1)
        return mean_intervals(every, *resampling.arguments, ceiling=self.most, floor=self.least, labels=labels)


def compare_seeds(
    runs: Sequence[Run],
    other: Any,
    tables: Sequence[CostTable],
    convention: Convention,
    gamma: float | pd.DataFrame | None,
    resampling: Resampling,
) -> SeedComparison:
    """`compare` for several training seeds.

    Args:
        runs: of the spiking network.
        other: the runs of another recipe over the same images, a list; or the ANN, as of `compare`.

    Raises:
        SpikeattnError: as `SeedRuns.of` and `compare`.
    """
    own = SeedRuns.of(runs, "profile")
    if isinstance(other, list):
        return _beside_seeds(own, SeedRuns.of(other, "ann"), tables, convention, resampling)
    return _beside_ann(own, other, tables, convention, gamma, resampling)


def _beside_ann(
    own: SeedRuns,
    ann: Any,
    tables: Sequence[CostTable],
    convention: Convention,
    gamma: float | pd.DataFrame | None,
    resampling: Resampling,
) -> SeedComparison:
    mean = compare_with_ann(own.mean, twin_for(own.ledger, ann), tables, convention, gamma, resampling)
    totals = mean.parts[mean.parts["part"] == "total"].to_dict("records")
    named = {table.name: table for table in (*tables, get_costs(QUANTISED))}
    rows, of_runs = _own_rows(own, own.name, [named[t["costs"]] for t in totals], convention, resampling)
    for total in totals:
        column = _energy(own, named[total["costs"]], convention)
        intervals, spent = column.intervals(resampling), column.table.mean(axis=0)
        theirs = np.full(len(own) + 1, float(total["against_mj"]))
        value, low, high, method = inverted(theirs, intervals)
        found = [
            Interval(float(v), float(least), float(most), str(how), resampling.confidence)
            for v, least, most, how in zip(value, low, high, method, strict=True)
        ]
        over_seeds = ratio_of_means(float(total["against_mj"]), spent, resampling.confidence)
        key = ("ratio", None, total["costs"], total["against"])
        spread = spread_of(value[:-1], resampling.confidence) if np.isfinite(value).all() else None
        rows.append(Row(*key, str(len(own)), over_seeds, found[-1], spread))
        of_runs += run_rows(own.name, own.names, key, found[:-1])
    measured = mean.gamma is not None and mean.gamma.measured
    at = "measured" if measured else "not known, so none is skipped" if gamma is None else "given"
    notes = [
        *_on_intervals((own,), resampling),
        Note(
            "seeds",
            f"the ANN {mean.against} is one network: it has neither seeds nor images, and costs the same for all",
        ),
        Note("zeros", f"ratios at gamma {mean.prices['gamma'].iloc[0]:.3g}, the ANN's share of zeros ({at})"),
        *mean.notes,
        *_of_runs(own),
    ]
    return SeedComparison(
        own.name, mean.against, rows_of(rows), pd.DataFrame(of_runs),
        sentences_of(own.name, mean.against, rows), tuple(notes), mean.provenance | _runs(own),
    )  # fmt: skip


def _beside_seeds(
    own: SeedRuns, other: SeedRuns, tables: Sequence[CostTable], convention: Convention, resampling: Resampling
) -> SeedComparison:
    check_same_images(own.runs[0], other.runs[0], f"{own.names[0]} and {other.names[0]}")
    name, against = names_of(own.runs[0], other.runs[0])
    rows, of_runs = _own_rows(own, name, tables, convention, resampling)
    more, of_others = _own_rows(other, against, tables, convention, resampling)
    rows, of_runs = [*rows, *more], [*of_runs, *of_others]
    for table in tables:
        mine, theirs = (_energy(side, table, convention).table for side in (own, other))
        every = np.concatenate([mine, mine.mean(axis=1, keepdims=True)], axis=1)
        over = np.broadcast_to(theirs.mean(axis=1, keepdims=True), every.shape)
        ratios = ratio_intervals(over, every, *resampling.arguments, labels=resampling.labels)
        over_seeds = ratio_of_means(theirs.mean(axis=0), mine.mean(axis=0), resampling.confidence)
        key = ("ratio", None, table.name, against)
        rows.append(Row(*key, f"{len(own)} and {len(other)}", over_seeds, ratios[len(own)], None))
        of_runs += run_rows(name, own.names, key, [ratios[i] for i in range(len(own))])
    notes = [
        *_on_intervals((own, other), resampling),
        Note(
            "unpaired",
            "no seed of one side belongs to one of the other: the ratio over training seeds is that of two independent "
            "means (Welch), and has no spread of its own; over images both sides are paired, image by image",
        ),
        *_shared(own, other),
        ARITHMETIC,
        *(Note.plain(n.code, f"{name}: {n}") for n in (*notes_of(own.ledger, convention), *_of_runs(own))),
        *(Note.plain(n.code, f"{against}: {n}") for n in (*notes_of(other.ledger, convention), *_of_runs(other))),
        *(note for table in tables for note in table.notes()),
    ]
    provenance = provenance_of(own.mean, convention, tables, resampling) | _runs(own)
    provenance |= {"against_ledger": other.ledger.hash(), "against_time_steps": other.ledger.time_steps}
    provenance |= {f"against_{key}": value for key, value in _runs(other).items()}
    return SeedComparison(
        name, against, rows_of(rows), pd.DataFrame(of_runs), sentences_of(name, against, rows), tuple(notes), provenance
    )


def _own_rows(
    side: SeedRuns, name: str, tables: Sequence[CostTable], convention: Convention, resampling: Resampling
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Energy under every cost table, SOPs, rate and accuracy of one side: of its mean, and of every run."""
    columns: list[tuple[str, str | None, _Column]] = [
        ("energy", table.name, _energy(side, table, convention)) for table in {t.name: t for t in tables}.values()
    ]
    columns += [("SOPs", None, _sops(side, convention)), ("rate", None, _Column(side.rates(), most=1.0))]
    rows, of_runs = [], []
    for quantity, costs, column in columns:
        found = column.intervals(resampling)
        means = column.table.mean(axis=0)
        spread = spread_of(means, resampling.confidence, column.least, column.most)
        key = (quantity, name, costs, None)
        rows.append(Row(*key, str(len(side)), spread.mean, found[len(side)], spread))
        of_runs += run_rows(name, side.names, key, [found[i] for i in range(len(side))])
    correct, key = side.correct(), ("accuracy", name, None, None)
    if len(correct):
        spread = spread_of(correct.mean(axis=0), resampling.confidence, 0.0, 1.0)
        each = [wilson_interval(int(run.sum()), len(run), resampling.confidence) for run in correct.T]
        rows.append(Row(*key, str(len(side)), spread.mean, mean_accuracy(correct, resampling.confidence), spread))
        of_runs += run_rows(name, side.names, key, each)
    return rows, of_runs


def _energy(side: SeedRuns, table: CostTable, convention: Convention) -> _Column:
    """mJ of the whole network."""
    prices = prices_of(table)
    amounts = [amounts_by_part(activity, convention) for activity in side.activities]
    spent = np.stack([each.per_image.sum(axis=1) @ prices * PJ_TO_MJ for each in amounts], axis=1)
    least, most = amounts[0].floor @ prices, np.where(prices > 0, amounts[0].ceiling, 0) @ prices
    return _Column(spent, float(least.sum()) * PJ_TO_MJ, float(most.sum()) * PJ_TO_MJ)


def _sops(side: SeedRuns, convention: Convention) -> _Column:
    kind = OPS.index("sop")
    amounts = [amounts_by_part(activity, convention) for activity in side.activities]
    counts = np.stack([each.per_image[:, :, kind].sum(axis=1) for each in amounts], axis=1)
    return _Column(counts, float(amounts[0].floor[:, kind].sum()), float(amounts[0].ceiling[:, kind].sum()))


def _on_intervals(sides: Sequence[SeedRuns], resampling: Resampling) -> list[Note]:
    """What both intervals are about, and which of them say little."""
    level = f"{resampling.confidence:.0%}"
    notes = [
        Note(
            "over-seeds",
            f"{level} interval of the mean over training seeds, Student's with n - 1 degrees of freedom: these images, "
            "other trainings of the same recipe",
        ),
        Note("over-images", f"{level} interval of the mean of these networks: other images, no other training"),
    ]
    for side in sides:
        if len(side) == 1:
            notes.append(Note("one-seed", f"{side.names[0]}: no spread: one seed"))
        elif len(side) <= WIDE:
            text = f"{' and '.join(side.names)}: two seeds, one degree of freedom: the interval over training "
            text += "seeds is wide (9 standard deviations to either side at 95 %); train a third"
            notes.append(Note("two-seeds", text))
        if not len(side.correct()):
            notes.append(Note("accuracy", f"accuracy of {side.name} unknown: {side.unscored()}"))
    return notes


def _shared(own: SeedRuns, other: SeedRuns) -> list[Note]:
    """Whether runs of both sides have the same weights, as of one training at two numbers of time steps."""
    known = [{ledger.settings.weights_sha256 for ledger in _ledgers(side)} - {None} for side in (own, other)]
    if not (both := known[0] & known[1]):
        return []
    text = f"{len(both)} of the trained weights are on both sides; the interval of the ratio over training seeds takes "
    return [
        Note("shared", f"{text}all runs for trainings of their own, and is too wide where both go up and down together")
    ]


def _of_runs(side: SeedRuns) -> list[Note]:
    """Warnings of the runs, each once, with the runs that it is of where it is not of all."""
    told: dict[str, list[str]] = {}
    for run, name in zip(side.runs, side.names, strict=True):
        for warning in run.ledger.warnings:
            told.setdefault(warning, []).append(name)
    notes = []
    for warning, names in told.items():
        note = Note.read(warning)
        notes.append(note if len(names) == len(side) else Note.plain(note.code, f"{', '.join(names)}: {note}"))
    return [*side.notes(), *notes]


def _runs(side: SeedRuns) -> dict[str, Any]:
    weights = [ledger.settings.weights_sha256 for ledger in _ledgers(side)]
    return {"runs": list(side.names), "weights_sha256": weights}


def _ledgers(side: SeedRuns) -> list[Ledger]:
    return [run.ledger for run in side.runs]

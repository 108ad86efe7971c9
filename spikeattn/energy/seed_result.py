"""The result of comparing training recipes by several seeds: two kinds of interval side by side, never mixed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy.comparison_result import table_records

QUANTITIES = ("energy", "ratio", "SOPs", "rate", "accuracy")


@dataclass(frozen=True, eq=False)
class SeedComparison:
    """Training recipes beside each other, each by the runs of its seeds over the same images.

    Two intervals answer two questions. Over training seeds: what if these networks were trained again, and shown the
    same images? Over images: what if these very networks were shown other images? Neither holds the other.

    Attributes:
        name, against: the two recipes; the second may be an ANN, which has no seeds.
        table: a row per quantity, network and pricing. Columns quantity ("energy", mJ per image; "ratio", of the mean
            energies, the other's / this one's; "SOPs", per image; "rate", the mean firing rate; "accuracy"), network
            (NA for a ratio), costs, against (NA but for a ratio), n_seeds ("3", of a ratio "3 and 2"); value, the mean
            over seeds; sd (between seeds, n - 1), least, most (NaN of one seed, and of a ratio of two sides of seeds);
            seeds_low, seeds_high, seeds_interval ("t", or "none" of one seed): over training seeds; images_low,
            images_high, images_interval (a method of `stats.intervals.Interval`): of the mean over seeds, over images.
        runs: a row per run, quantity and pricing: network, run (its folder or its place), quantity, costs, against,
            value, low, high, interval (over images). The ratio of a run is the mean energy of the other side / its own.
        sentences: the outcome in words.
        notes: choices and limits a reader must know.
        provenance: settings of the comparison and what it rests on.
    """

    name: str
    against: str
    table: pd.DataFrame
    runs: pd.DataFrame
    sentences: tuple[str, ...]
    notes: tuple[Note, ...]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"<SeedComparison of {self.name} with {self.against}: {' '.join(self.sentences[:1])}>"

    def _repr_html_(self) -> str:
        """In a notebook: the sentences, both tables, the notes."""
        said = "".join(f"<p>{escape(text)}</p>" for text in self.sentences)
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.notes)
        tables = (f.to_html(index=False, na_rep="", float_format="{:.4g}".format) for f in (self.table, self.runs))
        return f"{said}{''.join(tables)}<ul>{notes}</ul>"

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types; NaN, NA and infinity become None."""
        return {
            "name": self.name,
            "against": self.against,
            "table": table_records(self.table),
            "runs": table_records(self.runs),
            "sentences": list(self.sentences),
            "notes": list(self.notes),
            "provenance": self.provenance,
        }

"""Names of the columns of a count table: the one place that writes and reads them.

`index`, `id` and `label` say which image a row is, `pred:t` what was predicted after step t, and `measure:name:t` holds
a count. A name may itself hold colons ("blocks.0.attn:a"); a measure holds none and the step stands last.
"""

from __future__ import annotations

from typing import NamedTuple

IMAGE = ("index", "id", "label")
Key = tuple[str, str]  # (measure, name)


class Column(NamedTuple):
    """What a counted column holds: a measure of a tensor, synapse or product at one time step, from 1."""

    measure: str
    name: str
    t: int

    @property
    def key(self) -> Key:
        """Measure and name, which all time steps share."""
        return self.measure, self.name


def count(measure: str, name: str, t: int) -> str:
    """The column of a count."""
    return f"{measure}:{name}:{t}"


def prediction(t: int) -> str:
    """The column of what was predicted after step t."""
    return f"pred:{t}"


def counted(column: str) -> Column | None:
    """What a column counts; None where it is one of an image or a prediction."""
    head, _, t = column.rpartition(":")
    measure, colon, name = head.partition(":")
    return Column(measure, name, int(t)) if colon else None


def predicted(column: str) -> int | None:
    """The step after which a column predicts; None where it is another column."""
    kind, _, t = column.partition(":")
    return int(t) if kind == "pred" and t.isdecimal() else None

"""Layouts of published layer tables: which column holds what, in which unit, and the formula that the table states.

Those of the package stand in `layouts/`; a map of the user's own is a file of the same kind. Only `name`, `formula` and
`[columns]` with `layer` and `rate` are needed, and `dense` or the sizes of the layers:

    name = "mine"
    formula = "T x rate x dense MACs x 0.9 pJ"
    time_steps = 4                   # T; needed where the table does not say it and no model is given
    dense_over = "one step"          # or "all steps": what the dense operations are of
    rate_unit = "share"              # or "percent"
    rate_means = "non-zero"          # share of non-zero elements; or "value", the mean value of integer spikes
    multiplies = "first"             # which layers receive no spikes, one of MULTIPLIES
    mac_pj = 4.6                     # the prices that the table states
    ac_pj = 0.9
    energy_pj = 1e9                  # the unit of its energies in pJ: 1e9 for mJ
    dense_unit = 1e6                 # the unit of its dense operations: 1e6 for millions

    [columns]                        # titles of columns; a capital letter that is no title: by place
    layer = "Layer"
    rate = "fr"
    dense = "FLOPs (M)"
    energy = "E (mJ)"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from spikeattn.boundary import arguments, file_text, schema
from spikeattn.boundary.marks import Limits, OneOf
from spikeattn.errors import SpikeattnError

DENSE_OVER = ("one step", "all steps")
RATE_UNITS = {"share": 1.0, "percent": 0.01}
RATE_MEANS = ("non-zero", "value")
MULTIPLIES = ("first", "unnamed", "macs", "kind", "none")
SIZES = ("c_in", "c_out", "kernel", "h_out", "w_out")  # what the dense operations of a convolution follow from
_EXPECTED = "a map of a layer table with name, formula and [columns]"

Positive = Annotated[float, Limits(0, above=True)]


@dataclass(frozen=True)
class Columns:
    """Titles of columns; a capital letter that is no title is a column by its place. `layer` and `rate` must be there.

    Attributes:
        layer: path or name of the layer; `labels` name it where that cell is blank.
        kind: class of the module, for `Layout.layers` and `neurons`.
        receives: the tensor whose rate it is.
        rate, fine_rate: the same rate, the second with more digits where it has any.
        measured_rate: text with the measured rate in it, `tensor(1.1872`.
        dense, dense_sum: dense operations, and their running sum.
        acs, macs: operations as the table counts them.
        energy, ann_energy: of the spiking network and of the ANN, and their running sums.
    """

    layer: str
    rate: str
    labels: tuple[str, ...] = ()
    kind: str | None = None
    receives: str | None = None
    fine_rate: str | None = None
    measured_rate: str | None = None
    dense: str | None = None
    dense_sum: str | None = None
    acs: str | None = None
    macs: str | None = None
    energy: str | None = None
    energy_sum: str | None = None
    ann_energy: str | None = None
    ann_energy_sum: str | None = None
    c_in: str | None = None
    c_out: str | None = None
    kernel: str | None = None
    h_in: str | None = None
    w_in: str | None = None
    h_out: str | None = None
    w_out: str | None = None
    groups: str | None = None

    def titles(self) -> dict[str, str]:
        """The titles by what they hold, those that there are; labels aside."""
        return {key: value for key, value in vars(self).items() if isinstance(value, str)}


@dataclass(frozen=True)
class AttentionRows:
    """How the rows of one attention end: its three neurons, and a layer from D x D without a bias."""

    q: str
    k: str
    v: str
    layer: str


@dataclass(frozen=True)
class Layout:
    """How to read one kind of layer table, see the head of this file.

    Attributes:
        layers, neurons: classes of modules with weights, and of neurons; without `kind` every row is a layer.
        mac_kinds: with multiplies = "kind", the kinds that multiply.
        parts: part of the network by a pattern that the layer's name contains; the first that fits.
        once: patterns of layers that run once per image, as behind a mean over time; the others run at every step.
        heads: of the attention.
        total_rows: names of rows that are sums of the others.
    """

    name: str
    formula: str
    columns: Columns
    title: str = ""
    source: str = ""
    time_steps: Annotated[int, Limits(1)] | None = None
    dense_over: Annotated[str, OneOf(DENSE_OVER)] = "one step"
    rate_unit: Annotated[str, OneOf(tuple(RATE_UNITS))] = "share"
    rate_means: Annotated[str, OneOf(RATE_MEANS)] = "non-zero"
    multiplies: Annotated[str, OneOf(MULTIPLIES)] = "first"
    layers: tuple[str, ...] = ()
    neurons: tuple[str, ...] = ()
    mac_kinds: tuple[str, ...] = ()
    name_pattern: str | None = None
    mac_pj: Positive = 4.6  # 45 nm, fp32: Horowitz, ISSCC 2014, as in nearly all of these papers
    ac_pj: Positive = 0.9
    energy_pj: Positive = 1.0
    dense_unit: Positive = 1.0
    static_input: bool = True
    once: tuple[str, ...] = ()
    heads: Annotated[int, Limits(1)] | None = None
    total_rows: tuple[str, ...] = ("total", "sum", "all")
    parts: Mapping[str, str] = field(default_factory=dict)
    attention: AttentionRows | None = None

    def __post_init__(self) -> None:
        schema.check_fields(self, f"map {self.name!r}")
        columns = self.columns
        if columns.dense is None and not all(getattr(columns, size) for size in SIZES):
            raise SpikeattnError(
                f"map {self.name!r}: [columns] has no dense operations: give dense, or all of {', '.join(SIZES)}"
            )
        needed = {
            "kind": self.multiplies == "kind" or bool(self.layers),
            "macs": self.multiplies == "macs",
            "receives": self.multiplies == "unnamed",
        }
        for column, wanted in needed.items():
            if wanted and getattr(columns, column) is None:
                raise SpikeattnError(f"map {self.name!r}: its settings need {column} = TITLE under [columns]")
        for pattern in (*self.parts, *self.once, *filter(None, [self.name_pattern])):
            try:
                re.compile(pattern)
            except re.error as error:
                raise SpikeattnError(f"map {self.name!r}: {pattern!r} is no pattern ({error})") from error


@cache
def list_layouts() -> Mapping[str, Layout]:
    """The layouts that come with the package, by name."""
    folder = resources.files("spikeattn.energy") / "layouts"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    layouts = [_of_text(file.read_bytes(), file.name) for file in files]
    return {layout.name: layout for layout in layouts}


def load_layout(path: str | Path) -> Layout:
    """A map of the user's own.

    Raises:
        SpikeattnError: no such file, no TOML, a field that is missing, unknown or wrong.
    """
    path = arguments.path("map", path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpikeattnError(f"{path}: cannot be read ({error.strerror}); expected {_EXPECTED}") from error
    return _of_text(content, str(path))


def _of_text(content: bytes, where: str) -> Layout:
    return schema.read(Layout, file_text.parse_toml(content, where, _EXPECTED), where, null=None)

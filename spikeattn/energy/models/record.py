"""What every energy model says of itself, and what it hands over: items of one kind, each with its price.

A model is one file of this folder with a tuple `NAMED_MODELS` of `NamedModel`s; `catalogue.py` finds it. A user's own
is made with the same two classes and `catalogue.register_energy_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spikeattn.boundary.arguments import shown
from spikeattn.energy.costs import PJ_TO_MJ, STATUSES
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.rules import Term
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.stats.intervals import Interval

FIDELITIES = {
    "analytic": "operations and accesses times prices of single ones; no chip was looked at",
    "calibrated": "prices of events on a named chip, from its simulation or data sheet; this network did not run on it",
    "measured": "joules of this kind of network, read off a chip",
}
UNITS = {"mJ": PJ_TO_MJ, "1": 1.0, "spikes per synapse": 1.0}  # what one unit of a price is worth
SNN, ANN = "SNN", "ANN"


@dataclass(frozen=True)
class ModelConstant:
    """A number of a model: its unit, such as "pJ per spike", where it comes from, and a status of `costs.STATUSES`.

    Attributes:
        value: None where the cost table that the caller chooses has it.
    """

    name: str
    value: float | None
    unit: str
    source: str
    status: str = "confirmed"

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise unknown(f"status of the constant {self.name!r}", str(self.status), STATUSES)


@dataclass(frozen=True)
class ModelRecord:
    """What a reader must know of an energy model before its figure means anything.

    Attributes:
        name: by which it is chosen.
        title: one line.
        formula: as text, in the names of `constants`.
        source: paper, package or repository.
        constants: empty where a cost table has them (`costs`).
        technology, precision: such as "45 nm" and "fp32".
        inside, outside: what is in the figure, and what is not.
        fidelity: one of `FIDELITIES`.
        unit: "mJ"; "1" where the model is no energy, or "spikes per synapse".
        checked_on: what the implementation was compared with.
        costs: the prices are those of the cost table that the caller chooses.
        additive: the values of the parts add up to the total; a ratio has no parts.
    """

    name: str
    title: str
    formula: str
    source: str
    constants: tuple[ModelConstant, ...]
    technology: str
    precision: str
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    fidelity: str
    unit: str = "mJ"
    checked_on: str = "nothing"
    costs: bool = False
    additive: bool = True

    def __post_init__(self) -> None:
        where = f"energy model {self.name!r}"
        if not isinstance(self.name, str) or not self.name:
            raise SpikeattnError(f"the name of an energy model is {shown(self.name)}; give a text")
        if self.fidelity not in FIDELITIES:
            raise unknown(f"fidelity of {where}", str(self.fidelity), FIDELITIES)
        if self.unit not in UNITS:
            raise unknown(f"unit of {where}", str(self.unit), UNITS)
        if not self.inside or not self.outside:
            raise SpikeattnError(f"{where} must say what is inside its figure and what is not (inside=, outside=)")

    @property
    def scale(self) -> float:
        """What one unit of a price is in units of the figure: prices of energies are in pJ, figures in mJ."""
        return UNITS[self.unit]

    def as_dict(self) -> dict[str, Any]:
        """The record in plain values, as JSON holds it."""
        keys = ("name", "title", "formula", "source", "technology", "precision", "fidelity", "unit", "checked_on")
        listed = {"inside": list(self.inside), "outside": list(self.outside)}
        rows = [dict(vars(constant)) for constant in self.constants]
        return {key: getattr(self, key) for key in keys} | listed | {"costs": self.costs, "constants": rows}


@dataclass(frozen=True)
class Charge:
    """Items of one kind and what each of them costs.

    Attributes:
        component: what the figure is split by, such as "synapses".
        what: the items in words, such as "synaptic events".
        items: how many there are, of one layer or population (`NetworkEvents` makes them).
        price: of one item, in pJ for energies; None where the model has no price for it: then the items are listed as
            unpriced and are in no figure.
    """

    component: str
    what: str
    items: Term
    price: float | None


Charges = Callable[[NetworkEvents], Iterable[Charge]]


def without_a_price(network: NetworkEvents) -> Iterator[Charge]:
    """What models of synaptic events have no price for: layers of real inputs, and everything without weights."""
    for term in network.multiplications():
        yield Charge("synapses", "multiply-accumulates of real inputs", term, None)
    names = {"mask": "masks", "mac": "multiply-accumulates without weights"}
    for term in network.products():
        yield Charge("products", names.get(term.op, "additions without weights"), term, None)


@dataclass(frozen=True)
class NamedModel:
    """An energy model: its record, and what it charges the spiking network and the ANN beside it.

    Attributes:
        snn: None for a model of ANNs alone.
        ann: None for a model of spiking networks alone. All its items are constants: an ANN does the same on every
            image.
        verdict: what the total and its interval say against published thresholds, in a sentence.
    """

    record: ModelRecord
    snn: Charges | None = None
    ann: Charges | None = None
    verdict: Callable[[Interval], str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.record, ModelRecord):
            raise SpikeattnError(f"record is {shown(self.record)}; give a ModelRecord")
        if self.snn is None and self.ann is None:
            raise SpikeattnError(f"energy model {self.name!r} charges nothing: give snn=, ann= or both")

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def sides(self) -> dict[str, Charges]:
        """What there is to price, by "SNN" and "ANN"."""
        both = {SNN: self.snn, ANN: self.ann}
        return {side: charges for side, charges in both.items() if charges is not None}

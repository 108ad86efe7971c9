"""The additions that spikes cause, as terms of the columns that hold them: what `sops` are the sum of."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.energy.activity import Count
from spikeattn.energy.amounts import full_of
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.rules import terms_of
from spikeattn.storage.columns import Key
from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True)
class SpikeTerm:
    """`factor` x the sum of a column over the time steps: the SOPs of one synapse or product, per image.

    Attributes:
        name: of the synapse or product.
        tensors: what it receives.
        key: the column, by value: ("abs", tensor), ("fan_abs", synapse) or ("pairs_abs", product).
        factor: additions per unit of it; the fan-out where that is the same everywhere.
        once: the first time step alone is charged.
        dense: additions if every element were one spike, per image over all its time steps.
    """

    name: str
    tensors: tuple[str, ...]
    key: Key
    factor: float
    once: bool
    dense: float


def spike_terms(ledger: Ledger) -> tuple[SpikeTerm, ...]:
    """What the `sops` of a run consist of (convention `exact`), in the order of the network; () where nothing adds."""
    synapses = {synapse.name: synapse for synapse in ledger.synapses}
    products = {product.name: product for product in ledger.products}
    terms = []
    for term in terms_of(ledger, get_convention("exact")):
        if term.op != "sop":
            continue
        assert isinstance(term.source, Count)  # `exact` counts what takes place, and prices no rate
        key, factor = (term.source.measure, term.source.name), term.factor
        synapse = synapses.get(term.name)
        if synapse is not None and synapse.fan_out is not None:
            key, factor = ("abs", synapse.input), synapse.fan_out
        tensors = products[term.name].operands if synapse is None else (synapse.input,)
        terms.append(SpikeTerm(term.name, tensors, key, factor, term.source.once, full_of(term, ledger)))
    return tuple(terms)

"""`compute`: arithmetic alone, the figure that spiking-transformer papers print."""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelRecord, NamedModel

_WORDS = {"mac": "multiply-accumulates", "sop": "additions of spikes", "ac": "other additions", "mask": "masks"}


def _snn(network: NetworkEvents) -> Iterator[Charge]:
    for term in (*network.additions(), *network.multiplications(), *network.products()):
        price = network.costs.price(term.op) if network.costs.has(term.op) else None
        yield Charge("compute", _WORDS[term.op], term, price)


def _ann(network: NetworkEvents) -> Iterator[Charge]:
    price = network.costs.price("mac") if network.costs.has("mac") else None
    for term in (*network.dense_layers(), *network.dense_attention()):
        yield Charge("compute", "multiply-accumulates", term, price)


NAMED_MODELS = (
    NamedModel(
        ModelRecord(
            name="compute",
            title="arithmetic alone, as the spiking-transformer papers count",
            formula="E = E_MAC MACs + E_AC (additions of spikes + other additions); the ANN: E_MAC MACs",
            source="Yao et al., NeurIPS 2023 (arXiv 2307.01694), with operations that take place in place of rate x "
            "FLOPs; `--convention` has the formulas of papers",
            constants=(),
            technology="of the cost table",
            precision="of the cost table",
            inside=("multiply-accumulates of real inputs", "additions of spikes", "token sums and matrix products"),
            outside=("memory", "addressing", "neurons", "data movement", "control and leakage"),
            fidelity="analytic",
            checked_on="SOPs of SpikingJelly 2's SynOpCounter: equal",
            costs=True,
        ),
        _snn,
        _ann,
    ),
)

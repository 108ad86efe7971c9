"""`ns-ace` and `s-ace`: synaptic arithmetic weighed with bits, no energy and no unit (Shen et al., arXiv 2311.10802).

Bits of a spike: 1 of a binary one; by our choice, as many of one of several levels as tell these apart,
ceil(log2(high - low + 1)). Layers of real inputs have no bits of a spike and are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, Charges, ModelConstant, ModelRecord, NamedModel, without_a_price
from spikeattn.energy.rules import Term
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import CountedTensor

_SOURCE = "Shen et al., CVPR 2024 (arXiv 2311.10802)"
_LIMITS = {"binary": (0.0, 1.0), "ternary": (-1.0, 1.0)}


def spike_bits(tensor: CountedTensor) -> int | None:
    """Bits that tell the levels of a spike apart; None where nobody knows how many there are."""
    low, high = _LIMITS.get(tensor.kind, (tensor.low, tensor.high))
    if low is None or high is None:
        return None
    return max(round(max(high, 0.0) - min(low, 0.0)).bit_length(), 1)


def _charges(events: Callable[[NetworkEvents], list[Term]]) -> Charges:
    def snn(network: NetworkEvents) -> Iterator[Charge]:
        weight_bits = network.costs.bits
        if weight_bits is None:
            raise SpikeattnError(
                f"cost table {network.costs.name!r} does not say how many bits a weight has (bits = ...), which ns-ace "
                "multiplies with; take horowitz-45nm-fp32 (32 bits) or add them to yours"
            )
        bits = {synapse.name: spike_bits(tensor) for synapse, tensor in network.spiking_layers()}
        for term in events(network):
            own = bits[term.name]
            price = None if own is None else float(weight_bits * own)
            yield Charge("synapses", "synaptic operations", term, price)
        yield from without_a_price(network)

    return snn


def _model(name: str, rate: str, events: Callable[[NetworkEvents], list[Term]]) -> NamedModel:
    record = ModelRecord(
        name=name,
        title=f"synaptic arithmetic{' of spikes' if rate else ' as if all spiked'}, weighed with bits: no energy",
        formula=f"sum over layers of {rate}n T b_w b_s, n the dense operations of a layer",
        source=_SOURCE,
        constants=(
            ModelConstant("b_w", None, "bits of a weight", f"{_SOURCE}: whatever the weights have", "secondary"),
            ModelConstant("b_s", 1, "bit of a binary spike", _SOURCE, "secondary"),
        ),
        technology="none",
        precision="b_w bits of the cost table, b_s of the spikes",
        inside=("operations at weights that spikes reach, padding counted in, times bits of weight and spike",),
        outside=("energy", "layers of real inputs", "products of spikes", "neurons", "memory"),
        fidelity="analytic",
        unit="1",
        checked_on="the formula by hand",
        costs=True,
    )
    return NamedModel(record, snn=_charges(events))


NAMED_MODELS = (
    _model("ns-ace", "rate ", NetworkEvents.firing_shares),
    _model("s-ace", "", NetworkEvents.dense_steps),
)

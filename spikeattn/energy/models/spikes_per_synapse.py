"""`spikes-per-synapse`: how often a synapse is used per inference, against published thresholds."""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelConstant, ModelRecord, NamedModel, without_a_price
from spikeattn.stats.intervals import Interval

DAVIDSON, DAMPFHOFFER_LOW, DAMPFHOFFER_HIGH = 1.72, 0.15, 1.38
_DAVIDSON = "Davidson and Furber, Frontiers in Neuroscience 15 (2021) 651141"
_DAMPFHOFFER = "Dampfhoffer et al., IEEE TETCI 7.3 (2023) 731-741"
_ZONES = (
    (DAMPFHOFFER_LOW, "below every published threshold: they all let the spiking network win"),
    (
        DAMPFHOFFER_HIGH,
        f"within {DAMPFHOFFER_LOW} to {DAMPFHOFFER_HIGH}, where it depends on the hardware (Dampfhoffer 2023), and "
        f"below {DAVIDSON} (Davidson and Furber 2021)",
    ),
    (
        DAVIDSON,
        f"above {DAMPFHOFFER_HIGH}, where the ANN wins on all hardware looked at (Dampfhoffer 2023), and below "
        f"{DAVIDSON} (Davidson and Furber 2021)",
    ),
)
_ABOVE = "above every published threshold: they all let the ANN win"


def _zone(value: float) -> str:
    return next((text for limit, text in _ZONES if value < limit), _ABOVE)


def verdict(spikes: Interval) -> str:
    """Where a value lies among the published thresholds, and whether its interval agrees."""
    zone = _zone(spikes.value)
    limits = [limit for limit in (spikes.low, spikes.high) if limit == limit]  # NaN is no limit
    if any(_zone(limit) != zone for limit in limits):
        return f"{zone}; its interval reaches beyond, so that is open"
    return zone


def _snn(network: NetworkEvents) -> Iterator[Charge]:
    synapses = sum(synapse.dense_macs for synapse, _ in network.spiking_layers())
    for term in network.additions():
        yield Charge("synapses", "synaptic events", term, 1 / synapses)
    yield from without_a_price(network)


NAMED_MODELS = (
    NamedModel(
        ModelRecord(
            name="spikes-per-synapse",
            title="how often a synapse is used per image, against published thresholds",
            formula="synaptic events of all layers that spikes reach / their dense operations at one time step",
            source=f"{_DAVIDSON}; {_DAMPFHOFFER}",
            constants=(
                ModelConstant("davidson", DAVIDSON, "spikes per synapse, below which an SNN can win", _DAVIDSON),
                ModelConstant(
                    "dampfhoffer_low", DAMPFHOFFER_LOW, "spikes per synapse, least threshold", _DAMPFHOFFER, "secondary"
                ),
                ModelConstant(
                    "dampfhoffer_high",
                    DAMPFHOFFER_HIGH,
                    "spikes per synapse, largest threshold",
                    _DAMPFHOFFER,
                    "secondary",
                ),
            ),
            technology="of the papers: digital hardware in one technology for both networks",
            precision="of the papers",
            inside=("synaptic events that take place, T steps together",),
            outside=("energy", "layers of real inputs", "products of spikes", "neurons"),
            fidelity="analytic",
            unit="spikes per synapse",
            checked_on="the formula by hand",
            additive=False,
        ),
        snn=_snn,
        verdict=verdict,
    ),
)

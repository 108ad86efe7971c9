"""`keras-spiking-<device>`: one price per synaptic event and one per neuron update, by device (nengo/keras-spiking).

On a chip for spikes an event is rate x connections x T, padding counted in, and every neuron is updated at every step.
On the others "each synop/neuron update is one MAC" of an ordinary network, which runs once and skips nothing: those are
models of the ANN. There, an activation stands in place of every spiking neuron, those of q, k and v too.
"""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, Charges, ModelConstant, ModelRecord, NamedModel, without_a_price

_TABLE = "keras-spiking 0.3.0, ModelEnergy.devices"
_DAVIES = "Davies et al., Loihi, IEEE Micro 2018"
_HOEPPNER = "Höppner et al., IEEE TCAS-I 2019 (arXiv 1903.08941)"
_DEGNAN = "Degnan, Marr and Hasler, IEEE TVLSI 24.1 (2015)"
# pJ per synaptic event and per neuron update; keras-spiking adds 3.5 to Loihi's 23.6 without saying what for
SPIKING = {
    "loihi": ((23.6, 3.5), 81.0, _DAVIES, "14 nm"),
    "spinnaker": ((13_300.0,), 26_000.0, _HOEPPNER, "130 nm"),
    "spinnaker2": ((450.0,), 2_190.0, _HOEPPNER, "28 nm"),
}
ORDINARY = {
    "cpu": (8_600.0, "Intel i7-4960X", "22 nm"),
    "gpu": (300.0, "Nvidia GTX Titan Black, large batches", "28 nm"),
    "arm": (900.0, "ARM Cortex-A", "not said"),
}


def _on_chip(event_pj: float, update_pj: float) -> Charges:
    def snn(network: NetworkEvents) -> Iterator[Charge]:
        for term in network.nominal_additions():
            yield Charge("synapses", "synaptic events", term, event_pj)
        for term in network.neuron_steps():
            yield Charge("neurons", "neuron updates", term, update_pj)
        yield from without_a_price(network)

    return snn


def _elsewhere(mac_pj: float) -> Charges:
    def ann(network: NetworkEvents) -> Iterator[Charge]:
        for term in network.dense_layers():
            yield Charge("synapses", "multiply-accumulates", term, mac_pj)
        for term in network.dense_attention():
            yield Charge("products", "multiply-accumulates", term, mac_pj)
        for term in network.activations():
            yield Charge("neurons", "activations", term, mac_pj)

    return ann


def _spiking_device(device: str) -> NamedModel:
    events, update, source, technology = SPIKING[device]
    constants = [ModelConstant("event", events[0], "pJ per synaptic event", f"{_TABLE}, from {source}", "secondary")]
    if len(events) > 1:
        why = f"{_TABLE}, which adds it to the event and does not say what it is"
        constants.append(ModelConstant("added", events[1], "pJ per synaptic event", why, "secondary"))
    constants.append(ModelConstant("update", update, "pJ per neuron update", f"{_TABLE}, from {source}", "secondary"))
    record = ModelRecord(
        name=f"keras-spiking-{device}",
        title=f"synaptic events and neuron updates on {device}",
        formula=f"E = {'(event + added)' if len(events) > 1 else 'event'} sum of T rate connections + update N T",
        source=f"{_TABLE} (repository nengo/keras-spiking), from {source}",
        constants=tuple(constants),
        technology=technology,
        precision="of the chip",
        inside=("synaptic events, by rate x connections, padding counted in", "an update per neuron and step"),
        outside=(
            "layers of real inputs",
            "products of spikes",
            "spikes between cores",
            "data on and off the chip",
            "idle time and leakage",
        ),
        fidelity="calibrated",
        checked_on="keras-spiking's formula by hand",
    )
    return NamedModel(record, snn=_on_chip(sum(events), update))


def _ordinary_device(device: str) -> NamedModel:
    price, machine, technology = ORDINARY[device]
    record = ModelRecord(
        name=f"keras-spiking-{device}",
        title=f"the ANN on {machine}",
        formula="E = mac (MACs + activations), once per image",
        source=f"{_TABLE} (repository nengo/keras-spiking), from {_DEGNAN}",
        constants=(
            ModelConstant(
                "mac", price, "pJ per MAC, which an activation is too", f"{_TABLE}, from {_DEGNAN}", "secondary"
            ),
        ),
        technology=technology,
        precision="of the machine",
        inside=("multiply-accumulates of the ANN, padding counted in", "one operation per activation"),
        outside=("memory as such", "batch norm, softmax and pools", "data on and off the machine", "idle time"),
        fidelity="calibrated",
        checked_on="the printed example of keras-spiking (784 to 128 on a CPU: 8.64e-04 J)",
    )
    return NamedModel(record, ann=_elsewhere(price))


NAMED_MODELS = (*map(_spiking_device, SPIKING), *map(_ordinary_device, ORDINARY))

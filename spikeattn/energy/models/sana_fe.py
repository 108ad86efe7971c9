"""`sana-fe-loihi`: Intel's first Loihi event by event, with the energies of SANA-FE's description of it.

SANA-FE simulates a network that is mapped onto cores; here the same events are counted in a run that was mapped
nowhere. What a mapping decides stays the caller's: how many messages a spike is, and how many hops they make. Without
that, a layer is taken to lie on one core, so that a spike is one message to each layer that it reaches, and hops are
not in the figure: both are the least that a mapping can have.

Every neuron is read and updated at every step, also where SANA-FE would skip the update of one whose potential and
input are both 0: the most that the updates can cost. Real inputs and products of spikes have no event on this chip.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real

from spikeattn.boundary.arguments import shown
from spikeattn.energy.custom_records import changed_name
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, Charges, ModelConstant, ModelRecord, NamedModel, without_a_price
from spikeattn.errors import SpikeattnError

ACCESS, UPDATE, SPIKE = 51.2, 21.6, 69.3  # soma
DENSE, SPARSE, CONV = 35.5, 33.6, 24.0  # synapse
MESSAGE, NORTH_SOUTH, EAST_WEST = 111.0, 4.2, 3.0
_SOURCE = "repository SLAM-Lab/SANA-FE, arch/loihi.yaml, which takes them from Davies et al., IEEE Micro 2018"
_CONSTANTS = (
    ("access", ACCESS, "pJ per neuron and step"),
    ("update", UPDATE, "pJ per neuron and step"),
    ("spike", SPIKE, "pJ per spike that leaves a neuron"),
    ("dense", DENSE, "pJ per synaptic event of a linear layer"),
    ("sparse", SPARSE, "pJ per synaptic event of a sparse layer; no layer is taken for one"),
    ("conv", CONV, "pJ per synaptic event of a convolution"),
    ("message", MESSAGE, "pJ per message"),
    ("north_south", NORTH_SOUTH, "pJ per hop; none unless given"),
    ("east_west", EAST_WEST, "pJ per hop; none unless given"),
)


def sana_fe_loihi(
    messages_per_spike: float | None = None,
    north_south_hops: float | None = None,
    east_west_hops: float | None = None,
) -> NamedModel:
    """The model `sana-fe-loihi`, with what is known of a mapping; its name then tells.

    Args:
        messages_per_spike: cores that a spike goes to for each layer that it reaches, on average; 1 unless given.
        north_south_hops, east_west_hops: hops that a message makes on average; not in the figure unless given.

    Raises:
        SpikeattnError: a negative number, fewer than one message, or anything that is no number.
    """
    given = {
        "messages_per_spike": messages_per_spike,
        "north_south_hops": north_south_hops,
        "east_west_hops": east_west_hops,
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        least = 1 if name == "messages_per_spike" else 0
        if not isinstance(value, Real) or isinstance(value, bool) or not least <= value < float("inf"):
            raise SpikeattnError(f"{name} of sana-fe-loihi is {shown(value)}; give a number from {least} on")
    outside = ["layers of real inputs", "products of spikes", "leakage, barriers between steps, the host"]
    if "messages_per_spike" not in given:
        outside.append("messages beyond one per spike and layer (a layer on several cores)")
    if "north_south_hops" not in given or "east_west_hops" not in given:
        outside.append("hops between cores: they depend on the mapping, which is not known")
    record = ModelRecord(
        name=changed_name("sana-fe-loihi", given) if given else "sana-fe-loihi",
        title="Loihi event by event, as SANA-FE prices it; the mapping is an assumption",
        formula="E = (access + update) N T + spike spikes + (dense | conv) synaptic events + message messages + hops",
        source=_SOURCE,
        constants=tuple(ModelConstant(name, value, unit, _SOURCE) for name, value, unit in _CONSTANTS),
        technology="14 nm",
        precision="of the chip (weights of up to 9 bits)",
        inside=(
            "synaptic events that take place",
            "access and update of every neuron at every step, also of those at rest",
            "spikes that leave neurons",
            f"{messages_per_spike or 1:g} message{'' if (messages_per_spike or 1) == 1 else 's'} per spike and layer "
            "that it reaches",
        ),
        outside=tuple(outside),
        fidelity="calibrated",
        checked_on="sanafe 2.2.9 on two layers mapped to one core: equal",
    )
    hops = NORTH_SOUTH * (north_south_hops or 0) + EAST_WEST * (east_west_hops or 0)
    return NamedModel(record, snn=_charges(float(messages_per_spike or 1), hops))


def _charges(messages: float, hops: float) -> Charges:
    """`hops`: pJ of the hops of one message."""

    def snn(network: NetworkEvents) -> Iterator[Charge]:
        convolutions = {s.name for s in network.ledger.synapses if s.kernel or s.op.startswith("conv")}
        for term in network.additions():
            yield Charge("synapses", "synaptic events", term, CONV if term.name in convolutions else DENSE)
        for term in network.neuron_steps():
            yield Charge("somas", "access and update", term, ACCESS + UPDATE)
        for term in network.spikes():
            yield Charge("somas", "spikes", term, SPIKE)
        for term in network.arrivals():
            yield Charge("network", "messages", term, messages * (MESSAGE + hops))
        yield from without_a_price(network)

    return snn


NAMED_MODELS = (sana_fe_loihi(),)

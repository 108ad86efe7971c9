"""`qualia-sram`: as `compute+memory`, every word in SRAM blocks of 8 KB, whatever memory it is in."""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.energy.models.lemaire import charges_of_lines, charges_of_twin
from spikeattn.energy.models.memory import check_prices
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelConstant, ModelRecord, NamedModel
from spikeattn.energy.models.registry import get_model
from spikeattn.errors import SpikeattnError

ACCESS_PJ, BUS_BITS = 10.0, 64
_SOURCE = "repository LEAT-EDGE/qualia-plugin-snn, EnergyEstimationMetric._e_ram, sram_estimation_type 'new'"
_LINES = get_model("compute+memory")


def word_pj(bits: int) -> float:
    """pJ of one word: as many whole words as fit share an access of 64 bits.

    Raises:
        SpikeattnError: a word does not fit in one access.
    """
    if bits > BUS_BITS:
        raise SpikeattnError(f"qualia-sram reads {BUS_BITS} bits at once; words of {bits} bits do not fit")
    return ACCESS_PJ / (BUS_BITS // bits)


def _snn(network: NetworkEvents) -> Iterator[Charge]:
    check_prices(network.costs, _LINES)
    assert network.costs.bits is not None  # `check_prices` has seen to it
    price = word_pj(network.costs.bits)
    return charges_of_lines(network, _LINES, lambda line: price)


def _ann(network: NetworkEvents) -> Iterator[Charge]:
    check_prices(network.costs, _LINES)
    assert network.costs.bits is not None  # `check_prices` has seen to it
    return charges_of_twin(network, _LINES, word_pj(network.costs.bits))


NAMED_MODELS = (
    NamedModel(
        ModelRecord(
            name="qualia-sram",
            title="compute+memory with every word in 8 KB blocks of SRAM on a bus of 64 bits",
            formula="E = sum over operations x E_op + words x access / (bus // bits of a word)",
            source=_SOURCE,
            constants=(
                ModelConstant("access", ACCESS_PJ, "pJ per access", f"{_SOURCE}; SRAM of 8 KB, Horowitz 2014"),
                ModelConstant("bus", BUS_BITS, "bits", _SOURCE),
            ),
            technology="45 nm; operations of the cost table",
            precision="bits of a word: of the cost table",
            inside=("what compute+memory has",),
            outside=("the size of a memory: all cost the same", "what compute+memory leaves out"),
            fidelity="analytic",
            checked_on="the formula by hand",
            costs=True,
        ),
        _snn,
        _ann,
    ),
)

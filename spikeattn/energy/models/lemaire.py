"""`compute+memory` and `lemaire-2022`: arithmetic, neurons, addressing and memory; `memory.py` has every line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spikeattn.energy.models.memory import Line, check_prices, lines_of, word_price
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelRecord, NamedModel
from spikeattn.energy.models.registry import EnergyModel, get_model
from spikeattn.energy.rules import Term


def charges_of_lines(network: NetworkEvents, model: EnergyModel, word: Callable[[Line], float]) -> Iterator[Charge]:
    """The lines of a model with memory, each with its price; `word` prices those that are words of a memory.

    Raises:
        SpikeattnError: the run holds no numbers of weights.
    """
    for line in lines_of(network.ledger, network.convention, model):
        items = Term(line.name, line.part, None, line.op or "word", line.factor, line.source, line.ceiling)
        if line.op is None:
            yield Charge(line.component, line.what, items, word(line))
        else:
            price = network.costs.price(line.op) if network.costs.has(line.op) else None
            yield Charge(line.component, line.what, items, price)


def with_memory(model: EnergyModel) -> Callable[[NetworkEvents], Iterator[Charge]]:
    """What a model whose memories are those of the cost table charges a spiking network."""

    def snn(network: NetworkEvents) -> Iterator[Charge]:
        check_prices(network.costs, model)
        return charges_of_lines(network, model, lambda line: word_price(network.costs, model, line.buffer or 0))

    return snn


_INSIDE = (
    "arithmetic",
    "additions of biases, resets and leak of neurons",
    "addresses of spikes",
    "reads of weights and biases, queues of spikes, membrane potentials",
)
_OUTSIDE = (
    "pools and batch norms (folded)",
    "memory and addresses of products of spikes",
    "keeping the output of a first layer that runs once",
    "data movement between chips, control and leakage",
)


def _record(model: EnergyModel, title: str, formula: str, checked_on: str) -> ModelRecord:
    return ModelRecord(
        name=model.name,
        title=title,
        formula=formula,
        source=model.source,
        constants=(),
        technology="of the cost table (45 nm for Horowitz's)",
        precision="of the cost table; a weight, a spike and a potential are one word each",
        inside=_INSIDE,
        outside=_OUTSIDE,
        fidelity="analytic",
        checked_on=checked_on,
        costs=True,
    )


_EXACT, _NOMINAL = get_model("compute+memory"), get_model("lemaire-2022")
_FORMULA = (
    "E = sum over operations x E_op + sum over words x E(size of their memory), E(size) linear between 0 and the "
    "memories of the cost table; fan-out: {}"
)
NAMED_MODELS = (
    NamedModel(
        _record(
            _EXACT,
            "arithmetic, addressing and memory, with the weights that spikes really meet",
            _FORMULA.format("the weights that a spike really meets"),
            "weight and bias reads and neuron states of SpikingJelly 2's SimpleEnergyProfiler: equal",
        ),
        with_memory(_EXACT),
    ),
    NamedModel(
        _record(
            _NOMINAL,
            "the same with nominal fan-outs, as SpikingJelly 2 reads the paper",
            _FORMULA.format("C_out k^2 / groups whatever the border and the stride"),
            "SpikingJelly 2's LemaireEnergyProfiler: equal to the last pJ where both can count",
        ),
        with_memory(_NOMINAL),
    ),
)

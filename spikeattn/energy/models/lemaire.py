"""`compute+memory` and `lemaire-2022`: arithmetic, neurons, addressing and memory; `memory.py` has every line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spikeattn.energy.activity import Constant
from spikeattn.energy.ann_memory import charges_of_ann
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.models.memory import Line, check_prices, lines_of, word_price
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelRecord, NamedModel
from spikeattn.energy.models.registry import EnergyModel, get_model
from spikeattn.energy.rules import Term
from spikeattn.errors import SpikeattnError


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


def charges_of_twin(network: NetworkEvents, model: EnergyModel, word_pj: float | None = None) -> Iterator[Charge]:
    """The ANN beside it under the same law (`ann_memory`); what nobody knows the size of has no price.

    Args:
        word_pj: of one word of any memory; by its size unless given.
    """
    check_prices(network.costs, model)
    network.check_parameters()
    twin = dense_twin(network.ledger)
    sizes = () if twin.sizes is None else twin.sizes.layers
    sized = {size.layer for size in sizes}
    layers = [synapse.name for synapse in network.ledger.synapses if synapse.name not in sized]
    if layers:
        raise SpikeattnError(f"the sizes of {', '.join(layers)} in {twin.name} are not known, so it has no memory")
    for row in charges_of_ann(sizes, network.costs, model).to_dict("records"):
        words = row["unit"] == "words"
        yield Charge(
            row["component"],
            row["what"],
            _items(row["name"], row["part"], row["amount"]),
            word_pj if words and word_pj is not None else row["pj"],
        )
    for row in twin.layers.to_dict("records"):
        if row["layer"] not in sized:
            items = _items(row["layer"], row["part"], row["macs"])
            yield Charge("compute", "multiply-accumulates of products of unknown size", items, None)


def _items(name: str, part: str, amount: int) -> Term:
    """So many operations or words of an ANN, the same for every image."""
    return Term(name, part, None, "op", amount, Constant(1), float(amount))


def ann_with_memory(model: EnergyModel) -> Callable[[NetworkEvents], Iterator[Charge]]:
    """What a model whose memories are those of the cost table charges the ANN."""
    return lambda network: charges_of_twin(network, model)


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
    "memories of the cost table; fan-out: {}; the ANN: the same law for dense layers"
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
        ann_with_memory(_EXACT),
    ),
    NamedModel(
        _record(
            _NOMINAL,
            "the same with nominal fan-outs, as SpikingJelly 2 reads the paper",
            _FORMULA.format("C_out k^2 / groups whatever the border and the stride"),
            "SpikingJelly 2's LemaireEnergyProfiler: equal to the last pJ where both can count",
        ),
        with_memory(_NOMINAL),
        ann_with_memory(_NOMINAL),
    ),
)

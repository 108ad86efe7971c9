"""What an ANN costs beyond arithmetic under the energy models with memory: the same law as for layers of real inputs.

Per image and layer with F multiply-accumulates (`models.memory` has the prices of words and the spiking side):

    compute             F multiply-accumulates
    biases              one addition per output element of a layer with biases
    addressing          in + out additions, in a convolution C_out k^2 more
    memory_weights      F words, and one per output element of a layer with biases
    memory_activations  inputs: F words in a convolution, one per input of a linear layer;
                        outputs: one word each, into a buffer as large as all of them

The last line is what a spiking network pays at its neurons (2 N T words of potentials, one per spike sent): an output
is written once, after its activation. The activation's comparison with 0 is free, as a neuron's comparison with its
threshold is. A matrix product is a linear layer whose weights are its second operand: softmax attention reads a word of
k, or of v, per multiply-accumulate, its queries and its scores once, and writes its scores and its outputs once.

Every weight and input is read, zero or not: hardware that skips zeros saves arithmetic, which the share `gamma` of a
comparison is about, and could save reads, of which nothing is taken off here.

Left out, as on the spiking side: norms (they fold into the weights), pools, softmax, residual streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from spikeattn.energy.costs import PJ_TO_MJ, CostTable
from spikeattn.energy.layer_sizes import LayerSizes
from spikeattn.energy.models.memory import word_price
from spikeattn.energy.models.registry import EnergyModel

COLUMNS = ["name", "part", "component", "what", "amount", "unit", "buffer_bytes", "pj", "energy_mj"]
_Charge = tuple[str, str, float, str | None, int]  # component, what, amount, operation or None for words, buffer


def charges_of_ann(sizes: Iterable[LayerSizes], costs: CostTable, model: EnergyModel) -> pd.DataFrame:
    """Everything that a model with memory charges an ANN, with the columns of `ComponentTable.lines`.

    Args:
        costs: a table with prices of memories (`models.memory.check_prices`).
    """
    assert costs.bits is not None  # `check_prices` has seen to it
    rows = []
    for size in sizes:
        for component, what, amount, op, buffer in _charges(size):
            pj = costs.price(op) if op is not None else word_price(costs, model, buffer)
            unit = "words" if op is None else "operations"
            words = buffer * costs.bits // 8 if op is None else None
            rows.append((size.layer, size.part, component, what, amount, unit, words, pj, amount * pj * PJ_TO_MJ))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"buffer_bytes": "Int64"})


def _charges(size: LayerSizes) -> Iterator[_Charge]:
    weights = size.weights + size.biases
    yield "compute", "macs", size.macs, "mac", 0
    if size.biases:
        yield "biases", "additions", size.outputs, "ac", 0
        yield "memory_weights", "bias reads", size.outputs, None, weights
    yield "addressing", "additions", size.inputs + size.outputs + size.kernel, "address_add", 0
    yield "memory_weights", "weight reads", size.macs, None, weights
    yield "memory_activations", "input reads", size.macs if size.kernel else size.inputs, None, size.inputs
    yield "memory_activations", "output writes", size.outputs, None, size.outputs

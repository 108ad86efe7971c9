"""A published layer table as an activity that conventions can price: on a network's ledger, or on its own rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.energy.activity import Rate, Source
from spikeattn.energy.layer_layouts import Layout
from spikeattn.energy.layer_tables import LayerRow, LayerTable
from spikeattn.energy.published_rates import PublishedActivity
from spikeattn.energy.table_arithmetic import Difference
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse

_SHOWN = 8  # names in an error; a network has hundreds


@dataclass
class LayerActivity(PublishedActivity):
    """Rates of a layer table, the same at every time step, as the activity of one nameless average image.

    Attributes:
        means: what its rates are, one of `layer_layouts.RATE_MEANS`.
    """

    means: str = "non-zero"

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, [1]; refused where the table's rates are not those asked for."""
        if isinstance(source, Rate):
            integers = [name for name in source.tensors if self.ledger.tensor(name).kind == "integer"]
            if integers and source.by == "nnz" and self.means == "value":
                raise SpikeattnError(
                    f"it counts non-zero elements, and the table holds mean values of integer spikes ({integers[0]})"
                )
            if integers and source.by == "abs" and self.means == "non-zero":
                raise SpikeattnError(
                    f"it counts spikes by value, and the table holds shares of non-zero elements of {integers[0]}, "
                    "whose spikes are integers"
                )
        return super().total(source)


def activity_of_rows(table: LayerTable, time_steps: int | None = None, heads: int | None = None) -> LayerActivity:
    """A layer table priced on its own rows: dense operations and rates as printed, no border, no sizes of tensors.

    Args:
        time_steps, heads: in place of what the layout says.

    Raises:
        SpikeattnError: nobody says the time steps, which separate operations of one step from those of all.
    """
    layout = table.layout
    T = time_steps or layout.time_steps
    if T is None:
        raise SpikeattnError(
            f"{table.where} does not say its number of time steps: give --time-steps T, time_steps in a map, or --model"
        )
    kind = "integer" if layout.rate_means == "value" else "binary"
    tensors, synapses, rates = [], [], {}
    for place, row in enumerate(table.layers):
        once = any(re.search(pattern, row.name) for pattern in layout.once)
        image = row.kind == "mac" and place == 0
        received = "input" if image else f"input of {row.name}"
        tensors.append(
            _tensor(received, row, "input" if image else "op", "real" if row.kind == "mac" else kind, layout)
        )
        if row.rate is not None and row.kind == "ac":
            rates[received] = np.full(T, row.rate.value)
        steps = T if layout.dense_over == "all steps" and not once else 1
        name, part = row.name, _part(layout, row.name)
        out = _elements(row, "c_out", "h_out", "w_out") or 0
        synapses.append(
            Synapse(
                name, "layer", received, round(row.dense / steps), output_elements=out, every_step=not once, part=part
            )
        )
    neurons = {row.name: row for row in table.rows if row.kind == "neuron"}
    for name, row in neurons.items():
        elements = row.dense / (T if layout.dense_over == "all steps" else 1)
        tensors.append(CountedTensor(name, (round(elements),), round(elements), "neuron", kind))
        if row.rate is not None:
            rates[name] = np.full(T, row.rate.value)
    products, made = _products(table, neurons, T, heads or layout.heads)
    ledger = Ledger(
        T, layout.static_input, (*tensors, *made), tuple(synapses), tuple(products), model={"name": table.where}
    )
    return LayerActivity(ledger, rates, means=layout.rate_means)


def _tensor(name: str, row: LayerRow, maker: str, kind: str, layout: Layout) -> CountedTensor:
    # Rates are multiplied with dense operations, never with elements: where no size is printed, 1 stands for it.
    elements = _elements(row, "c_in", "h_in", "w_in") or 1
    static = maker == "input" and layout.static_input
    return CountedTensor(name, (elements,), elements, maker, kind, static=static, number=kind == "real")


def _elements(row: LayerRow, *columns: str) -> int | None:
    sizes = [row.get(column) for column in columns]
    return None if None in sizes else round(float(np.prod([size.value for size in sizes if size is not None])))


def _part(layout: Layout, name: str) -> str | None:
    return next((part for pattern, part in layout.parts.items() if re.search(pattern, name)), None)


def _products(
    table: LayerTable, neurons: Mapping[str, LayerRow], T: int, heads: int | None
) -> tuple[list[Product], list[CountedTensor]]:
    """K^T V and Q (K^T V) of every attention: H x N x d^2 dense operations each, with d = D / H."""
    rule = table.layout.attention
    if rule is None or heads is None:
        return [], []
    rows = {row.name: row for row in table.layers}
    products, tensors = [], []
    for block, name in enumerate(name for name in neurons if name.endswith(rule.q)):
        base = name.removesuffix(rule.q)
        needed = [base + end for end in (rule.q, rule.k, rule.v)]
        layer = rows.get(base + rule.layer)
        if layer is None or not all(each in neurons for each in needed):
            continue
        tokens_channels = neurons[name].dense / T  # N x D, of which the layer D x D makes N x D x D
        channels = layer.dense / (T * tokens_channels)
        if not float(channels / heads).is_integer():
            raise SpikeattnError(f"{heads} heads do not divide the {channels:g} channels of {layer.name}")
        dense = round(tokens_channels * channels / heads)
        q, k, v = needed
        matrix = f"{base}.k^T v"
        size = round(channels * channels / heads)
        tensors.append(CountedTensor(matrix, (size,), size, "op", "integer", summed=True))
        products.append(Product(f"{base}.k^T v", "matmul", (k, v), dense, part="attention", block=block))
        products.append(Product(f"{base}.q (k^T v)", "matmul", (q, matrix), dense, part="attention", block=block))
    return products, tensors


def activity_on_network(table: LayerTable, ledger: Ledger) -> tuple[LayerActivity, list[Difference]]:
    """A layer table on the ledger of its network, its layers found by their paths.

    Returns:
        The activity, and where the table's dense operations are not those of the network.

    Raises:
        SpikeattnError: a layer of the table is none of the network, or two rows give one tensor different rates.
    """
    T, layout = ledger.time_steps, table.layout
    if layout.time_steps not in (None, T):
        raise SpikeattnError(f"{table.where} has {layout.time_steps} time steps, the network {T}; give --time-steps")
    synapses = {synapse.name: synapse for synapse in ledger.synapses}
    tensors = {tensor.name: tensor for tensor in ledger.tensors}
    rates: dict[str, Floats] = {}
    printed: dict[str, LayerRow] = {}
    lost: list[str] = []
    differences: list[Difference] = []

    def note(tensor: str, row: LayerRow) -> None:
        if row.rate is None:
            return
        before = printed.setdefault(tensor, row)
        assert before.rate is not None
        if abs(before.rate.value - row.rate.value) > before.rate.half + row.rate.half + 1e-12:
            raise SpikeattnError(
                f"{table.where}: {before.name} (line {before.line}) and {row.name} (line {row.line}) receive one "
                f"tensor, {tensor}, and their rates are {before.rate.value:g} and {row.rate.value:g}"
            )
        rates[tensor] = np.full(T, before.rate.value)

    for row in table.layers:
        synapse = _found(row.name, synapses)
        tensor = _found(row.receives or row.name, tensors) if synapse is None else None
        if synapse is not None:
            if row.kind == "ac":
                note(synapse.input, row)
            differences += _beside_network(row, synapse, table, T)
        elif row.receives and tensor is not None:
            note(tensor.name, row)
        elif row.kind == "ac" or not row.receives and synapses:
            lost.append(f"{row.name} (line {row.line})")
    if layout.columns.receives is not None:  # its rows without a tensor have no path either
        lost = [name for name in lost if name.split(" (line")[0] in {row.name for row in table.layers if row.receives}]
    if lost:
        raise SpikeattnError(
            f"{table.where}: {len(lost)} of {len(table.layers)} layers are none of this network: {_few(lost)}; the "
            f"network has {_few(list(synapses))}. Give the model that the table belongs to"
        )
    for row in table.rows:
        if row.kind == "neuron" and (tensor := _found(row.name, tensors)) is not None:
            note(tensor.name, row)
    return LayerActivity(ledger, rates, means=layout.rate_means), differences


def _found(name: str, rows: Mapping[str, Any]) -> Any:
    """The row of this path, or the only one whose path ends as it, such as behind "module."."""
    if name in rows:
        return rows[name]
    ends = [row for path, row in rows.items() if path.endswith(f".{name}") or name.endswith(f".{path}")]
    return ends[0] if len(ends) == 1 else None


def _beside_network(row: LayerRow, synapse: Synapse, table: LayerTable, T: int) -> Iterable[Difference]:
    if row.get("dense") is None:
        return
    steps = T if table.layout.dense_over == "all steps" and synapse.every_step else 1
    stated, ours = row.dense, float(synapse.dense_macs * steps)
    if abs(stated - ours) <= row.numbers["dense"].half + 1e-9 * ours:
        return
    biases = synapse.output_elements * steps if synapse.biases else 0
    text = f"the difference is one operation for each of {biases:,} biased outputs" if stated - ours == biases else ""
    relative = (stated - ours) / ours if ours else float("nan")
    yield Difference(row.line, row.name, "network", stated, ours, stated - ours, relative, text)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

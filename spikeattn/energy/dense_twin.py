"""The ANN beside a spiking network by hand: the dense multiply-accumulates of its layers, and softmax attention.

Counted are convolutions, linear layers and matrix products, and, apart from them, residual sums and averages; batch
norm, activations, max-pools, softmax and scaling (some 3 N^2 per head) are not, on either side of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spikeattn.energy.costs import PJ_TO_MJ, CostTable
from spikeattn.energy.layer_sizes import LayerSizes, TwinSizes, size_of_layer, sizes_of_attention
from spikeattn.energy.relu_operands import fed_by_neurons
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Product, Synapse
from spikeattn.structure.entry import OTHER, Extent
from spikeattn.structure.network_structure import Structure

ATTENTION = "attention"  # the part that is masks of spikes in a spiking network and softmax attention in its twin
COLUMNS = ["part", "block", "layer", "macs"]


@dataclass(frozen=True, eq=False)
class DenseTwin:
    """Multiply-accumulates of one image through a network with real activations, without time.

    Attributes:
        name: of the network.
        layers: columns part, block, layer, macs (per image), reads_image (True for a layer fed by the input) and zeros
            (True where the operand may hold zeros that hardware skips: it is the image or comes out of a ReLU). Without
            zeros all but attention may hold them.
        note: where the numbers come from, in a sentence.
        sizes: of the layers, for the models with memory; None where nobody has looked.
        gamma: columns layer and gamma, the share of zeros in the operand of every layer, where that was measured.
        gamma_from: where gamma comes from, or why it was not measured, in words.
        additions: of numbers without weights, (part, block, additions per image): residual sums and averages, where the
            twin has those of the spiking network; of another ANN nobody knows them.
    """

    name: str
    layers: pd.DataFrame
    note: str
    sizes: TwinSizes | None = None
    gamma: pd.DataFrame | None = None
    gamma_from: str = ""
    additions: tuple[tuple[str, int | None, int], ...] = ()

    @property
    def macs(self) -> int:
        """All multiply-accumulates per image."""
        return int(self.layers["macs"].sum())

    def mj(self, costs: CostTable, additions: bool = True) -> float:
        """Energy of one image in mJ, no zeros skipped.

        Args:
            additions: whether `additions` are counted.
        """
        sums = sum(count for *_, count in self.additions) if additions else 0
        return (self.macs * costs.price("mac") + (sums * costs.price("ac") if sums else 0.0)) * PJ_TO_MJ


def shared_part(part: str | None) -> str:
    """The name of a part in a comparison: "other" where nobody knows it."""
    return part or OTHER


@dataclass(frozen=True)
class TwinParts:
    """What a twin is made of; `DenseTwin.layers` lists it in this order.

    Attributes:
        synapses: every layer with weights, once.
        attention: extents of the spiking attentions of every block, in whose place softmax attention stands.
        products: matrix products that belong to none of these, taken over as they are.
        sums: sums of q and k in runs of versions that inferred no structure; each stands for an attention.
    """

    synapses: tuple[Synapse, ...]
    attention: Mapping[int, tuple[Extent, ...]]
    products: tuple[Product, ...]
    sums: tuple[Product, ...]


def twin_parts(ledger: Ledger) -> TwinParts:
    """What of a spiking network its twin takes over, and what it replaces."""
    structure = Structure.of_ledger(ledger)
    inside = {product.block for product in ledger.products if product.part == ATTENTION}
    inside |= {tensor.block for tensor in ledger.tensors if tensor.part == ATTENTION}
    extents = {block: several for block, several in structure.attention.items() if block in inside}
    rest = [p for p in ledger.products if p.part != ATTENTION or p.block not in extents]
    products = tuple(p for p in rest if p.op == "matmul")
    sums = tuple(p for p in rest if p.op == "token_sum" and p.part == ATTENTION)
    return TwinParts(ledger.synapses, extents, products, sums)


def attention_name(ledger: Ledger, block: int) -> str:
    """The row of `DenseTwin.layers` for the attention of a block: the first product of the spiking one."""
    own = (p.name for p in ledger.products if (p.part, p.block) == (ATTENTION, block))
    return next(own, f"attention of block {block}")


def dense_twin(ledger: Ledger) -> DenseTwin:
    """The ordinary network beside a spiking one: the same layers once, and softmax attention in place of spiking ones.

    An attention of N tokens with D channels becomes Q K^T and A V, 2 N^2 D multiply-accumulates (Yao et al., NeurIPS
    2023, table 1), whatever stands there: masks, q (k^T v), sums of q. In windows N is the tokens of one; queries, keys
    and the channels of v count apart where they differ (`structure.Extent`). Matrix products that belong to no
    attention are taken over as they are.
    """
    parts = twin_parts(ledger)
    rows: list[tuple[Any, ...]] = []
    for s in parts.synapses:
        image = ledger.tensor(s.input).maker == "input"
        rows.append((s.part, s.block, s.name, s.dense_macs, image, image or fed_by_neurons(ledger, s.input)))
    for block, several in parts.attention.items():
        macs = sum(e.macs for e in several)
        rows.append((ATTENTION, block, attention_name(ledger, block), macs, False, False))
    for p in parts.products:
        relu = any(fed_by_neurons(ledger, operand) for operand in p.operands)
        rows.append((p.part, p.block, p.name, p.elements, False, relu))
    for product in parts.sums:
        tensor = ledger.tensor(product.operands[0])
        tokens = product.summed_over or tensor.elements // tensor.shape[0]
        rows.append((product.part, product.block, product.name, 2 * tokens * tensor.elements, False, False))
    note = "the same layers once, as multiply-accumulates"
    if attentions := sum(map(len, parts.attention.values())) + len(parts.sums):
        note += f", and softmax attention ({_formula(parts.attention)}) in place of the {attentions} spiking ones"
    if parts.products:
        note += f", and the same {len(parts.products)} matrix products"
    name = ledger.model.get("name", "the model")
    return DenseTwin(f"{name} as an ANN", _layers(rows), note, _sizes(ledger, parts), additions=twin_additions(ledger))


def twin_additions(ledger: Ledger) -> tuple[tuple[str, int | None, int], ...]:
    """The additions without weights of the twin: those of the spiking network, once, and none over time steps.

    Where spikes are averaged the twin averages numbers, n - 1 additions for n of them.
    """
    rows = [(a.part, a.block, a.elements) for a in ledger.additions or () if not a.over_time]
    for p in ledger.products if ledger.additions is not None else ():
        if p.op == "average" and p.summed_over is not None and (p.every_step or ledger.time_steps == 1):
            rows.append((p.part, p.block, p.elements - p.elements // p.summed_over))
    return tuple((shared_part(part), block, count) for part, block, count in rows)


def _sizes(ledger: Ledger, parts: TwinParts) -> TwinSizes:
    """How large the layers of the twin are; unknown is what the ledger does not tell."""
    sizes, unknown = list[LayerSizes](), list[str]()
    for synapse in parts.synapses:
        size = size_of_layer(synapse, ledger)
        if size is None:
            unknown.append(synapse.name)
        else:
            sizes.append(size)
    heads, stated = Structure.of_ledger(ledger).head_counts, _stated_heads(ledger)
    heads = {block: heads.get(block) or stated for block in parts.attention}
    for block, several in parts.attention.items():
        name = attention_name(ledger, block)
        for extent in several:
            sizes += sizes_of_attention(name, ATTENTION, extent, heads.get(block))
    for product in parts.sums:
        extent = _extent(ledger, product)
        sizes += sizes_of_attention(product.name, shared_part(product.part), extent, None)
    if parts.sums or any(heads.get(block) is None for block in parts.attention):
        unknown.append("the scores of further heads")
    return TwinSizes(tuple(sizes), (*unknown, *(product.name for product in parts.products)))


def _stated_heads(ledger: Ledger) -> int | None:
    """The heads that the configuration of one of this package's models states, where none had an effect to be seen."""
    heads = ledger.model.get("config", {}).get("num_heads") if isinstance(ledger.model.get("config"), dict) else None
    ours = str(ledger.model.get("class", "")).startswith("spikeattn.models.")
    return heads if ours and isinstance(heads, int) and not isinstance(heads, bool) and heads > 0 else None


def _extent(ledger: Ledger, product: Product) -> Extent:
    """The attention that a sum of q or k stands for."""
    tensor = ledger.tensor(product.operands[0])
    tokens = product.summed_over or tensor.elements // tensor.shape[0]
    channels = tensor.elements // tokens
    return Extent(tokens, tokens, 1, channels, channels)


def _formula(extents: Mapping[int, Sequence[Extent]]) -> str:
    windows = any(e.windows > 1 for several in extents.values() for e in several)
    return "2 N^2 D in each window of N tokens" if windows else "2 N^2 D"


def _layers(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    rows = [(shared_part(part), *rest) for part, *rest in rows]
    return frame_of_layers(rows, [*COLUMNS, "reads_image", "zeros"])


def frame_of_layers(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Layers as a table with the types of `DenseTwin.layers`."""
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64", "macs": "int64"})

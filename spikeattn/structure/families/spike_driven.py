"""The Spike-driven Transformer (SDT v1): masks and token sums alone; names as in its Table S1.

Yao et al., "Spike-driven Transformer", NeurIPS 2023. What its code calls q, k and v the paper calls V_S, Q_S and K_S
behind their neurons; see `spikeattn.models.paper_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from spikeattn.models.paper_names import paper_names
from spikeattn.structure.axes import CHANNEL, count
from spikeattn.structure.cores import MATRIX, Core
from spikeattn.structure.entry import HEAD, MLP1, MLP2, PROJECTION, QKV, STEM, Entry
from spikeattn.structure.families.family import Family
from spikeattn.structure.graph_nodes import NEURON, REDUCE
from spikeattn.structure.infer import Inference
from spikeattn.structure.network_structure import Structure
from spikeattn.structure.residual_units import ATTENTION
from spikeattn.structure.tensor_roles import tensor_names

_SPIKES = {"q": "V_S", "k": "Q_S", "v": "K_S"}
_SYNAPSES = {PROJECTION: "Proj", MLP1: "FC1", MLP2: "FC2", HEAD: "FC"}
_TENSORS = {MLP1: "Layer1", MLP2: "Layer2", HEAD: "FC"}
_OUTPUT = "SDSA_out(Vhat_S)"
_STEM = 5  # convolutions: four stages and the position embedding


def _fits(inference: Inference) -> bool:
    """Five convolutions; then blocks of masks, k*v summed over tokens times q, each with a feed-forward."""
    flow = inference.flow
    stem = [c for c in flow.distinct if inference.readings[c.number].part == STEM]
    units = [unit for block in inference.blocks for unit in block.units]
    attention = [u for u in units if u.kind == ATTENTION]
    return (
        len(stem) == _STEM
        and all(c.spatial for c in stem)
        and bool(attention)
        and len(attention) == len(inference.blocks)
        and len(units) == 2 * len(inference.blocks)
        and all(u.feeds for u in units if u.kind != ATTENTION)
        and all(len(u.cores) == 1 and _masks(inference, u.cores[0]) for u in attention)
    )


def _masks(inference: Inference, core: Core) -> bool:
    roles = [o.role for o in core.operands if o.layer is not None]
    plain = len(core.products) == 2 and not any(p.op in MATRIX for p in core.products)
    if not plain or sorted(map(str, roles)) != ["k", "q", "v"] or len(core.projection) != 1:
        return False
    first, second = core.products
    between = list(inference.flow.passed(first.number, second.sources[0])) + list(
        inference.flow.passed(first.number, second.sources[1])
    )
    return any(n.contracts == "token" for n in between) and any(n.kind == NEURON for n in between)


def _label(inference: Inference, found: Structure) -> Structure:
    stem = iter(range(1, _STEM + 1))
    synapses = []
    for entry in found.entries["synapses"]:
        role = _SYNAPSES.get(entry.part)
        if entry.part == STEM:
            number = next(stem)
            role = "RPE" if number == _STEM else f"Conv{number}"
        elif entry.part == QKV:
            role = entry.role
        synapses.append(replace(entry, role=role, known=_known(entry)))
    products = tuple(replace(e, known=_known(e)) for e in found.entries["products"])
    tensors = _tensors(inference, found)
    entries = {"synapses": tuple(synapses), "products": products, "tensors": tensors}
    blocks = [(inference.readings[core.last.number].block, core) for core in inference.cores]
    heads = {block: _heads(inference, core) for block, core in blocks if block is not None}
    return replace(found, entries=entries, head_counts=heads)


def _tensors(inference: Inference, found: Structure) -> tuple[Entry, ...]:
    """Tensors by the names of the paper, with the keys of the published rate script."""
    names = tensor_names(inference)
    roles = _stem(inference, names)
    for core in inference.cores:
        roles |= _attention(inference, core, names)
    hooks = {
        (name.block, name.role): name.hook
        for name in paper_names(len(inference.blocks), "0000", dvs=False).values()
        if name.hook is not None
    }
    entries = []
    for e in found.entries["tensors"]:
        role = roles.get(e.name) or _TENSORS.get(e.part)
        entries.append(replace(e, role=role, known=_known(e), hook=hooks.get((e.block, role or ""))))
    return tuple(entries)


def _stem(inference: Inference, names: Mapping[int, str]) -> dict[str, str]:
    """What stands behind the stem's convolutions: "Conv1" and, of a pool behind its neurons, "Conv1 max-pooled"."""
    flow, roles = inference.flow, dict[str, str]()
    stem = [c for c in flow.distinct if inference.readings[c.number].part == STEM]
    for number, (layer, after) in enumerate(pairwise(stem), start=1):
        spikes = False
        for node in flow.passed(layer.last.number, after.reads[0]):
            if node.kind == NEURON:
                roles[names[node.number]], spikes = f"Conv{number}", True
            elif spikes and node.number in names:
                roles[names[node.number]] = f"Conv{number} max-pooled"
    return roles


def _attention(inference: Inference, core: Core, names: Mapping[int, str]) -> dict[str, str]:
    """What stands between the layers of q, k and v and the projection; with events, pools erode all but q."""
    flow, (first, second) = inference.flow, core.products
    roles = {names[first.number]: "Q_S*K_S", names[second.number]: _OUTPUT}
    for read in core.layers[0].reads:
        if read in names:
            roles[names[read]] = "Input"
    ways = [(o.source.number, o.product.sources[o.place], _SPIKES[o.role]) for o in core.operands if o.role in _SPIKES]
    for start, end, role in ways:
        way = [n for n in flow.passed(start, end) if n.number in names]
        for node in way:
            roles[names[node.number]] = role if node is way[-1] else f"{role} before Erode"
    for source in second.sources:
        for node in flow.passed(first.number, source):
            if node.number in names:
                roles[names[node.number]] = "g(Q_S,K_S)" if node.kind == NEURON else "Q_S*K_S eroded"
    for node in flow.passed(second.number, core.projection[0].reads[0]):
        if node.number in names:
            roles[names[node.number]] = _OUTPUT
    return roles


def _heads(inference: Inference, core: Core) -> int | None:
    """Heads of a block whose masks are pooled within them; None where nothing is, so that heads have no effect."""
    first, second = core.products
    between = (n for source in second.sources for n in inference.flow.passed(first.number, source))
    pools = [n for n in between if n.kind == REDUCE and "pool" in n.op]
    return count(pools[0].axes[:-2], CHANNEL) if pools else None  # the last two axes are those that a pool goes over


def _known(entry: Entry) -> str:
    return "family" if entry.known != "unknown" else entry.known


SPIKE_DRIVEN = Family(
    "Spike-driven Transformer",
    "Yao et al., Spike-driven Transformer, NeurIPS 2023",
    _fits,
    _label,
)

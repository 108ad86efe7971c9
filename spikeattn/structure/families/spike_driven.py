"""The Spike-driven Transformer (SDT v1): masks and token sums alone, so heads have no effect; names as in its Table S1.

Yao et al., "Spike-driven Transformer", NeurIPS 2023. What its code calls q, k and v the paper calls V_S, Q_S and K_S
behind their neurons; see `spikeattn.models.names`.
"""

from __future__ import annotations

from dataclasses import replace

from spikeattn.structure.cores import MATRIX, Core
from spikeattn.structure.entry import Entry, Structure
from spikeattn.structure.families.family import Family
from spikeattn.structure.graph import NEURON
from spikeattn.structure.infer import Inference
from spikeattn.structure.parts import HEAD, MLP1, MLP2, PRODUCTS, PROJECTION, QKV, STEM
from spikeattn.structure.units import ATTENTION

_SPIKES = {"q": "V_S", "k": "Q_S", "v": "K_S"}
_SYNAPSES = {PROJECTION: "Proj", MLP1: "FC1", MLP2: "FC2", HEAD: "FC"}
_TENSORS = {MLP1: "Layer1", MLP2: "Layer2", HEAD: "FC"}
_STEM = 5  # convolutions: four stages and the position embedding


def _fits(made: Inference) -> bool:
    """Five convolutions; then blocks of masks, k*v summed over tokens times q, each with a feed-forward."""
    flow = made.flow
    stem = [c for c in flow.distinct if made.readings[c.number].part == STEM]
    units = [unit for block in made.blocks for unit in block.units]
    attention = [u for u in units if u.kind == ATTENTION]
    return (
        len(stem) == _STEM
        and all(c.spatial for c in stem)
        and bool(attention)
        and len(attention) == len(made.blocks)
        and len(units) == 2 * len(made.blocks)
        and all(u.feeds for u in units if u.kind != ATTENTION)
        and all(len(u.cores) == 1 and _masks(made, u.cores[0]) for u in attention)
    )


def _masks(made: Inference, core: Core) -> bool:
    roles = [o.role for o in core.operands if o.layer is not None]
    plain = len(core.products) == 2 and not any(p.op in MATRIX for p in core.products)
    if not plain or sorted(map(str, roles)) != ["k", "q", "v"] or len(core.projection) != 1:
        return False
    first, second = core.products
    between = list(made.flow.passed(first.number, second.sources[0])) + list(
        made.flow.passed(first.number, second.sources[1])
    )
    return any(n.contracts == "token" for n in between) and any(n.kind == NEURON for n in between)


def _label(made: Inference, found: Structure) -> Structure:
    stem = iter(range(1, _STEM + 1))
    synapses = []
    for entry in found.entries["synapses"]:
        role = _SYNAPSES.get(entry.part)
        if entry.part == STEM:
            number = next(stem)
            role = "RPE" if number == _STEM else f"Conv{number}"
        elif entry.part == QKV:
            role = (entry.role or "").upper() or None
        synapses.append(replace(entry, role=role, known=_known(entry)))
    products = tuple(replace(e, part=_part(e.part), known=_known(e)) for e in found.entries["products"])
    tensors = _tensors(made, found)
    return replace(found, entries={"synapses": tuple(synapses), "products": products, "tensors": tensors})


def _tensors(made: Inference, found: Structure) -> tuple[Entry, ...]:
    special: dict[str, str] = {}
    stem = [c for c in made.flow.distinct if made.readings[c.number].part == STEM]
    for number, layer in enumerate(stem[:-1], start=1):
        behind = _neuron_behind(made, layer.last.number)
        if behind is not None:
            special[behind] = f"Conv{number}"
    for core in made.cores:
        first, second = core.products
        for read in core.layers[0].reads:
            special[made.flow.nodes[read].path] = "Input"
        special[first.name] = "Q_S*K_S"
        special[second.name] = "SDSA_out(Vhat_S)"
        gate = next((n for s in second.sources for n in made.flow.passed(first.number, s) if n.kind == NEURON), None)
        if gate is not None:
            special[gate.path] = "g(Q_S,K_S)"
    entries = []
    for e in found.entries["tensors"]:
        role = special.get(e.name) or _SPIKES.get(e.role or "") or _TENSORS.get(e.part)
        entries.append(replace(e, part=_part(e.part), role=role, known=_known(e)))
    return tuple(entries)


def _neuron_behind(made: Inference, number: int) -> str | None:
    todo = [number]
    while todo:
        for child in made.flow.children[todo.pop()]:
            node = made.flow.nodes[child]
            if node.kind == NEURON:
                return node.path
            if node.kind not in ("synapse", "product", "add"):
                todo.append(child)
    return None


def _part(part: str) -> str:
    return "SDSA" if part == PRODUCTS else part


def _known(entry: Entry) -> str:
    return "family" if entry.known != "unknown" else entry.known


SPIKE_DRIVEN = Family(
    "Spike-driven Transformer",
    "Yao et al., Spike-driven Transformer, NeurIPS 2023",
    _fits,
    _label,
    heads=False,
)

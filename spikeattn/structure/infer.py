"""From the way of the data to part, block and role of every layer and product."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from spikeattn.structure import cores as attention
from spikeattn.structure.axes import CHANNEL, count
from spikeattn.structure.blocks import Block, beside, blocks_of
from spikeattn.structure.cores import DATAFLOW, NAMES, ORDER, UNKNOWN, Core
from spikeattn.structure.entry import (
    CONV,
    DOWNSAMPLING,
    GATE,
    HEAD,
    MIX,
    MLP1,
    MLP2,
    OTHER,
    PRODUCTS,
    PROJECTION,
    QKV,
    STEM,
)
from spikeattn.structure.flow import NORMS, Composite, Flow
from spikeattn.structure.graph import Graph
from spikeattn.structure.graph_nodes import PRODUCT, SYNAPSE, Node
from spikeattn.structure.residual_units import ATTENTION, MIXING, RECURRENT, Unit, levels, units_of


@dataclass
class Reading:
    """What one layer, product or tensor is, and how that is known.

    Attributes:
        nearest: of what stays "other", the part that it is most like.
        ranges: of a fused layer, channels of each role.
    """

    part: str = OTHER
    block: int | None = None
    role: str | None = None
    known: str = UNKNOWN
    nearest: str | None = None
    ranges: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


@dataclass
class Inference:
    """Readings by node number, and what stands for a whole block.

    Attributes:
        heads, grids, classes: by block; heads are None where nothing in the attention goes by heads.
    """

    flow: Flow
    readings: dict[int, Reading]
    heads: dict[int, int | None]
    grids: dict[int, tuple[int, int]]
    classes: dict[int, int]
    units: list[Unit]
    blocks: list[Block]
    cores: list[Core]


def infer(graph: Graph) -> Inference:
    """Infer everything from a graph; names are used for k against v alone, and where nothing else is left."""
    flow = Flow(graph)
    found, gates = attention.find(flow)
    units = units_of(flow, found)
    inside = {number for unit in units for number in unit.numbers}
    ends = [c.first.number for c in flow.distinct if c.number not in inside and flow.onward(c.number)]
    blocks = blocks_of(flow, units, ends)
    transformer = any(u.kind in (ATTENTION, MIXING, RECURRENT) or u.feeds for b in blocks for u in b.units)
    inference = Inference(flow, {}, {}, {}, {}, units, blocks, found)
    if transformer:
        for number, block in enumerate(blocks):
            for unit in block.units:
                _unit(inference, number, unit)
        _rest(inference)
    else:
        inference.blocks = []
        _plain(inference)
    _gates(inference, gates)
    _nearest(inference, transformer)
    _others(inference)
    return inference


def _nearest(inference: Inference, transformer: bool) -> None:
    """What the layers that nobody understands are most like, by their shapes: a comment in a names file, no label."""
    for layer in inference.flow.distinct:
        reading = inference.readings.get(layer.number)
        if reading is not None and reading.part == OTHER:
            like = CONV if layer.spatial else HEAD if layer.tokens <= 1 else MLP1 if transformer else CONV
            _put(inference, layer, replace(reading, nearest=like))


def _put(inference: Inference, layer: Composite, reading: Reading) -> None:
    for node in layer.layers:
        inference.readings[node.number] = reading


def _unit(inference: Inference, number: int, unit: Unit) -> None:
    flow = inference.flow
    for core in unit.cores:
        _core(inference, number, core, unit)
    for layer in reversed(unit.layers):
        if layer.number not in inference.readings:
            _before_operands(inference, number, unit, layer)
    todo = [c for c in unit.layers if c.number not in inference.readings]
    steps = levels(flow, todo)
    for step, layers in enumerate(steps):
        for layer in layers:
            part = _part(flow, unit, layer, step, len(steps))
            _put(inference, layer, Reading(part, number, known=unit.known if part != OTHER else UNKNOWN))
    start = flow.nodes[unit.start]
    node = unit.layers[0].last if unit.layers else start
    if number not in inference.grids and (grid := _grid(inference, unit, node)) is not None:
        inference.grids[number] = grid
    classes = max((flow.nodes[p].classes for c in unit.layers for p in c.reads), default=0)
    inference.classes[number] = max(inference.classes.get(number, 0), classes)


def _before_operands(inference: Inference, number: int, unit: Unit, layer: Composite) -> None:
    """A layer that the layers of q, k and v alone read: a part of theirs, or a convolution that leaves out tokens.

    What is spatial is a part of theirs where nothing but norms lies between.
    """
    flow = inference.flow
    behind = flow.next_layers(layer.last.number)
    readings = [inference.readings.get(c.number, Reading()) for c in behind]
    before_core = any(flow.before(layer.last.number, core.last.number) for core in unit.cores)
    if not before_core or not readings or any(r.part not in (QKV, CONV) for r in readings):
        return
    direct = all(
        n.op in NORMS or n.number == c.number
        for c in behind for n in flow.passed(layer.last.number, c.first.number)
    )  # fmt: skip
    if (layer.spatial and not direct) or any(r.part != QKV for r in readings):
        _put(inference, layer, Reading(CONV, number, known=unit.known))
        return
    role = "".join(sorted({letter for r in readings for letter in r.role or ""}, key="qkv".index)) or None
    _put(inference, layer, Reading(QKV, number, role, max(readings, key=lambda r: r.known == ORDER).known))


def _grid(inference: Inference, unit: Unit, node: Node) -> tuple[int, int] | None:
    reads = [inference.flow.nodes[p] for c in unit.layers[:1] for p in c.reads]
    return next((n.grid for n in (*reads, node) if n.grid is not None), None)


def _part(flow: Flow, unit: Unit, layer: Composite, step: int, steps: int) -> str:
    if layer.mixes:
        return MIX
    if unit.kind == RECURRENT:
        return OTHER
    if unit.kind in (ATTENTION, MIXING):
        return _beside_mixer(flow, unit, layer)
    if unit.feeds:
        if step == 0:
            return MLP1
        return MLP2 if step == steps - 1 else CONV
    return CONV


def _beside_mixer(flow: Flow, unit: Unit, layer: Composite) -> str:
    """A layer in a unit that mixes tokens, neither q, k, v nor projection: of a feed-forward, if there is one."""
    steps = beside(flow, unit)
    for step, layers in enumerate(steps):
        if layer in layers:
            return MLP1 if step == 0 else MLP2 if step == len(steps) - 1 else CONV
    return CONV if layer.spatial else OTHER


def _core(inference: Inference, number: int, core: Core, unit: Unit) -> None:
    for layer in core.layers:
        own = [o for o in core.operands if o.layer is layer]
        roles = {o.role: o for o in sorted(own, key=lambda o: bool(o.range)) if o.role is not None}
        role = "".join(sorted(roles, key="qkv".index)) or None
        knowns = [o.known for o in own if o.role is not None]
        known = next((k for k in (NAMES, ORDER) if k in knowns), DATAFLOW if knowns else UNKNOWN)
        ranges = {r: o.range for r, o in roles.items() if o.range and len(roles) > 1}
        _put(inference, layer, Reading(QKV, number, role, known, ranges=ranges))
    for layer in core.projection:
        if layer.number not in inference.readings and (layer.number in unit.numbers):
            _put(inference, layer, Reading(PROJECTION, number, known=unit.known))
    for layer in core.gates:
        if layer.number not in inference.readings:
            _put(inference, layer, Reading(GATE, number, known=unit.known))
    for product in core.products:
        inference.readings[product.number] = Reading(PRODUCTS, number, known=DATAFLOW)
    if core.heads is not None:
        inference.heads[number] = core.heads
    else:
        inference.heads.setdefault(number, None)


# -------------------------------------------------------------------- outside the blocks
def _rest(inference: Inference) -> None:
    """Layers of no block: the stem before the first, downsampling between them, the head behind the last."""
    flow = inference.flow
    starts = [min(block.units, key=lambda u: u.first).start for block in inference.blocks]
    ends = [max(u.join for u in block.units) for block in inference.blocks]
    onward = {n.place for n in flow.nodes if flow.onward(n.number)}  # in any of its runs
    for layer in flow.composites:
        if layer.number in inference.readings:
            continue
        number = layer.last.number
        behind = [i for i, end in enumerate(ends) if flow.before(end, number)]
        before = [i for i, start in enumerate(starts) if start == number or flow.before(number, start)]
        if before and not behind:
            part = STEM
        elif before:
            part = DOWNSAMPLING
        elif behind and layer.last.place in onward:
            part = DOWNSAMPLING if layer.spatial and layer.tokens > 1 and not _to_a_map(flow, layer) else HEAD
        else:
            part = OTHER
        _put(inference, layer, Reading(part, known=DATAFLOW if part != OTHER else UNKNOWN))


def _to_a_map(flow: Flow, layer: Composite) -> bool:
    """Whether a layer leads to an answer for every position, as in a detector or a segmenter."""
    outputs = [flow.nodes[n] for n in flow.graph.outputs]
    own = layer.last.number
    return any(n.tokens > 1 and (n.number == own or flow.before(own, n.number)) for n in outputs)


def _plain(inference: Inference) -> None:
    """A network without attention: convolutions, what shrinks beside them, and the layers behind the last of tokens."""
    flow = inference.flow
    shortcuts = _shortcuts(flow)
    last = max((c.number for c in flow.distinct if c.spatial), default=-1)
    for layer in flow.distinct:
        if layer.number in shortcuts:
            part = DOWNSAMPLING
        elif last < 0:
            part = HEAD if not flow.next_layers(layer.last.number) else OTHER
        elif layer.pointwise and layer.number > last and not flow.next_layers(layer.last.number):
            part = HEAD
        elif layer.spatial or layer.tokens > 1 or layer.number < last:
            part = CONV
        else:
            part = HEAD
        _put(inference, layer, Reading(part, known=DATAFLOW if part != OTHER else UNKNOWN))


def _shortcuts(flow: Flow) -> set[int]:
    """Single layers that are summed with a branch of several which reads the same."""
    found = set()
    for node in flow.nodes:
        if node.kind == "add" and node.number not in flow.residuals:
            terms = flow.terms(node.number)
        elif node.kind == PRODUCT and len(node.sources) == 2:  # joined by a gate, as in SEW-AND
            terms = node.sources
        else:
            continue
        for term in terms:
            origins = flow.sources(term)
            layer = flow.of_layer.get(origins[0].number) if len(origins) == 1 else None
            if layer is None or not layer.pointwise or not layer.last.kernel:
                continue
            read = {o.number for r in layer.reads for o in flow.sources(r)}
            longer = [t for t in terms if t != term and not flow.before(layer.last.number, t)]
            if any(_deep(flow, t, layer, r) for t in longer for r in read):
                found.add(layer.number)
    return found


def _deep(flow: Flow, term: int, layer: Composite, start: int) -> bool:
    """Whether another branch convolves behind what a layer reads."""
    return any(
        c.spatial and c is not layer and flow.before(start, c.first.number)
        and (c.last.number == term or flow.before(c.last.number, term))
        for c in flow.composites
    )  # fmt: skip


def _gates(inference: Inference, gates: list[Node]) -> None:
    """Products that are no attention: one operand scales the other."""
    flow = inference.flow
    for product in gates:
        layers = [[flow.of_layer[o.number] for o in flow.sources(s) if o.kind == SYNAPSE] for s in product.sources]
        block = next(
            (
                inference.readings[n.number].block
                for own in layers
                for c in own
                for n in c.layers
                if n.number in inference.readings
            ),
            None,
        )
        inference.readings[product.number] = Reading(GATE, block, known=DATAFLOW)
        wide = count(product.axes, CHANNEL) > 1
        for own, axes in zip(layers, product.operands, strict=True):
            narrow = wide and count(axes, CHANNEL) <= 1  # one number scales all channels, as the weight of an expert
            for layer in own:
                alone = layer.tokens <= 1 < product.tokens or narrow
                reading = inference.readings.get(layer.number)
                if alone and reading is not None and reading.part in (CONV, OTHER, MLP1, MLP2, HEAD, DOWNSAMPLING):
                    for c in _squeeze(flow, layer):
                        _put(inference, c, Reading(GATE, reading.block, known=DATAFLOW))


def _squeeze(flow: Flow, layer: Composite) -> list[Composite]:
    """A layer of a gate and those before it that have no tokens either."""
    found, todo = [], [layer]
    while todo:
        own = todo.pop()
        if own in found:
            continue
        found.append(own)
        for read in own.reads:
            for origin in flow.sources(read):
                if origin.kind == SYNAPSE and flow.of_layer[origin.number].tokens <= 1:
                    todo.append(flow.of_layer[origin.number])
    return found


def _others(inference: Inference) -> None:
    """Later time steps; neurons, sums and pools: what they are made from says what they are."""
    first: dict[tuple[str, str, int], Reading] = {}
    sites = [node for node in inference.flow.nodes if node.kind in (SYNAPSE, PRODUCT)]
    for node in sites:
        reading = inference.readings.get(node.number, Reading())
        if first.get(node.place, Reading()).part == OTHER:  # a run whose result nobody reads says nothing
            first[node.place] = reading
    for node in sites:
        inference.readings[node.number] = first[node.place]
    for node in inference.flow.nodes:
        if node.number in inference.readings:
            continue
        parents = [inference.readings[p] for p in node.parents if p in inference.readings]
        if parents:
            inference.readings[node.number] = parents[-1]

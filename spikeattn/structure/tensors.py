"""What tensors are: spikes belong to what reads them, as in Table S1; operands of attention bear their role."""

from __future__ import annotations

from spikeattn.structure.graph import NEURON, PRODUCT, REDUCE, SYNAPSE, Node
from spikeattn.structure.infer import DATAFLOW, Inference, Reading
from spikeattn.structure.parts import PRODUCTS, PROJECTION, QKV


def tensor_readings(made: Inference) -> dict[str, Reading]:
    """Readings by the names of tensors: paths of neurons and of modules that hand something out, and sites of masks."""
    flow, found = made.flow, dict[str, Reading]()
    roles = _roles(made)
    for node in flow.nodes:
        if node.kind == NEURON and node.path not in found:
            found[node.path] = roles.get(node.number) or _read_by(made, node)
        elif node.kind == PRODUCT:
            found.setdefault(node.name, made.readings[node.number])
    found |= _operands(made)
    for path, number in flow.graph.made.items():
        if path and path not in found:
            node = flow.nodes[number]
            found[path] = roles.get(number) or (
                _read_by(made, node) if node.kind not in (SYNAPSE, PRODUCT) else made.readings[number]
            )
    return found


def _operands(made: Inference) -> dict[str, Reading]:
    """What a ledger names by where it goes: "path.bmm_0:a" and ":b", operands of a product; "path:in" of a layer."""
    found: dict[str, Reading] = {}
    for core in made.cores:
        block = made.readings[core.last.number].block
        for product in core.products:
            for place, letter in zip(range(len(product.sources)), "ab", strict=False):
                own = [o for o in core.operands if o.product is product and o.place == place]
                role = own[0].role if own else None
                found.setdefault(f"{product.site}:{letter}", Reading(PRODUCTS, block, role, DATAFLOW))
    for node in made.flow.nodes:
        if node.kind == SYNAPSE:
            reading = made.readings[node.number]
            part = PRODUCTS if reading.part in (QKV, PROJECTION) else reading.part
            found.setdefault(f"{node.site}:in", Reading(part, reading.block, None, reading.known))
    return found


def counted(made: Inference) -> set[str]:
    """Names of what a ledger may count as a tensor of its own: spikes, products, and pools of them."""
    found = set()
    for node in made.flow.nodes:
        if node.kind == NEURON:
            found.add(node.path)
        elif node.kind == PRODUCT:
            found.add(node.name)
        elif node.kind == REDUCE and "pool" in node.op and node.handed:
            found.add(node.handed)
    return found


def _roles(made: Inference) -> dict[int, Reading]:
    """Nodes between the layer of an operand and its product."""
    found: dict[int, Reading] = {}
    for core in made.cores:
        block = made.readings[core.last.number].block
        for operand in core.operands:
            if operand.layer is None or operand.role is None:
                continue
            for node in made.flow.passed(operand.source.number, operand.product.sources[operand.place]):
                old = found.get(node.number)
                role = operand.role if old is None or old.role is None else _both(old.role, operand.role)
                found[node.number] = Reading(PRODUCTS, block, role, operand.known)
    return found


def _both(a: str, b: str) -> str:
    return "".join(sorted({*a, *b}, key="qkv".index))


def _read_by(made: Inference, node: Node) -> Reading:
    """The part of the first layer or product that reads a tensor; behind a residual sum, of what it was made from."""
    flow = made.flow
    layers = flow.next_layers(node.number)
    products = [n for n in flow.children[node.number] if flow.nodes[n].kind == PRODUCT]
    readers = sorted([c.number for c in layers] + products)
    if not readers:
        return made.readings.get(node.number, Reading())
    reading = made.readings[readers[0]]
    if reading.part in (QKV, PROJECTION):
        return Reading(PRODUCTS, reading.block, None, DATAFLOW)
    return Reading(reading.part, reading.block, None, reading.known)

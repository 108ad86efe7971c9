"""What tensors are: spikes belong to what reads them, as in Table S1; operands of attention bear their role."""

from __future__ import annotations

from collections import Counter

from spikeattn.structure.entry import PRODUCTS, PROJECTION, QKV
from spikeattn.structure.graph_nodes import INPUT, NEURON, PRODUCT, REDUCE, SYNAPSE, Node
from spikeattn.structure.infer import DATAFLOW, Inference, Reading


def tensor_names(inference: Inference) -> dict[int, str]:
    """Names of what a ledger may count as a tensor of its own, by node: spikes, products, and pools of them.

    A pool that one module makes of several tensors of a time step has "@2", "@3", ... behind its path from the second
    on, as in a ledger.
    """
    nodes = inference.flow.nodes
    paths = [node.path for node in nodes if node.kind == NEURON]
    stepwise = len(set(paths)) < len(paths)  # called step by step: another call may be another time step
    names, pools = dict[int, str](), Counter[str]()
    for node in nodes:
        if node.kind == NEURON:
            names[node.number] = node.path
        elif node.kind == PRODUCT:
            names[node.number] = node.name
        elif node.kind == REDUCE and "pool" in node.op and node.handed:
            pools[node.handed] += 1
            again = f"@{pools[node.handed]}" if pools[node.handed] > 1 and not stepwise else ""
            names[node.number] = node.handed + again
    return names


def tensor_readings(inference: Inference) -> dict[str, Reading]:
    """Readings by the names of tensors: paths of neurons and of modules that hand something out, and sites of masks."""
    flow, found = inference.flow, dict[str, Reading]()
    roles = _roles(inference)
    for number, name in tensor_names(inference).items():
        node = flow.nodes[number]
        if name not in found:
            found[name] = (
                inference.readings[number] if node.kind == PRODUCT else roles.get(number) or _read_by(inference, node)
            )
    found |= _operands(inference)
    for path, number in flow.graph.made.items():
        if path and path not in found:
            node = flow.nodes[number]
            found[path] = roles.get(number) or (
                _read_by(inference, node) if node.kind not in (SYNAPSE, PRODUCT) else inference.readings[number]
            )
    for node in flow.nodes:
        if node.kind not in (SYNAPSE, PRODUCT, NEURON, INPUT):
            found.setdefault(node.site, roles.get(node.number) or _read_by(inference, node))
    return found


def operation_readings(inference: Inference) -> dict[str, Reading]:
    """Sums, means and other operations by their names: a mean that one layer reads belongs to it, the rest to what
    they read."""
    found: dict[str, Reading] = {}
    for node in inference.flow.nodes:
        if node.kind not in (SYNAPSE, PRODUCT, NEURON, INPUT):
            own = _read_by(inference, node) if node.kind == REDUCE else inference.readings.get(node.number, Reading())
            found.setdefault(node.site, own)
    return found


def _operands(inference: Inference) -> dict[str, Reading]:
    """What a ledger names by where it goes: "path.bmm_0:a" and ":b", operands of a product; "path:in" of a layer."""
    found: dict[str, Reading] = {}
    for core in inference.cores:
        block = inference.readings[core.last.number].block
        for product in core.products:
            for place, letter in zip(range(len(product.sources)), "ab", strict=False):
                own = [o for o in core.operands if o.product is product and o.place == place]
                role = own[0].role if own else None
                found.setdefault(f"{product.site}:{letter}", Reading(PRODUCTS, block, role, DATAFLOW))
    for node in inference.flow.nodes:
        if node.kind == SYNAPSE:
            reading = inference.readings[node.number]
            part = PRODUCTS if reading.part in (QKV, PROJECTION) else reading.part
            found.setdefault(f"{node.site}:in", Reading(part, reading.block, None, reading.known))
    return found


def _roles(inference: Inference) -> dict[int, Reading]:
    """Nodes between the layer of an operand and its product."""
    found: dict[int, Reading] = {}
    for core in inference.cores:
        block = inference.readings[core.last.number].block
        for operand in core.operands:
            if operand.layer is None or operand.role is None:
                continue
            for node in inference.flow.passed(operand.source.number, operand.product.sources[operand.place]):
                old = found.get(node.number)
                role = operand.role if old is None or old.role is None else _both(old.role, operand.role)
                found[node.number] = Reading(PRODUCTS, block, role, operand.known)
    return found


def _both(a: str, b: str) -> str:
    return "".join(sorted({*a, *b}, key="qkv".index))


def _read_by(inference: Inference, node: Node) -> Reading:
    """The part of the first layer or product that reads a tensor; behind a residual sum, of what it was made from."""
    flow = inference.flow
    layers = flow.next_layers(node.number)
    products = [n for n in flow.children[node.number] if flow.nodes[n].kind == PRODUCT]
    readers = sorted([c.number for c in layers] + products)
    if not readers:
        return inference.readings.get(node.number, Reading())
    reading = inference.readings[readers[0]]
    if reading.part in (QKV, PROJECTION):
        return Reading(PRODUCTS, reading.block, None, DATAFLOW)
    return Reading(reading.part, reading.block, None, reading.known)

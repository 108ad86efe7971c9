"""How large an attention is: its queries, keys, windows and channels, as its operands' axes say."""

from __future__ import annotations

from spikeattn.structure.axes import CHANNEL, TOKEN, Axes, count
from spikeattn.structure.cores import MATRIX, Core
from spikeattn.structure.entry import Extent
from spikeattn.structure.flow import Flow
from spikeattn.structure.graph_nodes import REDUCE, Node
from spikeattn.structure.infer import Inference


def extents(inference: Inference) -> dict[int, tuple[Extent, ...]]:
    """The attentions of every block, each once however many time steps it runs."""
    found: dict[int, list[Extent]] = {}
    seen = set()
    for core in inference.cores:
        block, place = inference.readings[core.last.number].block, core.products[0].place
        if block is not None and place not in seen:
            seen.add(place)
            found.setdefault(block, []).append(_extent(inference.flow, core))
    return {block: tuple(several) for block, several in found.items()}


def composites(inference: Inference) -> tuple[tuple[str, ...], ...]:
    """Names of layers that act as one linear map, nothing but linear maps between them: RepConv and its like."""
    return tuple(
        tuple(dict.fromkeys(layer.site for layer in c.layers)) for c in inference.flow.distinct if len(c.layers) > 1
    )


def _extent(flow: Flow, core: Core) -> Extent:
    sizes = {role: _size(flow, core, role) for role in "qkv"}
    q = sizes["q"] or sizes["k"] or sizes["v"] or _counted(core.products[0].operands[0])
    k = sizes["k"] or sizes["v"] or q
    v = sizes["v"] or k
    windows = _windows(flow, core)
    return Extent(q[0] // windows, k[0] // windows, windows, q[1], v[1])


def _size(flow: Flow, core: Core, role: str) -> tuple[int, int] | None:
    """Tokens and channels of q, k or v, before they are summed; the most where it is read in pieces."""
    sizes = []
    for operand in (o for o in core.operands if o.role == role):
        tokens, channels = _counted(operand.product.operands[operand.place])
        end = operand.product.sources[operand.place]
        summed = {n.contracts for n in flow.passed(operand.source.number, end) if n.kind == REDUCE}
        if TOKEN in summed:
            tokens = count(operand.source.axes, TOKEN)
        if CHANNEL in summed:
            channels = sum(b - a for a, b in operand.range) or count(operand.source.axes, CHANNEL)  # () is all of it
        sizes.append((tokens, channels))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _counted(axes: Axes) -> tuple[int, int]:
    return count(axes, TOKEN), count(axes, CHANNEL)


def _windows(flow: Flow, core: Core) -> int:
    """Into how many windows the tokens are cut, each attending to itself alone."""
    for product in core.products:
        if product.op in MATRIX or product.op.startswith("_scaled_dot"):
            return max(count(axes[:-2], TOKEN) for axes in product.operands)
    for node in _sums(flow, core):
        return max(count(node.axes, TOKEN), 1)
    return 1


def _sums(flow: Flow, core: Core) -> list[Node]:
    """Sums over tokens between the products of masks, or between a layer and a product."""
    ways = [(o.source.number, o.product.sources[o.place]) for o in core.operands]
    ways += [(a.number, s) for a in core.products for b in core.products for s in b.sources if a is not b]
    passed = (n for start, end in ways if start == end or flow.before(start, end) for n in flow.passed(start, end))
    return [n for n in passed if n.kind == REDUCE and n.contracts == TOKEN and n.op in ("sum", "mean")]

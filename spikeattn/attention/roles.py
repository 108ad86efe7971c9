"""Which tensor a statistic names: a role in the attention of a block, or a path, by the structure of a network."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from spikeattn.attention.role_target import INPUT, ROLES, Target
from spikeattn.attention.survey_record import Site, Survey
from spikeattn.errors import SpikeattnError
from spikeattn.structure import axes as ax
from spikeattn.structure.axes import CHANNEL, Factor
from spikeattn.structure.cores import MATRIX, Core, Operand
from spikeattn.structure.graph_nodes import NEURON, PRODUCT, REDUCE, SYNAPSE, Node
from spikeattn.structure.infer import Inference


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A network as its attention is found in it.

    Attributes:
        cores: the attention of every block that has one, by the block's number.
    """

    name: str
    seen: Survey
    made: Inference
    cores: dict[int, Core]

    @property
    def blocks(self) -> list[int]:
        """Blocks with attention, in their order."""
        return sorted(self.cores)

    def find(self, statistic: str, block: int) -> Target:
        """The tensor of a role in a block.

        Raises:
            SpikeattnError: the block has none that could be looked at, and why.
        """
        core = self.cores[block]
        if statistic == "products":
            return self._matrix(core, block)
        if statistic == "attention":
            return self._output(core, block)
        if statistic == "gate":
            return self._gate(core, block)
        return self._operand(core, block, statistic)

    def at(self, path: str, kinds: Sequence[str] = ()) -> Target:
        """The tensor of a path; `kinds` are other names of maps, for the error.

        Raises:
            SpikeattnError: no module has it; the closest paths and the roles are named.
        """
        site = next((site for site in self.seen.results if site.name == path), None)
        if site is not None:
            return Target(None, path, self._block_of(path), site=site, counted=path)
        bare = path.removesuffix(INPUT)
        known = self.seen.inputs if path.endswith(INPUT) else self.seen.outputs
        if not bare or bare not in known:
            raise self.unknown(path, kinds, [*known, *(site.name for site in self.seen.results)])
        number = self.made.flow.graph.made.get(bare)
        reading = self.made.readings.get(number) if number is not None else None
        block = reading.block if reading is not None else None
        core = self.cores.get(block) if block is not None else None
        return Target(None, path, block, self._axes(path), heads=() if core is None else _heads(core))

    def _block_of(self, name: str) -> int | None:
        node = next((n for n in self.made.flow.nodes if n.site == name), None)
        return None if node is None else self.made.readings[node.number].block

    def unknown(self, statistic: str, kinds: Sequence[str], known: Iterable[str]) -> SpikeattnError:
        """Error for a statistic that names nothing."""
        names = [*kinds, *ROLES, *filter(None, known)]
        close = difflib.get_close_matches(statistic, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        named = f"the maps {', '.join(kinds)}, " if kinds else ""
        return SpikeattnError(
            f"unknown attention map of {self.name} {statistic!r}: {hint}valid are "
            f"{named}the roles {', '.join(ROLES)}, and the path of a module, "
            'such as those of spikeattn.structure(model, images).table("tensors")'
        )

    # ---------------------------------------------------------------- roles
    def _operand(self, core: Core, block: int, role: str) -> Target:
        own = [o for o in core.operands if o.role == role]
        if not own:
            raise self._lacks(core, block, role)
        nearest = max(own, key=lambda o: o.product.number)
        source = nearest.source
        between = self._between(nearest)
        sums = [n.number for n in between if n.kind == REDUCE]  # what a neuron makes of a sum is a gate
        spiking = [n for n in (source, *between) if n.kind == NEURON and not self._behind(sums, n)]
        heads = _heads(core)
        if spiking:
            node = spiking[-1]
            channels = self._summed_channels(core, nearest) if sums else nearest.range
            return Target(role, node.path, block, node.axes, source.number, channels, heads)
        end = nearest.product.sources[nearest.place]
        paths = [path for path, number in self.made.flow.graph.made.items() if number == end and path]
        if paths and not nearest.range:
            inside = [path for path in paths if not any(p != path and path.startswith(f"{p}.") for p in paths)]
            path = inside[-1] if inside else paths[-1]
            return Target(role, path, block, self._axes(path), source.number, heads=heads)
        if end == source.number and source.kind == SYNAPSE:
            size = torch.Size(source.shape).numel()  # without views of parts, such as what a norm of q is given
            whole = [p for p in paths if torch.Size(self.seen.outputs[p][0].shape).numel() == size]
            whole = [p for p in whole if not any(q != p and p.startswith(f"{q}.") for q in whole)]
            if whole:
                axes = ax.reshape(source.axes, self.seen.outputs[whole[-1]][0].shape)
                return Target(role, whole[-1], block, axes, source.number, nearest.range, heads)
        raise SpikeattnError(
            f"the {role} of block {block} of {self.name} is made inside {source.path or 'the model'} and no module "
            "hands it out: name a tensor by its path, or give a function (model, images) -> [B, h, w]"
        )

    def _summed_channels(self, core: Core, operand: Operand) -> tuple[tuple[int, int], ...]:
        """The channels of an operand before a sum over those of each head; none where it holds all of its layer."""
        birth = operand.source.number
        alone = all(o is operand or o.source.number != birth or o.range == operand.range for o in core.operands)
        if alone:
            return ()
        strides = [f.stride for axis in operand.product.operands[operand.place] for f in axis if f.birth == birth]
        if not strides:
            raise SpikeattnError(
                f"the {operand.role} of {self.name} is summed over all channels of a layer that makes others, too, so "
                "which channels are its own cannot be told; name a tensor by its path"
            )
        inner = min(strides)
        return tuple((first, last - 1 + inner) for first, last in operand.range)

    def _behind(self, numbers: Sequence[int], node: Node) -> bool:
        return any(self.made.flow.before(number, node.number) for number in numbers)

    def _between(self, operand: Operand) -> list[Node]:
        end = operand.product.sources[operand.place]
        return list(self.made.flow.passed(operand.source.number, end))

    def _output(self, core: Core, block: int) -> Target:
        spiking = self._next_neuron(core.last.number)
        heads = _heads(core)
        if spiking is not None:
            return Target("attention", spiking.path, block, spiking.axes, heads=heads)
        last = core.last
        if last.op not in MATRIX:  # a mask: the product itself is spikes, and a ledger counts it
            site = Site(last.path, last.op, last.ordinal)
            if site in self.seen.results:
                return Target("attention", site.name, block, last.axes, heads=heads, site=site, counted=last.name)
        layers = core.projection or self.made.flow.next_layers(last.number)
        readers = [c.first for c in layers if c.first.alone]
        if len({node.path for node in readers}) == 1:
            node = readers[0]
            shape = self.seen.inputs[node.path][0].shape if node.path in self.seen.inputs else ()
            axes = ax.reshape(node.operands[0], shape) if _same_size(node.operands[0], shape) else None
            return Target("attention", node.path + INPUT, block, axes, heads=heads)
        raise SpikeattnError(
            f"what leaves the attention of block {block} of {self.name} is read by {len(readers) or 'no'} layers and "
            "handed out by no module: name a tensor by its path"
        )

    def _next_neuron(self, start: int) -> Node | None:
        """The first neuron behind a product, before any layer, product or residual sum."""
        flow, todo, seen = self.made.flow, [start], set()
        while todo:
            for child in sorted(flow.children[todo.pop(0)]):
                node = flow.nodes[child]
                if node.kind == NEURON:
                    return node
                if child not in seen and node.kind not in (SYNAPSE, PRODUCT) and child not in flow.residuals:
                    seen.add(child)
                    todo.append(child)
        return None

    def _gate(self, core: Core, block: int) -> Target:
        flow = self.made.flow
        for source in core.last.sources:
            starts = [p.number for p in core.products if flow.before(p.number, source)]
            starts += [o.source.number for o in core.operands if flow.before(o.source.number, source)]
            for start in starts:
                way = list(flow.passed(start, source))
                sums = [n.number for n in way if n.kind == REDUCE]
                spiking = [n for n in way if n.kind == NEURON and self._behind(sums, n)]
                if spiking:
                    return self._gate_with_tokens(spiking[-1], core, block)
        raise SpikeattnError(
            f"the attention of block {block} of {self.name} has no gate: no neuron sums over tokens or channels and "
            f"then scales the rest. Valid for it are {', '.join(self._valid(core))}, and the path of a module"
        )

    def _gate_with_tokens(self, node: Node, core: Core, block: int) -> Target:
        if node.tokens <= 1:
            raise SpikeattnError(
                f"the gate of block {block} of {self.name}, {node.path}, sums over the tokens and has one value for "
                'all, so it makes no map; take "attention", what it lets through, and "q", what it is applied to'
            )
        return Target("gate", node.path, block, node.axes, heads=_heads(core))

    def _matrix(self, core: Core, block: int) -> Target:
        made = {Site(n.path, n.op, n.ordinal): n for n in core.products if n.op in MATRIX}
        sites = list(made)
        for site in sites:
            if site in self.seen.matrices:
                axes = made[site].operands[self.seen.matrices[site][0].operand]
                return Target("products", site.path, block, axes, site=site, heads=_heads(core), matrix=True)
        inside = {n.path for n in core.products}
        others = [site for site in self.seen.matrices if site.path in inside]
        if others:
            return Target("products", others[-1].path, block, site=others[-1], heads=_heads(core), matrix=True)
        why = "it multiplies element by element" if not sites else "its products are of no two tensors of the images"
        raise SpikeattnError(
            f"the attention of block {block} of {self.name} forms no N x N matrix of tokens: {why}. Valid for it are "
            f"{', '.join(self._valid(core))}, and the path of a module"
        )

    def _lacks(self, core: Core, block: int, role: str) -> SpikeattnError:
        return SpikeattnError(
            f"the attention of block {block} of {self.name} has no {role}: valid for it are "
            f"{', '.join(self._valid(core))}, and the path of a module"
        )

    def _valid(self, core: Core) -> list[str]:
        return ["attention", *(r for r in "qkv" if any(o.role == r for o in core.operands))]

    def _axes(self, path: str) -> ax.Axes | None:
        """Axes of what a module hands out; views behind its last operation do not change their order."""
        number = self.made.flow.graph.made.get(path)
        seen = self.seen.outputs.get(path)
        if number is None or seen is None:
            return None
        node = self.made.flow.nodes[number]
        return ax.reshape(node.axes, seen[0].shape) if node.kind == SYNAPSE and node.alone else (
            node.axes if node.kind == NEURON and node.shape == seen[0].shape else None
        )  # fmt: skip


def _same_size(axes: ax.Axes, shape: tuple[int, ...]) -> bool:
    size = 1
    for factors in axes:
        for factor in factors:
            size *= factor.size
    return bool(shape) and size == torch.Size(shape).numel()


def _heads(core: Core) -> tuple[Factor, ...]:
    """The factors that count heads: channels beside those that a matrix product sums over."""
    found: dict[tuple[int, int], Factor] = {}
    if core.heads is not None:
        for product in core.products:
            for axes in product.operands:
                for factor in (f for factors in axes for f in factors):
                    if factor.kind == CHANNEL and factor.size == core.heads and factor.birth >= 0:
                        found.setdefault((factor.birth, factor.stride), factor)
    return tuple(found.values())

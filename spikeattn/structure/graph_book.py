"""Which node and axes every tensor of a pass has, also after something was written into it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import TOKEN, Axes
from spikeattn.structure.graph_nodes import JOIN, Node
from spikeattn.structure.view_axes import grid_of
from spikeattn.tracing.stack import Frame, ModuleStack


@dataclass(eq=False)
class _Data:
    """What is known of a tensor: its node and axes, at a version of its storage."""

    tensor: weakref.ref[Tensor]
    node: int
    axes: Axes
    version: int


class NodeBook:
    """The nodes of a pass, in the order of execution, and which of them each tensor holds.

    Attributes:
        ordinal: which run of the present operation in the module at work this is.
    """

    def __init__(self, stack: ModuleStack) -> None:
        self.nodes: list[Node] = []
        self.ordinal = 0
        self.stack = stack
        self._data: dict[int, _Data] = {}
        self._writes: dict[int, tuple[StorageWeakRef, list[tuple[int, int]]]] = {}

    def put(self, tensor: Tensor, node: int, axes: Axes) -> None:
        version = 0 if tensor.is_inference() else tensor._version
        self._data[id(tensor)] = _Data(weakref.ref(tensor), node, axes, version)

    def get(self, tensor: Tensor) -> tuple[int, Axes] | None:
        """Node and axes of a tensor that holds data; None for weights and constants."""
        known = self._data.get(id(tensor))
        if known is not None and known.tensor() is not tensor:
            known = None
        writes = self._written(tensor) if self._writes and not tensor.is_inference() else []
        if writes:
            since = -1 if known is None else known.version
            late = tuple(dict.fromkeys(node for version, node in writes if version > since))
            if late:
                base = () if known is None else (known.node,)
                first = known.axes if known is not None else ax.alike(self.nodes[late[0]].axes, tensor.shape)
                parents = tuple(dict.fromkeys((*base, *late)))
                node = parents[0]
                if len(parents) > 1:
                    node = self.node(JOIN, "write", parents, first, tuple(tensor.shape)).number
                self.put(tensor, node, first)
                return node, first
        return None if known is None else (known.node, known.axes)

    def node(self, kind: str, op: str, parents: Sequence[int], axes: Axes, shape: tuple[int, ...], **more: Any) -> Node:
        frame = self.stack.frames[-1] if self.stack.frames else Frame("", 0, None)
        node = Node(
            len(self.nodes),
            kind,
            op,
            frame.path,
            frame.call,
            self.ordinal,
            tuple(dict.fromkeys(parents)),
            axes,
            **more,
        )
        node.tokens, node.shape = ax.count(axes, TOKEN), shape
        inherited = next((self.nodes[p].grid for p in parents if self.nodes[p].grid is not None), None)
        node.grid = grid_of(axes) or inherited
        node.classes = max([node.classes, *(self.nodes[p].classes for p in parents)], default=0)
        if node.tokens <= 1:
            node.classes = 0
        self.nodes.append(node)
        return node

    def alone(self) -> bool:
        """Whether the module at work is a layer with weights and nothing else (as the trace has it)."""
        if not self.stack.frames:
            return False
        module = self.stack.module(self.stack.frames[-1].path)
        parts = {name for name, _ in module.named_children()}
        return parts <= {"parametrizations"} and any(True for _ in module.parameters())

    # ---------------------------------------------------------------- what is written in place
    def write(self, out: Tensor, node: int) -> None:
        if not self._written(out):
            self._writes[_storage(out)] = (StorageWeakRef(out.untyped_storage()), [])
        self._writes[_storage(out)][1].append((out._version, node))

    def _written(self, tensor: Tensor) -> list[tuple[int, int]]:
        """Version and node of what was written into a tensor's storage."""
        address = _storage(tensor)
        found = self._writes.get(address)
        if found is not None and found[0].expired():  # another storage lies there now
            del self._writes[address]
            found = None
        return [] if found is None else found[1]


def _storage(tensor: Tensor) -> int:
    """What tells storages apart, those without data too; 0 where a tensor has none of its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0

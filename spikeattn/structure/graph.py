"""The way of the data through one forward pass: synapses, products, sums and neurons, and who reads whom.

A `Graph` is a dispatch mode of its own beside the tracing room's: it needs one image, no labels of images or time, and
no finite values, so that it works where a profile refuses. Views and maps that act on every element alone and linearly
(batch norms, scales, shifts by weights) are the tensor itself; all else that data go through is a node.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import TOKEN
from spikeattn.structure.graph_book import NodeBook
from spikeattn.structure.graph_nodes import INPUT, NEURON, Node
from spikeattn.structure.graph_operations import result
from spikeattn.structure.view_axes import grid_of
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.overloads import overload
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

_CHOOSES = ("argmax", "argmin", "argsort", "nonzero", "searchsorted", "bucketize")  # give places, not values
_SPLITS = (
    "split", "split_with_sizes", "unbind", "chunk", "unsafe_split", "tensor_split", "unsafe_chunk",
    "unsafe_split_with_sizes",
)  # fmt: skip
_BESIDE = ("native_batch_norm", "native_layer_norm", "max_pool2d_with_indices")  # more results than the one with data


class Graph(TorchDispatchMode):
    """Collect the nodes of one forward pass of `model`; `neurons` are opaque.

    Attributes:
        book: node and axes of every tensor.
        outputs: numbers of the nodes that the pass handed out.
        made: node of the first tensor that each module handed out last, by path.
    """

    def __init__(self, model: nn.Module, neurons: dict[str, nn.Module]) -> None:
        super().__init__()
        self.outputs: list[int] = []
        self.made: dict[str, int] = {}
        self._stack = _GraphStack(self, model, neurons)
        self.book = NodeBook(self._stack)
        self._off = False

    @property
    def nodes(self) -> list[Node]:
        """In the order of execution; node 0 is the input."""
        return self.book.nodes

    # ---------------------------------------------------------------- around the pass
    def show(self, images: Tensor) -> Tensor:
        """Note what the pass is given."""
        whole = not images.is_floating_point() and images.dtype != torch.bool
        axes = ax.of_image(images.shape, whole)
        self.nodes.append(Node(0, INPUT, "input", axes=axes, tokens=ax.count(axes, TOKEN), shape=tuple(images.shape)))
        self.nodes[0].grid = grid_of(axes)
        self.book.put(images, 0, axes)
        return images

    def finish(self, output: Any) -> None:
        """Note what the pass gave."""
        self.outputs = [found[0] for x in tensors_in(output) if (found := self.book.get(x)) is not None]

    def __enter__(self) -> Graph:
        self._stack.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        if not self._off:
            super().__exit__(*error)
        self._off = False
        self._stack.__exit__(*error)

    def pause(self) -> None:
        """Off the stack of modes while a neuron works."""
        if not self._off:
            self._off = True
            super().__exit__(None, None, None)

    def go_on(self) -> None:
        """Back on it."""
        if self._off:
            self._off = False
            super().__enter__()

    # ---------------------------------------------------------------- operations
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        given = list(tensors_in((args, tuple(kwargs.values()))))
        found = [self.book.get(x) for x in given]
        written = overload(func).mutable
        out = func(*args, **kwargs)
        name = overload(func).name
        made = list(tensors_in(out))
        if made and self._stack.frames:
            self.book.ordinal = self._stack.frames[-1].ordinal(name)
        if made and any(f is not None for f in found) and name not in _CHOOSES:
            self._observe(func, name, args, kwargs, given, found, made, written)
        return out

    def _observe(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], found: list[Any], made: list[Tensor],
        written: bool,
    ) -> None:  # fmt: skip
        out = made[0]
        data = [(x, *f) for x, f in zip(given, found, strict=True) if f is not None]
        if name in _SPLITS:
            self._split(name, args, kwargs, data[0], made)
            return
        handled = result(self.book, func, name, args, kwargs, given, found, data, out)
        if handled is None:
            return
        node, axes = handled
        if len(axes) != out.dim() or any(prod(f.size for f in a) != n for a, n in zip(axes, out.shape, strict=True)):
            axes = ax.alike(axes, out.shape)
        target = given[0] if written and given else None
        if target is not None and target is out and not out.is_inference():
            self.book.write(out, node)
        self.book.put(out, node, axes)
        for other in made[1:]:
            if other.is_floating_point() and other.dim() and name not in _BESIDE:
                self.book.put(other, node, ax.alike(axes, other.shape))

    def _split(self, name: str, args: Any, kwargs: Any, data: Any, made: list[Tensor]) -> None:
        x, node, axes = data
        place = 1 if name == "unbind" else 2
        at = kwargs.get("dim", args[place] if len(args) > place else 0) % max(x.dim(), 1)
        start = 0
        for index, part in enumerate(made):
            if name == "unbind":
                self.book.put(part, node, ax.selected(axes, at, index))
                continue
            size = part.shape[at]
            self.book.put(part, node, ax.narrowed(axes, at, start, size))
            start += size

    # ---------------------------------------------------------------- modules
    def neuron_left(self, frame: Frame, tensors: list[Tensor]) -> None:
        """A neuron has handed out its spikes."""
        received = frame.argument
        data = self.book.get(received) if received is not None else None
        spikes = next((x for x in tensors if x.dim()), None)
        if received is None or data is None or spikes is None:
            return
        axes = data[1] if received.shape == spikes.shape else ax.alike(data[1], spikes.shape)
        node = self.book.node(NEURON, "neuron", [data[0]], axes, tuple(spikes.shape))
        node.path, node.call = frame.path, frame.call
        self.book.put(spikes, node.number, axes)

    def left(self, path: str, tensors: list[Tensor]) -> None:
        """A module has handed out tensors."""
        found = self.book.get(tensors[0]) if tensors else None
        if found is not None:
            self.made.setdefault(path, found[0])
            node = self.nodes[found[0]]
            node.handed = node.handed or path


class _GraphStack(ModuleStack):
    """The module stack of a graph."""

    def __init__(self, graph: Graph, model: nn.Module, neurons: dict[str, nn.Module]) -> None:
        super().__init__(model, neurons)
        self._graph = graph

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        if path in self._neurons and self.in_neuron == 1:
            self._graph.pause()

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        if frame is None:
            return None
        tensors = list(tensors_in(output))
        if path in self._neurons and self.in_neuron == 0:
            self._graph.go_on()
            self._graph.neuron_left(frame, tensors)
        if self.in_neuron == 0:
            self._graph.left(path, tensors)
        return frame

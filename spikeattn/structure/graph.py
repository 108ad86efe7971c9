"""The way of the data through one forward pass: synapses, products, sums and neurons, and who reads whom.

A `Graph` is a dispatch mode of its own beside the tracing room's: it needs one image, no labels of images or time, and
no finite values, so that it works where a profile refuses. Views and maps that act on every element alone and linearly
(batch norms, scales, shifts by weights) are the tensor itself; all else that data go through is a node.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import CHANNEL, OTHER, TOKEN, Axes
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.overloads import overload
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

SYNAPSE, PRODUCT, ADD, REDUCE, NEURON, JOIN, INPUT, OP = (
    "synapse", "product", "add", "reduce", "neuron", "join", "input", "op",
)  # fmt: skip

_VIEWS = ("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "view_copy", "ravel")
_COPIES = (
    "clone", "contiguous", "_to_copy", "to", "alias", "detach", "lift_fresh", "dropout", "native_dropout", "flip",
    "roll", "copy",
)  # fmt: skip
_ADDS = ("add", "sub", "rsub", "__or__", "logical_or", "bitwise_or", "maximum")
_MULTIPLIES = (
    "mul", "div", "logical_and", "bitwise_and", "__and__", "logical_xor", "bitwise_xor", "__xor__", "eq", "ne",
    "minimum", "true_divide",
)  # fmt: skip
# With one operand of data these act on every element alone, and linearly.
_LINEAR = ("add", "sub", "rsub", "mul", "div", "neg", "true_divide", "native_batch_norm",
           "_native_batch_norm_legit_no_training", "batch_norm", "positive")  # fmt: skip
_RUNNING = ("native_batch_norm", "_native_batch_norm_legit_no_training")  # three results, the last two empty
_REDUCTIONS = ("sum", "mean", "amax", "amin", "prod", "norm", "linalg_vector_norm", "max", "min", "any", "all",
               "logsumexp", "var", "std", "var_mean")  # fmt: skip
_MATRIX = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2),
           "addmv": (1, 2), "addbmm": (1, 2)}  # fmt: skip
_CONVOLUTIONS = ("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
_POOLS = ("avg_pool", "max_pool", "adaptive_", "_adaptive_", "fractional_max", "lp_pool")
_CHOOSES = ("argmax", "argmin", "argsort", "nonzero", "searchsorted", "bucketize")  # give places, not values


@dataclass(eq=False)
class Node:
    """One step of the data's way.

    Attributes:
        kind: SYNAPSE, PRODUCT, ADD, REDUCE, NEURON, JOIN (cat, stack, writes), INPUT or OP.
        op, path, call, ordinal: the aten operation, the innermost module at work, which call of it, and which run of
            the operation in it.
        parents: numbers of the nodes whose data it reads.
        axes: of its result.
        operands: axes of what a product, synapse or reduction reads (in the order of `parents`, with repeats).
        sources: of products, the node of each operand.
        contracts: kind of the axis that a matrix product, a synapse or a reduction sums over.
        contracted: of matrix products, the factors that each side loses.
        kernel, groups, stride, widths: of a synapse; widths are channels in and out.
        tokens: positions of tokens in the result.
        grid: last spatial shape on the way here.
        classes: class tokens: constants joined to the tokens.
        handed: path of the innermost module that handed it out.
    """

    number: int
    kind: str
    op: str
    path: str = ""
    call: int = 0
    ordinal: int = 0
    parents: tuple[int, ...] = ()
    axes: Axes = ()
    sources: tuple[int, ...] = ()
    operands: tuple[Axes, ...] = ()
    contracts: str = ""
    contracted: tuple[tuple[ax.Factor, ...], ...] = ()
    alone: bool = False
    kernel: tuple[int, ...] = ()
    groups: int = 1
    stride: tuple[int, ...] = ()
    widths: tuple[int, int] = (0, 0)
    tokens: int = 1
    grid: tuple[int, int] | None = None
    classes: int = 0
    shape: tuple[int, ...] = ()
    handed: str = ""

    @property
    def name(self) -> str:
        """Its name in a ledger: a mask bears that of the module that hands it out."""
        mask = self.kind == PRODUCT and self.op not in _MATRIX and not self.op.startswith("_scaled_dot")
        return self.handed if mask and self.handed else self.site

    @property
    def site(self) -> str:
        """Its name in a ledger: the module's path where the module is the operation, else path.operation_ordinal."""
        if self.alone or self.kind == NEURON:
            return self.path
        return ".".join(filter(None, [self.path, f"{self.op}_{self.ordinal}"]))

    @property
    def place(self) -> tuple[str, str, int]:
        """What stays the same when the module is called again."""
        return self.path, self.op, self.ordinal


@dataclass(eq=False)
class _Data:
    """What is known of a tensor: its node and axes, at a version of its storage."""

    tensor: weakref.ref[Tensor]
    node: int
    axes: Axes
    version: int


@dataclass
class Graph(TorchDispatchMode):
    """Collect the nodes of one forward pass of `model`; `neurons` are opaque.

    Attributes:
        nodes: in the order of execution; node 0 is the input.
        outputs: numbers of the nodes that the pass handed out.
        made: node of the first tensor that each module handed out last, by path.
    """

    model: nn.Module
    neurons: dict[str, nn.Module]
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._data: dict[int, _Data] = {}
        self._writes: dict[int, tuple[StorageWeakRef, list[tuple[int, int]]]] = {}
        self._stack = _GraphStack(self, self.model, self.neurons)
        self._off = False
        self._ordinal = 0

    # ---------------------------------------------------------------- around the pass
    def show(self, images: Tensor) -> Tensor:
        """Note what the pass is given."""
        whole = not images.is_floating_point() and images.dtype != torch.bool
        given = ax.of_image(images.shape, whole)
        self.nodes.append(Node(0, INPUT, "input", axes=given, tokens=ax.count(given, TOKEN), shape=tuple(images.shape)))
        self.nodes[0].grid = _grid_of(given)
        self._put(images, 0, given)
        return images

    def finish(self, output: Any) -> None:
        """Note what the pass gave."""
        self.outputs = [found[0] for x in tensors_in(output) if (found := self._get(x)) is not None]

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

    # ---------------------------------------------------------------- tensors
    def _put(self, tensor: Tensor, node: int, axes: Axes) -> None:
        version = 0 if tensor.is_inference() else tensor._version
        self._data[id(tensor)] = _Data(weakref.ref(tensor), node, axes, version)

    def _get(self, tensor: Tensor) -> tuple[int, Axes] | None:
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
                    node = self._node(JOIN, "write", parents, first, tuple(tensor.shape)).number
                self._put(tensor, node, first)
                return node, first
        return None if known is None else (known.node, known.axes)

    def _node(
        self, kind: str, op: str, parents: Sequence[int], axes: Axes, shape: tuple[int, ...], **more: Any
    ) -> Node:
        frame = self._stack.frames[-1] if self._stack.frames else Frame("", 0, None)
        node = Node(
            len(self.nodes),
            kind,
            op,
            frame.path,
            frame.call,
            self._ordinal,
            tuple(dict.fromkeys(parents)),
            axes,
            **more,
        )
        node.tokens, node.shape = ax.count(axes, TOKEN), shape
        inherited = next((self.nodes[p].grid for p in parents if self.nodes[p].grid is not None), None)
        node.grid = _grid_of(axes) or inherited
        node.classes = max([node.classes, *(self.nodes[p].classes for p in parents)], default=0)
        if node.tokens <= 1:
            node.classes = 0
        self.nodes.append(node)
        return node

    # ---------------------------------------------------------------- operations
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        given = list(tensors_in((args, tuple(kwargs.values()))))
        found = [self._get(x) for x in given]
        written = overload(func).mutable
        out = _norm(func, args, kwargs) or func(*args, **kwargs)
        name = overload(func).name
        made = list(tensors_in(out))
        if made and self._stack.frames:
            self._ordinal = self._stack.frames[-1].ordinal(name)
        if any(f is not None for f in found) and name not in _CHOOSES:
            if made:
                self._observe(func, name, args, kwargs, given, found, made, written)
        return out

    def _observe(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], found: list[Any], made: list[Tensor],
        written: bool,
    ) -> None:  # fmt: skip
        out = made[0]
        data = [(x, *f) for x, f in zip(given, found, strict=True) if f is not None]
        if name in ("split", "split_with_sizes", "unbind", "chunk", "unsafe_split", "tensor_split",
                                      "unsafe_chunk", "unsafe_split_with_sizes"):  # fmt: skip
            self._split(name, args, kwargs, data[0], made)
            return
        handled = self._result(func, name, args, kwargs, given, found, data, out)
        if handled is None:
            return
        node, axes = handled
        if len(axes) != out.dim() or any(prod(f.size for f in a) != n for a, n in zip(axes, out.shape, strict=True)):
            axes = ax.alike(axes, out.shape)
        target = given[0] if written and given else None
        if target is not None and target is out and not out.is_inference():
            self._write(out, node)
        self._put(out, node, axes)
        for other in made[1:]:
            if other.is_floating_point() and other.dim() and name not in ("native_batch_norm", "native_layer_norm",
                                                                         "max_pool2d_with_indices"):  # fmt: skip
                self._put(other, node, ax.alike(axes, other.shape))

    def _write(self, out: Tensor, node: int) -> None:
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

    def _split(self, name: str, args: Any, kwargs: Any, data: Any, made: list[Tensor]) -> None:
        x, node, axes = data
        named = kwargs.get(
            "dim", args[1 if name == "unbind" else 2] if len(args) > (1 if name == "unbind" else 2) else 0
        )
        at = named % max(x.dim(), 1)
        start = 0
        for index, part in enumerate(made):
            if name == "unbind":
                self._put(part, node, ax.selected(axes, at, index))
                continue
            size = part.shape[at]
            self._put(part, node, ax.narrowed(axes, at, start, size))
            start += size

    def _result(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], found: list[Any], data: list[Any],
        out: Tensor,
    ) -> tuple[int, Axes] | None:  # fmt: skip
        x, node, axes = data[0]
        shape = tuple(out.shape)
        arguments = overload(func).arguments(args, kwargs)
        if name in _MATRIX:
            first, second = _MATRIX[name]
            return self._matrix(name, args[first], args[second], args[0] if first else None, shape)
        if name in _CONVOLUTIONS:
            return self._convolution(name, args, arguments, shape)
        if name.startswith("_scaled_dot_product") or name == "scaled_dot_product_attention":
            return self._attention(name, args, shape)
        if name in ("embedding", "embedding_bag"):
            made = self._node(OP, name, [node], (), shape)
            made.axes = (*axes, ax.axis(shape[-1], CHANNEL, made.number))
            made.tokens = ax.count(made.axes, TOKEN)
            return made.number, made.axes
        if name in _VIEWS:
            return node, ax.reshape(axes, shape)
        if name in ("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select", "slice", "movedim",
                    "swapaxes", "numpy_T", "mT"):  # fmt: skip
            return node, _viewed(name, axes, x, arguments, shape)
        if name == "repeat":
            return node, _repeated(axes, args[1], shape)
        if name in ("cat", "stack", "concat", "hstack", "vstack"):
            return self._cat(name, args, arguments, data, shape)
        if name in ("im2col", "unfold", "view_as_real", "view_as_complex"):
            return node, _unfolded(name, axes, arguments, shape)
        if name == "copy":
            if len(given) > 1 and found[1] is None:
                return node, axes  # constants written into data
            source = data[-1]
            same = tuple(source[2]) if source[0].dim() == out.dim() else ax.joined([source[2]], shape)
            return source[1], same
        if name in ("index", "gather", "index_select", "take_along_dim", "masked_select"):
            return (node, _indexed(axes, x, shape)) if found[0] is not None else None
        distinct = tuple(dict.fromkeys(d[1] for d in data))
        if len(data) > 1 and (name in _MULTIPLIES or (name == "addcmul" and len(data) == 3)):
            if len(distinct) == 1 and name != "mul":
                return self._op(name, data, shape)
            pair = data[-2:]
            made = self._node(PRODUCT, name, [d[1] for d in data], ax.joined([d[2] for d in data], shape), shape,
                              sources=tuple(d[1] for d in pair), operands=tuple(d[2] for d in pair))  # fmt: skip
            made.axes = _crossed(made)
            return made.number, made.axes
        if len(data) > 1 and name in _ADDS:
            if len(distinct) == 1:
                return self._op(name, data, shape)
            made = self._node(ADD, name, distinct, ax.joined([d[2] for d in data], shape), shape)
            return made.number, made.axes
        if len(data) == 1 and name in _COPIES:
            return node, axes
        if len(data) == 1 and name == "constant_pad_nd":
            return node, ax.alike(axes, shape)
        if len(data) == 1 and name in _LINEAR:
            return node, (ax.joined([axes], shape) if len(shape) >= len(axes) else ax.alike(axes, shape))
        if name in _REDUCTIONS and len(data) == 1:
            return self._reduce(name, arguments, data[0], shape)
        return self._op(name, data, shape)

    def _op(self, name: str, data: list[Any], shape: tuple[int, ...]) -> tuple[int, Axes]:
        """Any other operation: what it gives depends on all its data."""
        axes = data[0][2]
        if all(len(d[2]) <= len(shape) for d in data) and len(shape) >= len(axes):
            same = ax.joined([d[2] for d in data], shape) if len(data) > 1 else ax.alike(axes, shape)
        else:
            same = ax.alike(axes, shape)
        if name.startswith(_POOLS) or name.startswith("upsample"):
            fixed = [axes[i] if i < len(axes) - 2 else () for i in range(len(shape))]
            same = tuple(
                fixed[i] if fixed[i] and prod(f.size for f in fixed[i]) == n else
                (same[i] if ax.kind_of(same[i]) != OTHER or n == 1 else ax.axis(n))
                for i, n in enumerate(shape)
            )  # fmt: skip
        made = self._node(OP, name, [d[1] for d in data], same, shape)
        if name.startswith(_POOLS):
            made.kind, made.contracts = REDUCE, TOKEN
            if len(shape) == len(axes) and ax.count(axes[-1:], CHANNEL) > 1:
                made.contracts = CHANNEL
        return made.number, made.axes

    def _reduce(self, name: str, arguments: Any, data: Any, shape: tuple[int, ...]) -> tuple[int, Axes]:
        x, node, axes = data
        dims = arguments.get("dim")
        if dims is None or (isinstance(dims, (list, tuple)) and not dims):
            dims = list(range(x.dim()))
        gone = {d % max(x.dim(), 1) for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
        kinds = [ax.kind_of(axes[i]) for i in gone if i < len(axes)]
        kind = TOKEN if TOKEN in kinds else CHANNEL if CHANNEL in kinds else OTHER
        if len(shape) == x.dim():
            left = tuple(() if i in gone else a for i, a in enumerate(axes))
        else:
            left = tuple(a for i, a in enumerate(axes) if i not in gone)
        made = self._node(REDUCE, name, [node], left, shape, operands=(axes,), contracts=kind)
        return made.number, left

    def _cat(self, name: str, args: Any, arguments: Any, data: list[Any], shape: tuple[int, ...]) -> tuple[int, Axes]:
        parts = list(args[0])
        at = (arguments.get("dim") or 0) % len(shape)
        axes = data[0][2]
        classes = 0
        if name == "stack":
            made = (*axes[:at], ax.axis(shape[at]), *axes[at:])
        else:
            kind = next((k for d in data if (k := ax.kind_of(d[2][at] if at < len(d[2]) else ())) != OTHER), OTHER)
            own = [x.shape[at] for x in parts if self._get(x) is None]
            if kind == OTHER and own and len(shape) >= 3 and at == len(shape) - 2:
                kind = TOKEN  # constants beside a single token
            classes = sum(own) if kind == TOKEN else 0
            made = (*axes[:at], ax.axis(shape[at], kind), *axes[at + 1 :])
        distinct = tuple(dict.fromkeys(d[1] for d in data))
        if len(distinct) == 1 and not classes:
            return distinct[0], made
        node = self._node(JOIN, name, distinct, made, shape, classes=classes)
        return node.number, made

    # ---------------------------------------------------------------- what multiplies
    def _matrix(self, name: str, a: Tensor, b: Tensor, added: Any, shape: tuple[int, ...]) -> tuple[int, Axes] | None:
        left, right = self._get(a), self._get(b)
        more = self._get(added) if isinstance(added, Tensor) else None
        if left is None and right is None:
            return (more[0], more[1]) if more is not None else None
        if left is not None and right is not None:
            made = self._node(PRODUCT, name, [left[0], right[0]], (), shape, sources=(left[0], right[0]),
                              operands=(left[1], right[1]))  # fmt: skip
            tagged = [_sided(axes, (made.number, side)) for side, axes in enumerate((left[1], right[1]))]
            rows, columns = _of_left(tagged[0], a), _of_right(tagged[1], b)
            made.contracted = (left[1][-1], right[1][-2] if b.dim() > 1 else right[1][-1])
            kinds = [ax.kind_of(factors) for factors in made.contracted]
            made.contracts = next((kind for kind in kinds if kind != OTHER), OTHER)
            outer = ax.joined([left[1][:1], right[1][:1]], shape[:1]) if len(shape) == 3 else ()
            made.axes = (*outer, *([rows] if a.dim() > 1 else []), *([columns] if b.dim() > 1 else []))
        else:
            x, weight, of_left = (a, b, True) if left is not None else (b, a, False)
            axes = (left or right)[1]  # type: ignore[index]
            source = (left or right)[0]  # type: ignore[index]
            contracted = axes[-1] if of_left or x.dim() < 2 else axes[-2]
            width = weight.shape[-1] if of_left else (weight.shape[-2] if weight.dim() > 1 else 1)
            kept = _of_left(axes, x) if of_left else _of_right(axes, x)
            kind = ax.kind_of(contracted)
            only = {f.kind for f in contracted} - {OTHER}
            outer = (axes[0],) if len(shape) == 3 else ()
            new = TOKEN if only == {TOKEN} and ax.count((*outer, kept), CHANNEL) > 1 else CHANNEL
            made = self._node(SYNAPSE, name, [source], (), shape, contracts=kind, operands=(axes,), sources=(source,))
            made.alone = self._alone()
            made.widths = (prod(f.size for f in contracted), width)
            column = ax.axis(width, new, made.number)
            rows = [kept] if x.dim() > 1 else []
            made.axes = (*outer, *rows, column) if of_left else (*outer, column, *rows)
        made.tokens = ax.count(made.axes, TOKEN)
        if more is not None and more[0] != made.number:
            both = self._node(ADD, "add", [more[0], made.number], made.axes, shape)
            return both.number, made.axes
        return made.number, made.axes

    def _convolution(self, name: str, args: Any, arguments: Any, shape: tuple[int, ...]) -> tuple[int, Axes] | None:
        x, weight = args[0], args[1]
        found, kernel = self._get(x), self._get(weight)
        if found is None:
            return None
        node, axes = found
        if kernel is not None:
            made = self._node(PRODUCT, name, [node, kernel[0]], ax.alike(axes, shape), shape,
                              sources=(node, kernel[0]), operands=(axes, kernel[1]))  # fmt: skip
            return made.number, made.axes
        made = self._node(SYNAPSE, name, [node], (), shape, operands=(axes,), sources=(node,))
        made.alone = self._alone()
        made.kernel, made.groups = tuple(weight.shape[2:]), int(arguments["groups"])
        made.stride, made.widths = tuple(arguments["stride"]), (x.shape[1], shape[1])
        made.contracts = ax.kind_of(axes[1])
        spatial = [ax.kind_of(a) for a in axes[2:]]
        new = TOKEN if made.contracts == TOKEN and CHANNEL in spatial else CHANNEL
        kept: list[ax.Axis] = []
        for old, size, kind in zip(axes[2:], shape[2:], spatial, strict=True):
            same = prod(f.size for f in old) == size
            keeps = same and (set(made.kernel) == {1} or kind != TOKEN)
            kept.append(old if keeps else ax.axis(size, kind if kind != OTHER else OTHER, made.number))
        made.axes = (axes[0], ax.axis(shape[1], new, made.number), *kept)
        made.tokens = ax.count(made.axes, TOKEN)
        made.grid = _grid_of(made.axes) or made.grid
        return made.number, made.axes

    def _attention(self, name: str, args: Any, shape: tuple[int, ...]) -> tuple[int, Axes] | None:
        found = [self._get(x) for x in args[:3]]
        if any(f is None for f in found):
            return self._op(name, [(x, *f) for x, f in zip(args[:3], found, strict=True) if f is not None], shape)
        q, k, v = found
        made = self._node(PRODUCT, name, [q[0], k[0], v[0]], (*q[1][:-1], v[1][-1]), shape,
                          sources=(q[0], k[0], v[0]), operands=(q[1], k[1], v[1]), contracts=CHANNEL)  # fmt: skip
        return made.number, made.axes

    def _alone(self) -> bool:
        """Whether the module at work is a layer with weights and nothing else (as the trace has it)."""
        if not self._stack.frames:
            return False
        module = self._stack.module(self._stack.frames[-1].path)
        parts = {name for name, _ in module.named_children()}
        return parts <= {"parametrizations"} and any(True for _ in module.parameters())

    # ---------------------------------------------------------------- modules
    def neuron_left(self, frame: Frame, tensors: list[Tensor]) -> None:
        """A neuron has handed out its spikes."""
        found = self._get(frame.argument) if frame.argument is not None else None
        if found is None:
            return
        for x in tensors:
            if x.dim() == 0:
                continue
            axes = found[1] if frame.argument.shape == x.shape else ax.alike(found[1], x.shape)
            node = self._node(NEURON, "neuron", [found[0]], axes, tuple(x.shape))
            node.path, node.call = frame.path, frame.call
            self._put(x, node.number, axes)
            break

    def left(self, path: str, tensors: list[Tensor]) -> None:
        """A module has handed out tensors."""
        found = self._get(tensors[0]) if tensors else None
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


def _norm(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, ...] | None:
    """What a batch norm with running statistics gives without values, for which torch takes longer than with them."""
    facts = overload(func)
    if facts.name not in _RUNNING or facts.mutable or not args[0].is_meta:
        return None
    if facts.arguments(args, kwargs).get("training"):
        return None
    return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)


def _storage(tensor: Tensor) -> int:
    """What tells storages apart, those without data too; 0 where a tensor has none of its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0


def _grid_of(axes: Axes) -> tuple[int, int] | None:
    """Height and width, where the last two axes hold tokens."""
    if len(axes) < 3:
        return None
    sizes = [prod(f.size for f in a) for a in axes[-2:]]
    if len({f.side for a in axes[-2:] for f in a}) > 1:
        return None  # the two sides of a product, such as queries and keys
    kinds = [ax.kind_of(a) for a in axes[-2:]]
    if min(sizes) >= 1 and max(sizes) > 1 and all(k == TOKEN or n == 1 for k, n in zip(kinds, sizes, strict=True)):
        return sizes[0], sizes[1]
    return None


def _sided(axes: Axes, side: tuple[int, int]) -> Axes:
    return tuple(tuple(f._replace(side=side) for f in factors) for factors in axes)


def _crossed(node: Node) -> Axes:
    """Axes of a product of every token of one operand with every one of the other, by broadcasting: which is whose."""
    padded = [(*((),) * (len(node.axes) - len(axes)), *axes) for axes in node.operands]
    alone = [
        [at for at, (mine, theirs) in enumerate(zip(own, other, strict=True)) if mine and not theirs]
        for own, other in (padded, padded[::-1])
    ]
    if not all(any(ax.kind_of(node.axes[at]) == TOKEN for at in own) for own in alone):
        return node.axes
    whose = {at: (node.number, side) for side, own in enumerate(alone) for at in own}
    return tuple(
        tuple(f._replace(side=whose[at]) for f in factors) if at in whose else factors
        for at, factors in enumerate(node.axes)
    )


def _of_left(axes: Axes, x: Tensor) -> ax.Axis:
    return axes[-2] if x.dim() > 1 else ()


def _of_right(axes: Axes, x: Tensor) -> ax.Axis:
    return axes[-1] if x.dim() > 1 else ()


def _viewed(name: str, axes: Axes, x: Tensor, arguments: Any, shape: tuple[int, ...]) -> Axes:
    rank = x.dim() if x.dim() == len(axes) else len(axes)
    if name == "permute":
        return tuple(axes[d % rank] for d in arguments["dims"])
    if name == "t":
        return axes[::-1]
    if name in ("transpose", "swapaxes"):
        order = list(range(rank))
        i, j = (arguments[k] % rank for k in (("dim0", "dim1") if name == "transpose" else ("axis0", "axis1")))
        order[i], order[j] = order[j], order[i]
        return tuple(axes[i] for i in order)
    if name == "unsqueeze":
        at = arguments["dim"] % (len(axes) + 1)
        return (*axes[:at], (), *axes[at:])
    if name == "squeeze":
        dims = arguments.get("dim")
        if dims is None:
            return tuple(a for a in axes if a)
        gone = {d % rank for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
        return tuple(a for i, a in enumerate(axes) if i not in gone or a)
    if name == "expand":
        return ax.joined([axes], shape)
    if name == "select":
        at = arguments["dim"] % rank
        return ax.selected(axes, at, arguments["index"] % max(prod(f.size for f in axes[at]), 1))
    if name == "slice":
        at = (arguments.get("dim") or 0) % rank
        whole = prod(f.size for f in axes[at])
        start = arguments.get("start") or 0
        start = min(start + whole if start < 0 else start, whole)
        step = arguments.get("step") or 1
        return ax.narrowed(axes, at, start, shape[at], step)
    return ax.alike(axes, shape)


def _unfolded(name: str, axes: Axes, arguments: Any, shape: tuple[int, ...]) -> Axes:
    """Patches as columns, windows as an axis of their own, complex numbers as pairs and back."""
    if name == "im2col":  # [B, C, H, W] -> [B, C * kernel, patches]
        return (*axes[:-3], ax.axis(shape[-2], ax.kind_of(axes[-3])), ax.axis(shape[-1], ax.kind_of(axes[-1])))
    if name == "unfold":  # [..., n, ...] -> [..., windows, ..., size]
        kind = ax.kind_of(axes[arguments["dimension"] % max(len(axes), 1)])
        return (*ax.alike(axes, shape[:-1]), ax.axis(shape[-1], kind))
    return (*axes, ax.axis(2)) if name == "view_as_real" else axes[:-1]


def _repeated(axes: Axes, times: Sequence[int], shape: tuple[int, ...]) -> Axes:
    padded = (*((),) * (len(shape) - len(axes)), *axes)
    return tuple((*ax.axis(n), *factors) for n, factors in zip(times, padded, strict=True))


def _indexed(axes: Axes, x: Tensor, shape: tuple[int, ...]) -> Axes:
    """What an index picks: axes of unchanged size are what they were."""
    if len(shape) == len(axes):
        return ax.alike(axes, shape)
    if len(shape) == len(axes) - 1:  # a single place of one axis
        for at, factors in enumerate(axes):
            rest = (*axes[:at], *axes[at + 1 :])
            if [prod(f.size for f in a) for a in rest] == list(shape) and prod(f.size for f in factors) > 1:
                return rest
    extra = len(shape) - len(axes)
    if extra > 0 and axes:  # relative positions, windows: one axis has become several
        for at, factors in enumerate(axes):
            tail = tuple(prod(f.size for f in a) for a in axes[at + 1 :])
            head = tuple(prod(f.size for f in a) for a in axes[:at])
            if shape[:at] == head and (not tail or shape[-len(tail) :] == tail):
                kind = ax.kind_of(factors)
                middle = shape[at : len(shape) - len(tail)]
                return (*axes[:at], *(ax.axis(n, kind) for n in middle), *axes[at + 1 :])
    return tuple(ax.axis(n) for n in shape)

"""The dispatch mode of a survey: every tensor of a pass gets its place by the rule of the operation that makes it."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.attention import fields, place_rules
from spikeattn.attention.place import NAMES, Operation, Place, Unplaced, written
from spikeattn.attention.place_rules import MATRIX, PARTS
from spikeattn.attention.survey_record import Matrix, Seen, Site, Survey
from spikeattn.errors import FAILURES
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

_MASKS = ("mul", "logical_and", "bitwise_and", "__and__", "minimum")


class Places(TorchDispatchMode):
    """Gives every tensor of data its place."""

    def __init__(self, model: nn.Module, neurons: dict[str, nn.Module], strict: bool) -> None:
        super().__init__()
        self.found, self.strict = Survey(), strict
        self._places: dict[int, tuple[weakref.ref[Tensor], Place]] = {}
        self._storages: dict[int, tuple[weakref.ref[Tensor], Place, tuple[int, ...]]] = {}
        self._streams = 0
        self.stack = _Stack(self, model, neurons)

    def __enter__(self) -> Places:
        self.stack.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stack.__exit__(*error)

    def show(self, images: Tensor) -> None:
        """Note what the pass is given."""
        rank = images.dim()
        row, column = (fields.along(images.shape[axis], axis, rank) for axis in (rank - 2, rank - 1))
        self.put(images, Place(row, column, fields.along(len(images), 0, rank)))

    def put(self, tensor: Tensor, place: Place) -> None:
        """The place of a tensor from now on."""
        self._places[id(tensor)] = (weakref.ref(tensor), place)

    def get(self, tensor: Tensor) -> Place | None:
        """The place of a tensor; None where it is no data."""
        known = self._places.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        if not self._storages or tensor.device.type == "cpu" and tensor.numel() == 0:
            return None
        buffer = self._storages.get(_storage(tensor))
        if buffer is None or buffer[0]() is None:
            return None
        found = written(buffer[1], buffer[2], tensor)
        if found is not None:
            self.put(tensor, found)
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.stack.in_neuron:
            return func(*args, **kwargs)
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        given = list(tensors_in((args, tuple(kwargs.values()))))
        data = [(x, place) for x in given if (place := self.get(x)) is not None]
        shapes = {id(x): x.shape for x in given}
        out = func(*args, **kwargs)
        made = list(tensors_in(out))
        name = func._schema.name.split("::")[1].rstrip("_")
        frame = self.stack.frames[-1] if self.stack.frames else Frame("", 0, None)
        ordinal = frame.ordinal(name)
        if data and made:
            if all(x.shape == shapes[id(x)] for x, _ in data):
                self._observe(Operation(func, name, args, kwargs, tuple(data), made[0]), made, frame, ordinal)
            if func._schema.is_mutable and given and given[0] is made[0]:
                self._wrote(given[0])
        return out

    def _observe(self, op: Operation, made: list[Tensor], frame: Frame, ordinal: int) -> None:
        if op.name == "copy":
            op = op._replace(data=op.data[-1:])
        if op.name in MATRIX:
            self._product(op, Site(frame.path, op.name, ordinal))
        product = any(place.product for _, place in op.data) or self._two(op)
        if op.name in MATRIX and self._two(op) and any(place.product for _, place in op.data):
            product = False  # the matrix has met its values
        stream, behind = self._stream(op)
        if len(made) > 1 and op.name in PARTS:
            columns = [place_rules.parts(op, name, made) for name in NAMES]
            for x, found in zip(made, zip(*columns, strict=True), strict=True):
                self.put(x, Place(product=product, stream=stream, behind=behind).with_fields(found))
            return
        for x in made:
            if x is made[0] or x.shape == made[0].shape:
                place = self._behind(op._replace(out=x), frame)._replace(product=product, stream=stream, behind=behind)
                if product and op.name in MATRIX and self._two(op) and _holds_values(place):
                    place = place._replace(product=False)
                self.put(x, place)
                if len(op.data) > 1 and x is made[0] and (op.name in MATRIX or op.name in _MASKS):
                    site = Site(frame.path, op.name, ordinal)
                    given = tensors_in((op.args, tuple(op.kwargs.values())))
                    seen = tuple(Seen(tuple(y.shape), op.place_of(y) or Place()) for y in given)
                    self.found.operands.setdefault(site, []).append(seen)
                if op.name in _MASKS and len(op.data) > 1 and x is made[0]:
                    self.found.results.setdefault(site, []).append(Seen(tuple(x.shape), place))

    def _stream(self, op: Operation) -> tuple[int, int]:
        """The stream of a result, and those that lead to it."""
        if place_rules.keeps_places(op):
            return op.data[0][1].stream, op.data[0][1].behind
        self._streams += 1
        behind = 1 << self._streams
        for _, place in op.data:
            behind |= place.behind
        return self._streams, behind

    def _behind(self, op: Operation, frame: Frame) -> Place:
        if op.out.shape == op.data[0][0].shape and len(op.data) == 1 and place_rules.is_elementwise(op.name):
            return op.data[0][1]
        rule, found = place_rules.rule_of(op.name), []
        for name in NAMES:
            try:
                one = rule(op, name)
                right = one is None or (
                    one.low.dim() == op.out.dim()
                    and all(s in (1, n) for s, n in zip(one.low.shape, op.out.shape, strict=True))
                )
                if not right:
                    raise Unplaced(f"{op.name} gives a tensor of another form")
            except (*FAILURES, Unplaced) as error:
                if self.strict:
                    raise
                self.found.notes[f"{op.name} in {frame.path or 'the model'} ({error})"] = None
                one = None
            found.append(one)
        return Place().with_fields(found)

    def _two(self, op: Operation) -> bool:
        """Whether a matrix product has data on both sides."""
        if op.name not in MATRIX:
            return False
        return all(op.place_of(op.args[i]) is not None for i in MATRIX[op.name])

    def _product(self, op: Operation, site: Site) -> None:
        """Note a product of a matrix of attention with values."""
        if not self._two(op):
            return
        factors = [op.args[i] for i in MATRIX[op.name]]
        seen = [Seen(tuple(x.shape), op.place_of(x) or Place()) for x in factors]
        which = [number for number, one in enumerate(seen) if one.place.product]
        if len(which) == 1:
            operand = which[0]
            self.found.matrices.setdefault(site, []).append(Matrix(operand, seen[operand], seen[1 - operand]))

    def _wrote(self, x: Tensor) -> None:
        place = self.get(x)
        if place is not None:
            self._storages[_storage(x)] = (weakref.ref(x), place, tuple(x.shape))


class _Stack(ModuleStack):
    """Hands the outputs of modules to the survey; neurons give what they take."""

    def __init__(self, mode: Places, model: nn.Module, neurons: dict[str, nn.Module]) -> None:
        super().__init__(model, neurons)
        self._mode = mode

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        given = self.frames[-1].argument
        if given is not None and given.dim():
            seen = Seen(tuple(given.shape), self._mode.get(given) or Place())
            self._mode.found.inputs.setdefault(path, []).append(seen)

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        if frame is None or self.in_neuron:
            return frame
        tensors = [x for x in tensors_in(output) if x.dim()]
        mode = self._mode
        if path in self._neurons and frame.argument is not None:
            place = mode.get(frame.argument)
            for x in tensors:
                if place is not None and x.shape == frame.argument.shape:
                    mode.put(x, place)
        if tensors:
            seen = Seen(tuple(tensors[0].shape), mode.get(tensors[0]) or Place())
            mode.found.outputs.setdefault(path, []).append(seen)
        return frame


def _holds_values(place: Place) -> bool:
    """Whether a product has tokens on its left alone: weights of attention that a layer made, times v."""
    left = place.row is not None or place.column is not None
    return left and place.other_row is None and place.other_column is None


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0

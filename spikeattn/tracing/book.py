"""What is known of every tensor that is alive in a traced forward pass: its origin and its label."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from spikeattn.tracing import labels
from spikeattn.tracing.kinds import value_flags, whole
from spikeattn.tracing.labels import NOTHING, Label
from spikeattn.tracing.nested_tensors import modules_in, tensors_in
from spikeattn.tracing.origins import Held, Origin, overwritten
from spikeattn.tracing.writes import written_into


@dataclass(eq=False)
class _Entry:
    """What is noted of one tensor, whose memory begins at an address."""

    tensor: weakref.ref[Tensor]
    address: int | None
    origin: Origin
    label: Label


class TensorBook:
    """Origin and label of each tensor; forgotten with it.

    Attributes:
        muted: above 0 while operations of our own run, which are no part of the model.
    """

    def __init__(self) -> None:
        self.muted = 0
        self._entries: dict[int, _Entry] = {}  # by the tensors' identity
        self._at: dict[int, list[weakref.ref[Tensor]]] = {}  # tensors by the address of their memory

    # ------------------------------------------------------------------------------------------------------ origins
    def origin(self, tensor: Tensor) -> Origin:
        """The origin of a tensor. One never seen shares the memory of one that was, or is of unknown origin."""
        entry = self._entry(tensor)
        found = None if entry is None else entry.origin
        if found is None:
            other = self._same_memory(tensor)
            if other is not None:
                found = self.origin(other)
                self.put(tensor, found, self._label_of_other(other, tensor))
            else:
                # A single number that the code makes on the way (torch.tensor(0.5)) is a constant; an array is not.
                found = Origin(stateless=True, weight=tensor.numel() == 1, unknown=tensor.numel() != 1)
                if tensor.numel() == 1 and not tensor.is_meta:
                    found.recipe = hash(float(tensor)) if not tensor.is_complex() else None
                self.put(tensor, found, NOTHING)
        return found

    def label(self, tensor: Tensor) -> Label:
        """The label of a tensor."""
        entry = self._entry(tensor)
        if entry is None:
            self.origin(tensor)
        return self._label(tensor)

    def put(self, tensor: Tensor, origin: Origin, label: Label) -> None:
        """Note a tensor."""
        entry, address, number = self._entry(tensor), _address(tensor), id(tensor)
        if entry is not None and entry.address == address:
            entry.origin, entry.label = origin, label
            return
        seen = weakref.ref(tensor, lambda gone: self._forget(number, gone))
        self._entries[number] = _Entry(seen, address, origin, label)
        if address is not None:
            self._at.setdefault(address, []).append(seen)

    def set_origin(self, tensor: Tensor, origin: Origin) -> None:
        """Note another origin for a tensor whose label stays."""
        self.put(tensor, origin, self.label(tensor))

    def hold(self, model: nn.Module) -> None:
        """Note what the modules hold before the pass: parameters, buffers, and tensors in their attributes."""
        for path, module in model.named_modules():
            for name, tensor in _held(module):
                if self._entry(tensor) is None:
                    site = ".".join(filter(None, [path, name]))
                    self.put(tensor, Origin(site=site, weight=True, stateless=True), NOTHING)

    def observe(self, tensor: Tensor) -> Origin:
        """The tensor's origin, with its value flags extended by what the tensor holds.

        Queries, keys and values read the same spikes, and a view holds what its tensor holds: seen once is enough.
        """
        origin, held = self.origin(tensor), Held.by(tensor)
        if held is not None and held == origin.held:
            return origin
        with self.muting():
            flags = value_flags(whole(tensor, origin.unit or 1.0)).cpu()
            origin.flags = flags if origin.flags is None else origin.flags | flags
        origin.held = held
        return origin

    # ------------------------------------------------------------------------------------------------------- writes
    def overwrite(self, tensor: Tensor, origin: Origin, label: Label) -> None:
        """An operation in place also changes every other tensor that looks at the same memory."""
        for other in self._aliases(tensor):
            entry, there = self._entry(other), self._entry(tensor)  # the latter says which part of the memory it is
            if entry is None:
                continue
            whole_of_it = other.numel() == tensor.numel()
            renewed = overwritten(entry.origin, origin, whole_of_it)
            renewed.apart |= self._parts_of_fields(other, tensor)
            part = there.origin.made_as if there else None
            renewed.recipe = hash(("written", entry.origin.made_as, part, origin.made_as))
            entry.origin, entry.label = renewed, self._renewed(other, tensor, label)

    def _parts_of_fields(self, other: Tensor, tensor: Tensor) -> frozenset[str]:
        """The fields of which what is written holds some values only, so that it tells them apart."""
        whole, part = self._label(other), self._label(tensor)
        found = set()
        for name, values in whole.fields.items():
            held = part.get(name)
            kept = set() if held is None else set(labels.values_of(held))
            if kept and kept < set(labels.values_of(values)):
                found.add(name)
        return frozenset(found)

    def _renewed(self, other: Tensor, tensor: Tensor, label: Label) -> Label:
        """The label of a tensor after `label` has been written to where it overlaps with another."""
        old = self._label(other)
        if other.shape == tensor.shape and other.stride() == tensor.stride():
            return label
        fields = {}
        for name in {*old.fields, *label.fields}:
            before, after = old.get(name), label.get(name)
            with self.muting():
                fields[name] = written_into(other, before, tensor, after)
        loose = old.loose or label.loose
        return Label({k: v for k, v in fields.items() if v is not None}, {**label.joined, **old.joined}, loose)

    def _entry(self, tensor: Tensor) -> _Entry | None:
        found = self._entries.get(id(tensor))
        return found if found is not None and found.tensor() is tensor else None

    def _label(self, tensor: Tensor) -> Label:
        entry = self._entry(tensor)
        return NOTHING if entry is None else entry.label

    def _forget(self, number: int, tensor: weakref.ref[Tensor]) -> None:
        """A tensor is gone; another one may bear its identity, or lie at its address, by now."""
        entry = self._entries.get(number)
        if entry is None or entry.tensor is not tensor:
            return
        del self._entries[number]
        if entry.address is not None:
            beside = [other for other in self._at[entry.address] if other is not tensor]
            if beside:
                self._at[entry.address] = beside
            else:
                del self._at[entry.address]

    def _aliases(self, tensor: Tensor) -> Iterator[Tensor]:
        """Other tensors that are alive, known, and whose memory begins at the same address."""
        address = _address(tensor)
        for ref in list(self._at.get(address, ())) if address is not None else ():
            other = ref()
            if other is not None and other is not tensor and self._entry(other) is not None:
                yield other

    def _same_memory(self, tensor: Tensor) -> Tensor | None:
        """A tensor of as many elements at the same address: what numpy, dlpack and nn.Parameter hand back."""
        return next((other for other in self._aliases(tensor) if other.numel() == tensor.numel()), None)

    def _label_of_other(self, other: Tensor, tensor: Tensor) -> Label:
        known = self.label(other)
        if other.shape == tensor.shape:
            return known
        fields = {n: labels.reshape(v, other.shape, tensor.shape) for n, v in known.fields.items()}
        return Label(fields, known.joined, known.loose)

    @contextmanager
    def muting(self) -> Iterator[None]:
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1


def _held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that a module keeps: parameters, buffers, attributes, and those in its lists and dictionaries, where a
    layer may stand too, unknown to torch."""
    for registered in (module._parameters, module._buffers):
        yield from ((name, tensor) for name, tensor in dict(registered).items() if tensor is not None)
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        if isinstance(value, (Tensor, tuple, list, dict)):
            yield from ((name, tensor) for tensor in tensors_in(value))
            for layer in modules_in(value):
                yield from ((f"{name}.{inner}", tensor) for inner, tensor in layer.named_parameters())
                yield from ((f"{name}.{inner}", tensor) for inner, tensor in layer.named_buffers())


def _address(tensor: Tensor) -> int | None:
    """Where the memory of a tensor begins; None for those that have none (meta, sparse, wrapped)."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):
        return None

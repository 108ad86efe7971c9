"""What is known of every tensor that is alive in a traced forward pass: its origin and its label."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from spikeattn.tracing import labels
from spikeattn.tracing.kinds import value_flags, whole
from spikeattn.tracing.labels import ANY, NOTHING, Label
from spikeattn.tracing.origins import Origin, overwritten
from spikeattn.tracing.values import modules_in, tensors_in


class TensorBook:
    """Origin and label of each tensor; forgotten with it.

    Attributes:
        muted: above 0 while operations of our own run, which are no part of the model.
    """

    def __init__(self) -> None:
        self.muted = 0
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._labels: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._at: dict[int, list[weakref.ref[Tensor]]] = {}  # tensors by the address of their memory

    # ------------------------------------------------------------------------------------------------------ origins
    def origin(self, tensor: Tensor) -> Origin:
        """The origin of a tensor. One never seen shares the memory of one that was, or is of unknown origin."""
        found = self._origins.get(tensor)
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
        found = self._labels.get(tensor)
        if found is None:
            self.origin(tensor)
            found = self._labels.get(tensor) or NOTHING
        return found

    def put(self, tensor: Tensor, origin: Origin, label: Label) -> None:
        """Note a tensor."""
        self._origins[tensor] = origin
        self._labels[tensor] = label
        address = _address(tensor)
        if address is not None:
            self._at.setdefault(address, []).append(weakref.ref(tensor))

    def set_origin(self, tensor: Tensor, origin: Origin) -> None:
        """Note another origin for a tensor whose label stays."""
        self.put(tensor, origin, self.label(tensor))

    def hold(self, model: nn.Module) -> None:
        """Note what the modules hold before the pass: parameters, buffers, and tensors in their attributes."""
        for path, module in model.named_modules():
            for name, tensor in _held(module):
                if self._origins.get(tensor) is None:
                    site = ".".join(filter(None, [path, name]))
                    self.put(tensor, Origin(site=site, weight=True, stateless=True), NOTHING)

    def observe(self, tensor: Tensor) -> Origin:
        """The tensor's origin, with its value flags extended by what the tensor holds."""
        origin = self.origin(tensor)
        with self.muting():
            flags = value_flags(whole(tensor, origin.unit or 1.0)).cpu()
            origin.flags = flags if origin.flags is None else origin.flags | flags
        return origin

    # ------------------------------------------------------------------------------------------------------- writes
    def overwrite(self, tensor: Tensor, origin: Origin, label: Label) -> None:
        """An operation in place also changes every other tensor that looks at the same memory."""
        for other in self._aliases(tensor):
            old = self._origins.get(other)
            if old is None:
                continue
            whole_of_it = other.numel() == tensor.numel()
            there = self._origins.get(tensor)  # says which part of the memory was written
            renewed = overwritten(old, origin, whole_of_it)
            renewed.apart |= self._parts_of_fields(other, tensor)
            renewed.recipe = hash(("written", old.made_as, there.made_as if there else None, origin.made_as))
            self._origins[other] = renewed
            self._labels[other] = self._renewed(other, tensor, label)

    def _parts_of_fields(self, other: Tensor, tensor: Tensor) -> frozenset[str]:
        """The fields of which what is written holds some values only, so that it tells them apart."""
        whole, part = (self._labels.get(x) or NOTHING for x in (other, tensor))
        found = set()
        for name, values in whole.fields.items():
            held = part.get(name)
            kept = set() if held is None else set(labels.values_of(held))
            if kept and kept < set(labels.values_of(values)):
                found.add(name)
        return frozenset(found)

    def _renewed(self, other: Tensor, tensor: Tensor, label: Label) -> Label:
        """The label of a tensor after `label` has been written to where it overlaps with another."""
        old = self._labels.get(other) or NOTHING
        if other.shape == tensor.shape and other.stride() == tensor.stride():
            return label
        fields = {}
        for name in {*old.fields, *label.fields}:
            before, after = old.get(name), label.get(name)
            with self.muting():
                fields[name] = _written_into(other, before, tensor, after)
        loose = old.loose or label.loose
        return Label({k: v for k, v in fields.items() if v is not None}, {**label.joined, **old.joined}, loose)

    def _aliases(self, tensor: Tensor) -> Iterator[Tensor]:
        address = _address(tensor)
        for ref in list(self._at.get(address, ())) if address is not None else ():
            other = ref()
            if other is not None and other is not tensor:
                yield other

    def _same_memory(self, tensor: Tensor) -> Tensor | None:
        """A tensor that is alive, known, and at the same address: what numpy, dlpack and nn.Parameter hand back."""
        return next((o for o in self._aliases(tensor) if o.numel() == tensor.numel() and o in self._origins), None)

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


def _written_into(other: Tensor, before: Tensor | None, tensor: Tensor, after: Tensor | None) -> Tensor | None:
    """One field of `other` where `tensor`, part of the same memory, holds `after` now."""
    if other.dtype != tensor.dtype or other.dim() == 0:
        return after if before is None else before
    old = labels.constant(ANY, other.dim()) if before is None else before
    new = labels.constant(ANY, tensor.dim()) if after is None else after
    size = max(_end(other), _end(tensor))
    memory = torch.full((size,), ANY, dtype=torch.int32)
    memory.as_strided(other.shape, other.stride(), other.storage_offset()).copy_(old.expand(other.shape))
    memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(new.expand(tensor.shape))
    return labels.compact(memory.as_strided(other.shape, other.stride(), other.storage_offset()).clone())


def _end(tensor: Tensor) -> int:
    reach: Any = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + reach + 1)

"""Where a tensor comes from, and what an operation makes of that: which values stay spikes, and which name they bear.

Spikes are whole multiples of one number, their unit: 1 for most neurons, 1/4 for levels k/4, the scale where a model
multiplies spikes by a constant. The unit folds into the weights behind, so counts are of value / unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from spikeattn.tracing.kinds import UNORDERED, is_dense
from spikeattn.tracing.labels import NOTHING, Label
from spikeattn.tracing.overloads import overload

# The same elements, seen or stored another way (expand and repeat: the same elements more often).
ALIAS = {
    "view", "reshape", "_unsafe_view", "_reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "flatten",
    "expand", "repeat", "clone", "contiguous", "_to_copy", "to", "detach", "alias", "lift_fresh", "copy",
}  # fmt: skip
# Some of the elements, or several tensors side by side: values stay what they are.
_PARTS = {
    "select", "slice", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk",
    "chunk", "unbind", "narrow", "index", "index_select", "cat",
    "stack", "unfold", "im2col", "constant_pad_nd", "roll", "flip", "gather", "pad", "where", "take", "as_strided",
    "diagonal", "masked_select", "masked_fill", "index_put", "_index_put_impl", "index_copy", "scatter", "tril", "triu",
    "select_scatter", "slice_scatter", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "abs", "neg", "relu",
}  # fmt: skip
_SQUARES = ("linalg_", "norm", "var", "std")  # reductions that multiply numbers with themselves
_POOLS = ("max_pool", "adaptive_max_pool", "amax", "amin", "max", "min", "maximum", "minimum")
_COMPARED = {"eq", "ne", "gt", "ge", "lt", "le"}
_MULTIPLYING = {"mul", "div", "true_divide", "addcmul", "addcdiv", "lerp", "prod"}
LOOKUPS = {"embedding", "index", "index_select"}  # take rows of their first tensor by the numbers in the second
_BY_NUMBER = {"index", "index_select", "gather", "take", "masked_select"}  # tensors behind the first only pick
_AVERAGES = ("mean", "avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool", "mkldnn_adaptive_avg_pool")
_BLANK = {
    "zero", "zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "new_empty_strided",
    "empty_strided",
}  # fmt: skip
# Make a new tensor of a tensor's shape, or read one without computing on it.
_NEUTRAL = {
    "ones_like", "full_like", "new_full", "new_ones", "rand_like", "randn_like", "eq", "ne", "isnan", "isinf",
    "isfinite", "any", "all", "is_nonzero", "equal", "_local_scalar_dense", "fill",
}  # fmt: skip
# Neither multiply by weights nor hide a layer: copies, orders, sums, counts, masks of chance, norms that fold into the
# layer before. With the operations above and those that torch tags as elementwise or as reductions this is the whole
# list; anything else that the input reaches is counted by a rule or listed.
_FREE = {
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mkldnn_adaptive_avg_pool2d", "cumsum", "cummax", "cummin", "topk",
    "sort", "argsort", "kthvalue", "median", "mode", "nonzero", "unique", "_unique2", "unique_dim", "bincount",
    "embedding", "scatter_add", "scatter_reduce", "index_add", "index_fill", "masked_scatter", "native_dropout",
    "bernoulli", "dropout", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "_has_same_storage_numel", "col2im",
    "resize", "set", "view_as_real", "view_as_complex", "real", "imag", "_conj", "histc", "searchsorted", "bucketize",
    "tile", "swapaxes", "movedim", "lift", "_assert_async", "isin", "record_stream", "sym_size", "_cast_Float",
    "rot90", "uniform", "normal", "random", "exponential", "multinomial", "_assert_scalar", "renorm", "max_unpool2d",
    "_pin_memory", "_is_all_true", "_is_any_true", "_reshape_copy", "view_copy", "block_diag",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class View:
    """What tells the axes of a tensor: its shape and its label, as they were at an operation."""

    shape: tuple[int, ...]
    label: Label = NOTHING


@dataclass(frozen=True)
class Held:
    """Which memory a tensor holds, whole and as it is now: views of it in any shape and order are equal.

    Attributes:
        memory: kept weakly, so that no other memory can bear its number.
        version: counts the writes into it.
    """

    memory: StorageWeakRef
    version: int
    offset: int
    elements: int
    dtype: torch.dtype

    @classmethod
    def by(cls, tensor: Tensor) -> Held | None:
        """What a tensor holds; None where it leaves out parts of its memory, or nothing tells when it is written."""
        if tensor.layout != torch.strided or tensor.is_inference() or not is_dense(tensor):
            return None
        try:
            memory = StorageWeakRef(tensor.untyped_storage())
        except (RuntimeError, NotImplementedError):  # wrapped tensors have none
            return None
        return cls(memory, tensor._version, int(tensor.storage_offset()), tensor.numel(), tensor.dtype)


@dataclass(eq=False)
class Beside:
    """What lies side by side in the result of a concatenation.

    Attributes:
        origins, sizes: of its parts, in order.
        address, stride: where the result begins in memory, and how far apart the places along its axis are.
        uses: operations that have taken it, whole or in parts.
    """

    origins: tuple[Origin, ...]
    sizes: tuple[int, ...]
    address: int
    stride: int
    uses: int = 0


@dataclass(eq=False)
class Origin:
    """Where a tensor comes from; views of a tensor share its origin.

    Attributes:
        name, call: dotted path of the module that handed it out, and in which of its calls; or None.
        operation: (module, call, operation, ordinal) of the operation that made it, for products of spikes.
        site: the name of that operation; of a parameter, its name.
        unit: its values are whole multiples of this number, by the operations that led here from spikes; None if not.
        summed: sums have entered it, so its values have no largest one.
        weight: it descends from parameters, buffers and constants that the code makes.
        unknown: nothing says where it comes from (a copy through numpy, a tensor that no module holds), or it descends
            from such a tensor and from nothing that is known.
        stateless: it descends from the input and constants alone, through no neuron.
        steady: no chance has entered, which differs from step to step.
        apart: the fields (see labels) along which constants tell apart what was the same everywhere.
        of_input: its values are those of the input.
        varies: it descends from the input; a constant of the forward pass does not.
        blank: nothing but zeros, or not written yet.
        maker: "input", "neuron", "pool", "mask" or "op".
        flags: value flags seen so far (see kinds.value_flags), or None.
        held: what was looked at last for the flags, or None.
        view: the tensor when it was made.
        sources: what it was pooled or masked from.
        parents: what it was computed from.
        recipe: equal for two tensors that the same operations made of the same things, with the same numbers.
        beside: what lies side by side in it, where it is a concatenation of spikes and numbers.
        signs_of: what it holds the signs of.
        needed: the earliest time step of a single-step neuron that it leads to, once the pass has ended.
    """

    name: str | None = None
    call: int = 0
    operation: tuple[str, int, str, int] | None = None
    site: str | None = None
    unit: float | None = None
    summed: bool = False
    weight: bool = False
    unknown: bool = False
    stateless: bool = False
    steady: bool = True
    apart: frozenset[str] = frozenset()
    of_input: bool = False
    varies: bool = False
    blank: bool = False
    maker: str = "op"
    flags: Tensor | None = None
    held: Held | None = None
    view: View | None = None
    sources: tuple[Origin, ...] = ()
    parents: tuple[Origin, ...] = ()
    recipe: int | None = None
    beside: Beside | None = None
    signs_of: Origin | None = None
    needed: int | None = None

    @property
    def made_as(self) -> int:
        """The recipe, or one that no other tensor has."""
        return id(self) if self.recipe is None else self.recipe

    @property
    def value_flags(self) -> Tensor:
        """The flags of a tensor that was looked at, as every operand of an event is."""
        assert self.flags is not None
        return self.flags

    @property
    def multiple(self) -> float:
        """The unit of spikes."""
        assert self.unit is not None
        return self.unit

    @property
    def spiky(self) -> bool:
        """Whether its values are spikes, or whole numbers made of spikes."""
        return self.unit is not None

    @property
    def maker_name(self) -> str | None:
        """What tells tensors of different makers apart, whichever time step they belong to."""
        return self.name or (f"{self.operation[0]}.{self.operation[2]}" if self.operation else self.site)


def derive(
    func: Any, name: str, args: Any, kwargs: dict[str, Any], given: Sequence[Tensor], origins: Sequence[Origin],
    out: Tensor,
) -> tuple[Origin, str]:  # fmt: skip
    """Origin of the result of an operation that multiplies no weights, and the event it is.

    Returns:
        The origin, and "mask", "token_sum", "average", "unknown" (it has no counting rule) or "" (nothing).
    """
    result = merged(origins, blank=name in _BLANK)
    result.varies &= name not in _BLANK
    result.steady &= not overload(func).random
    same = _unchanged(name, args, given, origins)
    if same is not None:
        result.unit, result.summed, result.of_input = same.unit, same.summed, same.of_input
        result.maker, result.sources = same.maker if same.maker == "pool" else "op", same.sources
        return result, ""
    if name == "sign" and len(origins) == 1:  # -1, 0 and 1
        result.unit, result.signs_of = 1.0 if origins[0].spiky else None, origins[0]
        return result, ""
    spiky = [o for o in origins if o.spiky]
    holding = [o for t, o in zip(given, origins, strict=True) if _holds_values(t, out) and not _is_zero(t, o)]
    if not spiky:
        parts = name in ALIAS or name in _PARTS
        result.blank |= parts and bool(origins) and all(o.blank for o in origins)
        values = origins[:1] if name in _BY_NUMBER else origins
        moved = parts or name.startswith(_POOLS)
        result.of_input = moved and any(o.of_input for o in values) and all(o.of_input or o.blank for o in values)
        counts = result.varies or result.unknown
        return result, "unknown" if counts and _multiplies(func, name, given, origins, out) else ""
    if name in _COMPARED and len(given) == 1 and out.dtype == torch.bool:
        result.unit = 1.0  # spikes compared with a number are zeros and ones again
        return result, ""
    if name in _BLANK or name in _NEUTRAL:
        return result, ""
    chosen = [o for t, o in zip(given, origins, strict=True) if t.numel() > 1 and t is not _condition(name, given)]
    if name in ("where", "masked_fill") and any(o.weight and not o.blank for o in chosen):
        return result, "unknown"  # spikes that choose weights add them
    of_one = name.startswith(_AVERAGES) and out.numel() == given[0].numel()  # the mean of one value is the value
    if of_one and name.startswith("avg_pool"):
        of_one = all(size == 1 for size in args[1])
    if name in ALIAS or name in _PARTS or of_one:
        kept = [o for o in holding if not o.blank]
        result.unit, result.summed = common_unit(kept), any(o.summed for o in kept)
    elif name == "mul" and len(given) == 2 and len(spiky) == 2 and all(t.numel() > 1 for t in given):
        result.unit = origins[0].multiple * origins[1].multiple
        result.summed, result.maker, result.sources = any(o.summed for o in origins), "mask", tuple(origins)
        return result, "mask"
    elif name == "sum":
        result.unit, result.summed = spiky[0].unit, True
        return result, "token_sum"
    elif name.startswith(_AVERAGES):
        # Windows that leave several positions pass spikes on, as parts of one; what leaves a single one is a number.
        window = _window(name, args, given[0], out)
        if window is None:
            return result, "unknown"
        if window == 0:
            return result, "average"
        result.unit, result.summed = spiky[0].multiple / window, spiky[0].summed
        result.maker, result.sources = "pool", tuple(spiky)
    elif name.startswith(_POOLS) and all(o.spiky for o in holding):
        result.unit, result.summed = common_unit(spiky), any(o.summed for o in spiky)
        result.maker, result.sources = "pool", tuple(spiky)
    elif name == "mul" and (kept_at := _constant_mask(given, origins)):
        if kept_at == 1 or not spiky[0].summed:
            result.unit, result.summed = spiky[0].multiple * kept_at, spiky[0].summed
        return result, ""
    elif name in ("mul", "div"):
        factor = _constant(args, given, origins)
        if factor and "rounding_mode" not in kwargs:
            if not spiky[0].summed:  # spikes times a constant: the constant folds into the weights behind
                result.unit = spiky[0].multiple * abs(factor if name == "mul" else 1 / factor)
            return result, ""
    elif name in ("add", "sub", "rsub"):
        result.summed = True
        if not float(kwargs.get("alpha", 1)).is_integer():
            pass
        elif len(given) == 1:
            shift = _constant(args, given, origins)
            multiple = shift is not None and (shift / spiky[0].multiple).is_integer()
            result.unit = spiky[0].unit if multiple else None
        else:
            result.unit = common_unit([o for o in origins if not o.blank])
            blank = any(o.blank for o in origins)
            return result, "" if blank and result.spiky else "unknown"
    return result, "" if result.spiky else "unknown"


def _unchanged(name: str, args: Any, given: Sequence[Tensor], origins: Sequence[Origin]) -> Origin | None:
    """What the result of an operation equals but for its sign: x ** 1, and the sign of spikes times their size.

    Both are steps of `torch.nn.functional.lp_pool2d`, by which sinabs sums spikes in windows.
    """
    if name == "pow" and len(given) == 1 and len(args) == 2 and isinstance(args[1], (int, float)) and args[1] == 1:
        return origins[0]
    if name != "mul" or len(given) != 2 or given[0].shape != given[1].shape:
        return None
    for signs, size in (origins, origins[::-1]):
        sized = [size, *size.parents, *(o for parent in size.parents for o in parent.parents)]  # relu(abs(x))
        of = signs.signs_of
        spikes = size.spiky and size.maker == "op"
        if of is not None and spikes and size.unit == of.unit and any(o is of for o in sized):
            return size
    return None


def merged(origins: Sequence[Origin], blank: bool = False) -> Origin:
    """The origin of something computed from these, as far as it does not depend on the operation.

    A tensor that the code makes of nothing but numbers is a constant, as good as a weight; one that is still blank is
    none, since something will be written into it.
    """
    return Origin(
        stateless=all(o.stateless for o in origins),
        steady=all(o.steady for o in origins),
        apart=frozenset().union(*(o.apart for o in origins)),
        weight=all(o.weight for o in origins) and not blank,
        unknown=any(o.unknown for o in origins) and not any(o.varies for o in origins),
        varies=any(o.varies for o in origins),
        blank=blank,
        parents=tuple(origins),
    )


def common_unit(origins: Sequence[Origin]) -> float | None:
    """The unit that all of them share, or None."""
    units = {o.unit for o in origins}
    return units.pop() if len(units) == 1 else None


def overwritten(old: Origin, new: Origin, whole: bool) -> Origin:
    """Origin of a tensor after an operation has written `new` into it, or into a part of it."""
    if whole or old.blank:
        kept = [new]
    else:
        kept = [old] if new.blank else [old, new]
    return Origin(
        unit=common_unit(kept),
        summed=any(o.summed for o in kept),
        weight=all(o.weight for o in kept) and not all(o.blank for o in (old, new)),
        unknown=any(o.unknown for o in kept) and not any(o.varies for o in kept),
        varies=any(o.varies for o in kept),
        stateless=old.stateless and new.stateless,
        steady=all(o.steady for o in kept),
        apart=old.apart | new.apart,
        of_input=all(o.of_input for o in kept),
        blank=all(o.blank for o in (old, new)),
        parents=(old, new),
    )


def distinct_elements(weight: Tensor) -> int:
    """Elements in memory: an expanded axis holds its weights once."""
    count = 1
    for size, stride in zip(weight.shape, weight.stride(), strict=True):
        count *= 1 if stride == 0 else size
    return count


def _window(name: str, args: Any, x: Tensor, out: Tensor) -> int | None:
    """Elements that an average of spikes divides by; 0 where one position is left, None where they are not the same."""
    if name == "mean":
        return 0
    spatial = int(name[name.index("pool") + 4])
    sizes = list(zip(x.shape[-spatial:], out.shape[-spatial:], strict=True))
    single = all(after == 1 for _, after in sizes)
    if "adaptive" in name and single:
        return 0
    if "adaptive" in name:
        if any(before % after and after % before for before, after in sizes):
            return None
        return prod(max(before // after, 1) for before, after in sizes)
    kernel, padding = (list(a) * (spatial // len(a) or 1) for a in (args[1], args[3] if len(args) > 3 else [0]))
    if single:  # a number made of all spikes, or of some of them, which nobody counts apart
        return 0 if [before for before, _ in sizes] == kernel and not any(padding) else None
    ceil = len(args) > 4 and bool(args[4])
    include = args[5] if len(args) > 5 else True
    if ceil or (any(padding) and not include):
        return None
    divisor = args[6] if len(args) > 6 else None
    return int(divisor or prod(kernel))


def _holds_values(tensor: Tensor, out: Tensor) -> bool:
    """Whether an operand's values go into the result; indices and masks of a floating-point result do not."""
    return tensor.is_floating_point() or not out.is_floating_point()


def _is_zero(tensor: Tensor, origin: Origin) -> bool:
    """Whether an operand is the number 0, a multiple of every unit."""
    return tensor.numel() == 1 and origin.weight and not origin.varies and _is_plain(tensor) and not bool(tensor.any())


def _is_plain(tensor: Tensor) -> bool:
    """Whether torch compares the values of a tensor with numbers."""
    stored = tensor.is_meta or tensor.is_quantized or tensor.is_nested or tensor.layout != torch.strided
    return not stored and not tensor.is_complex() and tensor.dtype not in UNORDERED


def _constant(args: Any, given: Sequence[Tensor], origins: Sequence[Origin]) -> float | None:
    """The number among the first two arguments of an arithmetic operation with one tensor that varies, or None."""
    for value in args[:2]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    for tensor, origin in zip(given, origins, strict=True):
        if tensor.numel() == 1 and origin.stateless and not origin.varies:
            return float(tensor)
    return None


def _condition(name: str, given: Sequence[Tensor]) -> Tensor | None:
    """What says where another tensor is taken: its own values go nowhere."""
    place = {"where": 0, "masked_fill": 1}.get(name)
    return None if place is None or len(given) <= place else given[place]


def _constant_mask(given: Sequence[Tensor], origins: Sequence[Origin]) -> float | None:
    """The number beside the zeros of a constant array that spikes are multiplied by, as 1 of a causal mask; or None.

    It takes some of them and leaves out the others. One without zeros is no mask, but a scale for each place.
    """
    if len(given) != 2 or sum(o.spiky for o in origins) != 1:
        return None
    ((mask, _),) = [(t, o) for t, o in zip(given, origins, strict=True) if not o.spiky]
    known = [o for o in origins if not o.spiky and o.weight and not o.varies]
    if not known or not _is_plain(mask) or mask.numel() < 2:
        return None
    largest = mask.max()
    alike = bool(((mask == 0) | (mask == largest)).all()) and bool((mask == 0).any())
    return float(largest) if alike and float(largest) > 0 else None


def _multiplies(
    func: Any, name: str, given: Sequence[Tensor], origins: Sequence[Origin], out: Tensor
) -> bool:  # fmt: skip
    """Whether an operation on real numbers is none of those that are known not to multiply.

    Elementwise arithmetic is free where one number or array is a constant (scales, shifts, activations, membranes
    fold into the layers or the neurons); a product of two arrays that both depend on the input is a product, and one
    that meets every number with several weights is a layer.
    """
    if name in _MULTIPLYING:
        arrays = [(t, o) for t, o in zip(given, origins, strict=True) if t.numel() > 1 and not o.blank]
        data = [t for t, o in arrays if o.varies or o.unknown]
        return len(data) > 1 or (len(arrays) > 1 and any(out.numel() > t.numel() for t in data))
    if name in ALIAS or name in _PARTS or name in _BLANK or name in _NEUTRAL or name in _FREE:
        return False
    if name.startswith(_POOLS):
        return False
    if name.startswith(_SQUARES):
        return True
    if func.namespace not in ("aten", "prims"):
        return True
    return not overload(func).pointwise and not overload(func).reduction and bool(given)

"""Where a tensor comes from, and what an operation makes of that: which values stay spikes, and which name they bear.

Spikes are whole multiples of one number, their unit: 1 for most neurons, 1/4 for levels k/4, the scale where a model
multiplies spikes by a constant. The unit folds into the weights behind, so counts are of value / unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# The same elements, seen or stored another way (expand and repeat: the same elements more often).
ALIAS = {
    "view", "reshape", "_unsafe_view", "_reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "flatten",
    "expand", "repeat", "clone", "contiguous", "_to_copy", "to", "detach", "alias", "lift_fresh", "copy",
}  # fmt: skip
# Some of the elements, or several tensors side by side: values stay what they are.
_PARTS = {
    "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "narrow", "index", "index_select", "cat",
    "stack", "unfold", "im2col", "constant_pad_nd", "roll", "flip", "gather", "pad", "where", "take", "as_strided",
    "diagonal", "masked_select", "masked_fill", "index_put", "_index_put_impl", "index_copy", "scatter", "tril", "triu",
    "select_scatter", "slice_scatter", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "abs", "neg", "relu",
}  # fmt: skip
_POOLS = ("max_pool", "adaptive_max_pool", "amax", "amin", "max", "min", "maximum", "minimum")
_BLANK = {
    "zero", "zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "new_empty_strided",
    "empty_strided",
}  # fmt: skip
# Make a new tensor of a tensor's shape, or read one without computing on it.
_NEUTRAL = {
    "ones_like", "full_like", "new_full", "new_ones", "rand_like", "randn_like", "eq", "ne", "isnan", "isinf",
    "isfinite", "any", "all", "is_nonzero", "equal", "_local_scalar_dense", "fill",
}  # fmt: skip
# Layers in one operation that no rule opens: attention, recurrent layers, transforms.
_HEAVY = (
    "_scaled_dot_product", "_native_multi_head", "_transformer_encoder", "lstm", "gru", "rnn_", "_thnn_fused",
    "mkldnn_", "quantized_", "_fft", "fft_", "cdist", "_cdist", "_trilinear", "bilinear", "conv_tbc", "_int_mm",
    "_scaled_mm", "addbmm", "addr", "_weight_int", "grid_sampler", "linalg_",
)  # fmt: skip
MATMULS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "dot": 0, "mv": 0, "addmv": 1}  # position of the first factor


@dataclass(frozen=True, eq=False)
class View:
    """What tells the axes of a tensor: its shape, and the sums of its rows where images may share the first axis."""

    shape: tuple[int, ...]
    rows: Tensor | None = None


@dataclass(eq=False)
class Origin:
    """Where a tensor comes from; views of a tensor share its origin.

    Attributes:
        name, call: dotted path of the module that handed it out, and in which of its calls; or None.
        made: (module, call, operation, ordinal) of the operation that made it, for products of spikes.
        site: the name of that operation; of a parameter, its name.
        unit: its values are whole multiples of this number, by the operations that led here from spikes; None if not.
        summed: sums have entered it, so its values have no largest one.
        weight: it descends from parameters alone.
        stateless: it descends from the input and constants alone, through no neuron.
        of_input: its values are those of the input.
        varies: it descends from the input; a constant of the forward pass does not.
        blank: nothing but zeros, or not written yet.
        maker: "input", "neuron", "pool", "mask" or "op".
        flags: value flags seen so far (see counting.value_flags), or None.
        view: the tensor when it was made.
        sources: what it was pooled or masked from.
    """

    name: str | None = None
    call: int = 0
    made: tuple[str, int, str, int] | None = None
    site: str | None = None
    unit: float | None = None
    summed: bool = False
    weight: bool = False
    stateless: bool = False
    of_input: bool = False
    varies: bool = False
    blank: bool = False
    maker: str = "op"
    flags: Tensor | None = None
    view: View | None = None
    sources: tuple[Origin, ...] = ()

    @property
    def spiky(self) -> bool:
        """Whether its values are spikes, or whole numbers made of spikes."""
        return self.unit is not None

    @property
    def maker_name(self) -> str | None:
        """What tells tensors of different makers apart, whichever time step they belong to."""
        return self.name or (f"{self.made[0]}.{self.made[2]}" if self.made else self.site)


def derive(
    name: str, args: Any, kwargs: dict[str, Any], given: Sequence[Tensor], origins: Sequence[Origin], out: Tensor
) -> tuple[Origin, str]:
    """Origin of the result of an operation that multiplies no weights, and the event it is.

    Returns:
        The origin, and "mask", "token_sum", "unknown" (it acts on spikes and has no counting rule) or "" (nothing).
    """
    result = Origin(
        stateless=all(o.stateless for o in origins),
        weight=bool(origins) and all(o.weight for o in origins),
        varies=any(o.varies for o in origins) and name not in _BLANK,
        blank=name in _BLANK,
    )
    spiky = [o for o in origins if o.spiky]
    holding = [o for t, o in zip(given, origins, strict=True) if _holds_values(t, out)]
    if not spiky:
        parts = name in ALIAS or name in _PARTS
        result.blank |= parts and bool(origins) and all(o.blank for o in origins)
        result.of_input = parts and any(o.of_input for o in origins) and all(o.of_input or o.blank for o in origins)
        return result, "unknown" if not result.weight and _multiplies(name, given, origins) else ""
    if name in _BLANK or name in _NEUTRAL:
        return result, ""
    if name in ALIAS or name in _PARTS:
        kept = [o for o in holding if not o.blank]
        result.unit, result.summed = common_unit(kept), any(o.summed for o in kept)
    elif name == "mul" and len(given) == 2 and len(spiky) == 2 and all(t.numel() > 1 for t in given):
        result.unit = origins[0].unit * origins[1].unit
        result.summed, result.maker, result.sources = any(o.summed for o in origins), "mask", tuple(origins)
        return result, "mask"
    elif name == "sum":
        result.unit, result.summed = spiky[0].unit, True
        return result, "token_sum"
    elif name.startswith(_POOLS) and all(o.spiky for o in holding):
        result.unit, result.summed = common_unit(spiky), any(o.summed for o in spiky)
        result.maker, result.sources = "pool", tuple(spiky)
    elif name in ("mul", "div"):
        factor = _constant(args, given, origins)
        if factor and "rounding_mode" not in kwargs:
            if not spiky[0].summed:  # spikes times a constant: the constant folds into the weights behind
                result.unit = spiky[0].unit * abs(factor if name == "mul" else 1 / factor)
            return result, ""
    elif name in ("add", "sub", "rsub"):
        result.summed = True
        if not float(kwargs.get("alpha", 1)).is_integer():
            pass
        elif len(given) == 1:
            shift = _constant(args, given, origins)
            multiple = shift is not None and (shift / spiky[0].unit).is_integer()
            result.unit = spiky[0].unit if multiple else None
        else:
            result.unit = common_unit([o for o in origins if not o.blank])
            blank = any(o.blank for o in origins)
            return result, "" if blank and result.spiky else "unknown"
    return result, "" if result.spiky else "unknown"


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
        weight=all(o.weight for o in (old, new)),
        varies=any(o.varies for o in kept),
        stateless=old.stateless and new.stateless,
        of_input=all(o.of_input for o in kept),
        blank=all(o.blank for o in (old, new)),
    )


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def distinct_elements(weight: Tensor) -> int:
    """Elements in memory: an expanded axis holds its weights once."""
    count = 1
    for size, stride in zip(weight.shape, weight.stride(), strict=True):
        count *= 1 if stride == 0 else size
    return count


def _holds_values(tensor: Tensor, out: Tensor) -> bool:
    """Whether an operand's values go into the result; indices and masks of a floating-point result do not."""
    return tensor.is_floating_point() or not out.is_floating_point()


def _constant(args: Any, given: Sequence[Tensor], origins: Sequence[Origin]) -> float | None:
    """The number among the first two arguments of an arithmetic operation with one tensor that varies, or None."""
    for value in args[:2]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    for tensor, origin in zip(given, origins, strict=True):
        if tensor.numel() == 1 and origin.stateless and not origin.varies:
            return float(tensor)
    return None


def _multiplies(name: str, given: Sequence[Tensor], origins: Sequence[Origin]) -> bool:
    """Whether an operation on real tensors hides multiplications by weights that no rule counts."""
    return name.startswith(_HEAVY) and any(not o.weight and t.dim() > 1 for t, o in zip(given, origins, strict=True))

"""What one operation of a traced pass does, by its arguments and results alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikeattn.tracing.call import Call
from spikeattn.tracing.label_joins import pointwise
from spikeattn.tracing.label_rules import rule_of
from spikeattn.tracing.labeller import Labeller
from spikeattn.tracing.labels import IMAGE, TIME, Label
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.overloads import overload


def is_operation(module: nn.Module) -> bool:
    """Whether a module is a layer with weights and nothing else, so that its name names the operation."""
    parts = {name for name, _ in module.named_children()}
    return parts <= {"parametrizations"} and any(True for _ in module.parameters())


def unruled(name: str, out: Tensor) -> str:
    return f"{name} on {out.numel():,} real numbers of the traced batch multiplies them and has no counting rule"


def fields_told_apart(labeller: Labeller, call: Call, label: Label) -> frozenset[str]:
    """The fields along which a constant with values of its own has met data that were the same everywhere."""
    found: set[str] = set()
    if call.name in ("cumsum", "cumprod", "tril", "triu"):  # sums up to a position, and triangles, differ along an axis
        return frozenset(n for n, values in label.fields.items() if n != IMAGE and values.numel() > 1)
    if rule_of(call.func, call.name) is not pointwise or len(call.given) < 2:
        return frozenset()
    constants = [x for x in call.given if not labeller.label(x).fields and x.numel() > 1]
    for name, values in label.fields.items() if constants else ():
        if name != TIME and name not in labeller.alike:
            continue
        for axis, size in enumerate(values.shape):
            for x in constants if size > 1 else ():
                place = axis - values.dim() + x.dim()
                if place >= 0 and x.shape[place] > 1:
                    found.add(name)
    return frozenset(found)


_PICKS = ("select", "slice", "unbind", "split", "chunk", "narrow")


def picks_alike(labeller: Labeller, call: Call, apart: frozenset[str]) -> bool:
    """Whether an operation takes one or some of the places along an axis on which the network repeats the same data, so
    that what it gives does not depend on which.

    Args:
        apart: the fields along which something has told the places apart since.
    """
    if not call.name.startswith(_PICKS) or not call.given:
        return False
    label, axis = labeller.label(call.given[0]), call.axes()[0] if call.argument("dim") is not None else 0
    along = [name for name, v in label.fields.items() if v.dim() > axis and v.shape[axis] > 1]
    alike = [name in labeller.alike and labeller.alike[name] or (name == TIME and labeller.repeats) for name in along]
    return bool(along) and all(alike) and not apart & {*along, *labeller.alike}


def numbers_in(value: Any) -> Any:
    """The arguments of an operation without its tensors."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, (tuple, list)):
        return [numbers_in(item) for item in value]
    if isinstance(value, dict):
        return {name: numbers_in(item) for name, item in value.items()}
    return value


def written_tensors(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that an operation writes into: of `add_`, `copy_`, and `out=`."""
    found: list[Tensor] = []
    for index, argument in overload(func).written:
        found += tensors_in(args[index] if index < len(args) else kwargs.get(argument))
    return found


def keeps_values(before: Tensor, after: Tensor) -> bool:
    """Whether a copy in another type has the same values: real numbers that become integers do not."""
    return after.is_floating_point() or not before.is_floating_point()

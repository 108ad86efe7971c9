"""How each kind of operation hands labels on: which rows of its result belong to which image and time step.

A rule takes a `Call` and one field at a time and returns the label of the result (or one per result). Rules are kept
by the name of the aten operation (namespace::name of others); `torch.Tag.pointwise` and `torch.Tag.reduction` cover
most operations without an entry, and `poke` the rest.
"""

from __future__ import annotations

from typing import Any

import torch

from spikeattn.tracing import label_views, label_windows, label_writes  # noqa: F401  # register their rules
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_joins import pointwise, reduction
from spikeattn.tracing.label_registry import RULES, Rule
from spikeattn.tracing.overloads import overload

# Which rows these give depends on the values that they are given.
PICKED_BY_VALUE = {
    "masked_select", "nonzero", "unique", "_unique2", "unique_dim", "unique_consecutive", "nonzero_static",
}  # fmt: skip
BLANKS = {"zeros_like", "empty_like", "new_zeros", "new_empty", "new_empty_strided"}
# New tensors of a tensor's shape alone.
SHAPE_ALONE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_empty_strided", "zero", "zeros", "ones", "empty", "empty_strided", "full",
    "arange", "eye", "linspace", "scalar_tensor", "uniform", "normal", "exponential", "random", "fill", "rand", "randn",
}  # fmt: skip


def rule_of(func: Any, name: str) -> Rule | None:
    """The rule of an operation, or None."""
    if func.namespace not in ("aten", "prims"):
        return RULES.get(overload(func).site)
    found = RULES.get(name)
    if found is not None:
        return found
    if overload(func).pointwise:
        return pointwise
    if overload(func).reduction:
        return reduction
    return None


def picks_by_value(call: Call) -> bool:
    """Whether the rows of the result are picked by values."""
    if call.name in PICKED_BY_VALUE:
        return True
    if call.name != "index":
        return False
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in call.argument("indices"))

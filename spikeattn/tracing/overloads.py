"""What the schema of an operation says, read once per operation: torch builds it anew whenever it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from spikeattn.compat.torch_tags import is_pointwise, is_reduction


@dataclass(frozen=True, eq=False)
class Overload:
    """The facts of one operation.

    Attributes:
        site: namespace and name, such as "aten::add_".
        name: without the namespace, and without the "_" of operations in place.
        mutable: it writes into some of its arguments.
        written: position and name of these.
        pointwise, reduction, random: how torch tags it.
    """

    site: str
    name: str
    mutable: bool
    written: tuple[tuple[int, str], ...]
    pointwise: bool
    reduction: bool
    random: bool
    _names: tuple[str, ...]
    _defaults: Mapping[str, Any]

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by their names in the schema, with the defaults of those that are left out."""
        return {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}


@cache
def overload(func: Any) -> Overload:
    """The facts of an operation as a dispatch mode is given it."""
    schema = func._schema
    return Overload(
        site=schema.name,
        name=schema.name.split("::")[1].rstrip("_"),
        mutable=schema.is_mutable,
        written=tuple(
            (i, a.name) for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write
        ),
        pointwise=is_pointwise(func),
        reduction=is_reduction(func),
        random=torch.Tag.nondeterministic_seeded in func.tags,
        _names=tuple(a.name for a in schema.arguments),
        _defaults={a.name: a.default_value for a in schema.arguments if a.has_default_value()},
    )

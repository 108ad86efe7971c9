"""The table of label rules, by operation; see `label_rules`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from spikeattn.tracing.call import Call

Result = Tensor | None | list[Tensor | None]


Rule = Callable[[Call], Result]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the label rule of these operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register

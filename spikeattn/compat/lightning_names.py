"""What is to be known of Lightning, an optional dependency: its callbacks, under both names, and its detours."""

from __future__ import annotations

from importlib import import_module
from typing import Any

PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # one class each: a trainer knows the callbacks of its own alone


def callback_base() -> type | None:
    """`Callback` of Lightning, of both packages where both are installed; None where neither is."""
    found = []
    for package in PACKAGES:
        try:
            found.append(import_module(package).Callback)
        except ImportError:
            continue
    return type("Callback", tuple(dict.fromkeys(found)), {}) if found else None


def runs_a_step(module: Any) -> bool:
    """Whether Lightning calls a module to run a step of it, and not its forward.

    To pass DistributedDataParallel, it replaces the forward of the module by the step for the time of a call.
    """
    forward = vars(module).get("forward")
    return "_ForwardRedirection" in getattr(forward, "__qualname__", "")

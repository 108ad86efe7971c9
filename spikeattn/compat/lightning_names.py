"""The base class of Lightning's callbacks, which is an optional dependency, under both names of the package."""

from __future__ import annotations

from importlib import import_module

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

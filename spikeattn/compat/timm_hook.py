"""Registration with timm at the price of timm's import only where timm is imported anyway.

`timm.create_model("sdt_8_512")` must work after `import spikeattn`, whichever of the two is imported first; but
importing timm (and torch with it) takes seconds, which a program that only asks for `--help` should not wait for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module, util
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def register_with_timm() -> None:
    """Register the entry points now if timm is loaded, otherwise as soon as it has been."""
    if "timm" in sys.modules:
        import_module("spikeattn.models")
    elif not any(isinstance(finder, _AfterTimm) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTimm())


class _AfterTimm(MetaPathFinder):
    """Finds timm as Python does, and has its loader import our models at the end."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        try:
            spec = util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                import_module("spikeattn.models")

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]  # of this one import
        return spec

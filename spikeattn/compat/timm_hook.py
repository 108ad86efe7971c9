"""Before and after the import of timm: torchvision beside a torch for the CPU, and the registration of our models.

Registration comes at the price of timm's import only where timm is imported anyway.

`timm.create_model("sdt_8_512")` must work after `import spikeattn`, whichever of the two is imported first; but
importing timm (and torch with it) takes seconds, which a program that only asks for `--help` should not wait for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module, util
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


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
                import_torchvision()
                run(module)
                import_module("spikeattn.models")

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]  # of this one import
        return spec


def import_torchvision() -> None:
    """Import torchvision where its compiled operators do not fit torch: those of the registry are built for CUDA.

    timm needs its transforms, which are Python; but beside a torch for the CPU its import ends at the first operator
    that it registers a shape for, and finds nowhere.
    """
    try:
        import_module("torchvision")
    except ImportError:
        return  # timm says what it lacks
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        (folder,) = util.find_spec("torchvision").submodule_search_locations  # type: ignore[union-attr,misc]  # it is there
        text = Path(folder, "_meta_registrations.py").read_text(encoding="utf-8")
        _KEPT.append(import_module("torch.library").Library("torchvision", "DEF"))
        for operator in sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"\)', text))):
            _KEPT[-1].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import_module("torchvision")


_KEPT: list[Any] = []  # a library of operators goes with its object

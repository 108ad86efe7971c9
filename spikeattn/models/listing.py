"""The models that come with the package, as `spikeattn models` lists them.

The list is a file, since making every model to count its parameters takes seconds, and torch. The tests compare it with
the models; `python scripts/list_models.py` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models import model_entrypoint

from spikeattn.models.ann import twin_names
from spikeattn.models.create import model_names


def rows() -> Iterator[dict[str, Any]]:
    """Every model, made without memory for its weights: name, parameters, T, input, classes and what it is."""
    for name in (*model_names(), *twin_names(), "vit_digits"):
        entry = model_entrypoint(name)
        with torch.device("meta"):
            model = entry()
        channels, height, width = model.default_cfg["input_size"]
        yield {
            "name": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "T": getattr(model, "time_steps", None),
            "input": f"{channels}x{height}x{width}",
            "classes": model.num_classes,
            "about": (entry.__doc__ or "").strip().partition("\n")[0],
        }

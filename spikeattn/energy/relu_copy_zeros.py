"""Gamma of a spiking network's ReLU copy: the zeros that its layers receive, counted on images of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.energy.layer_macs import place_of

if TYPE_CHECKING:
    from torch import Tensor, nn

FIRST = 64  # images: a share over some thousand activations each, in one batch of the run's own size or less


def zeros_in_copy(
    copy: nn.Module, layers: pd.DataFrame, images: Tensor, run: Callable[[nn.Module, Tensor], Any]
) -> tuple[pd.DataFrame | None, str]:
    """The share of zeros at the input of every layer that may receive some, in a copy with ReLUs.

    Args:
        layers: of the twin by hand, with the ledger's names; those without zeros (softmax attention stands in the place
            of what the copy does there) have gamma 0.
        images: a batch; its first `FIRST` are run.
        run: calls the copy on a batch.

    Returns:
        Columns layer and gamma, and where they come from; or None, and why.
    """
    import torch

    from spikeattn.tracing.neurons import evaluating, uncompiled

    modules = dict(copy.named_modules())
    paths = {row["layer"]: place_of(row["layer"], modules) for row in layers[layers["zeros"]].to_dict("records")}
    if blind := next((layer for layer, (path, op) in paths.items() if op or path not in modules), None):
        return None, f"not measured, for {blind} is no module whose input could be looked at"
    zeros, seen, wild = dict.fromkeys(modules, 0), dict.fromkeys(modules, 0), set[str]()

    def tap(path: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], torch.Tensor):
                zeros[path] += int((args[0] == 0).sum())
                seen[path] += args[0].numel()
                if not bool(torch.isfinite(args[0]).all()):
                    wild.add(path)

        return count

    taken = images[:FIRST]
    wanted = sorted({path for path, _ in paths.values()})
    handles = [modules[path].register_forward_pre_hook(tap(path)) for path in wanted]
    try:
        with torch.no_grad(), uncompiled(), evaluating(copy):
            run(copy, taken.clone())
    except Exception as error:  # of the user's forward, on a batch of another size than the twin's
        return None, f"not measured, for the copy fails on {len(taken)} images ({type(error).__name__})"
    finally:
        for handle in handles:
            handle.remove()
    if wild or not all(seen[path] for path in wanted):
        path = next(path for path in wanted if path in wild or not seen[path])
        what = "receives values that are not finite" if path in wild else "has no tensor as its first argument"
        return None, f"not measured, for {path} {what} in the copy"
    share = [zeros[paths[layer][0]] / seen[paths[layer][0]] if layer in paths else 0.0 for layer in layers["layer"]]
    table = pd.DataFrame({"layer": list(layers["layer"]), "gamma": share})
    many = f"{len(taken)} image{'s' if len(taken) != 1 else ''}"
    return table, f"on {many}, in a copy of the network with ReLUs and its weights, which were never trained so"

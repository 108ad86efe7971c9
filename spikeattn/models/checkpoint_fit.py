"""Putting a checkpoint into a model, and saying why where it does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from timm.models import list_models, model_entrypoint
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.checkpoints import Checkpoint
from spikeattn.models.spike_driven import SpikeDrivenTransformer


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into a model, every parameter and buffer of it.

    Raises:
        SpikeattnError: names or shapes differ. The message counts and names the first missing, unexpected and
            mis-shaped entries, the arguments in which the two differ and the entry points whose shapes fit. The model
            is left as it was.
    """
    given, wanted = checkpoint.state_dict, model.state_dict()
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    misshaped = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    if not (missing or unexpected or misshaped):
        _check_types(checkpoint, wanted)
        model.load_state_dict(given, strict=True)
        return
    where = (
        f"checkpoint {checkpoint.path} ({checkpoint.which!r})"
        if checkpoint.which != "all"
        else f"checkpoint {checkpoint.path}"
    )
    heads = "head.weight" in misshaped and all(key.startswith("head.") for key in misshaped)
    if not missing and not unexpected and heads:
        classes, built = given["head.weight"].shape[0], wanted["head.weight"].shape[0]
        if given["head.weight"].shape[1:] == wanted["head.weight"].shape[1:]:
            raise SpikeattnError(
                f"{where} was trained on {classes} classes and the model has {built}; "
                f"create the model with num_classes={classes}"
            )
    shapes = [f"{key} is {_shape(given[key])} in the file and {_shape(wanted[key])} in the model" for key in misshaped]
    facts = [
        _count("missing", missing, missing),
        _count("unexpected", unexpected, unexpected),
        _count("mis-shaped", misshaped, shapes),
        _advice(given, getattr(model, "config", {})) if isinstance(model, SpikeDrivenTransformer) else "",
    ]
    raise SpikeattnError(f"{where} does not fit the model: " + "; ".join(fact for fact in facts if fact))


def unwrapped(checkpoint: Checkpoint, model: nn.Module) -> Checkpoint:
    """A checkpoint without what a training module around the network put before each name ("model.", "net.").

    PyTorch Lightning keeps the network as an attribute of its module. What fits more of the network's names is taken.
    """
    wanted = model.state_dict()
    best = inner = checkpoint.state_dict
    while inner and all("." in key for key in inner) and len({key.partition(".")[0] for key in inner}) == 1:
        inner = {key.partition(".")[2]: tensor for key, tensor in inner.items()}
        if len(inner.keys() & wanted.keys()) > len(best.keys() & wanted.keys()):
            best = inner
    return replace(checkpoint, state_dict=best)


def _check_types(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> None:
    """Numbers where the model has numbers; a counter of batches that was cast along with the weights is a counter."""
    for key, tensor in wanted.items():
        given = checkpoint.state_dict[key]
        if given.is_complex() or (tensor.is_floating_point() and not given.is_floating_point()):
            dtype, needed = (str(x.dtype).removeprefix("torch.") for x in (given, tensor))
            raise SpikeattnError(
                f"checkpoint {checkpoint.path}: {key} is stored as {dtype} where the model needs {needed}; "
                "quantised or otherwise coded weights must be converted back to floating-point numbers first"
            )


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The arguments of `SpikeDrivenTransformer` that the shapes of published weights reveal; None for other weights."""
    try:
        dim = state["patch_embed.proj_conv3.weight"].shape[0]
        return {
            "in_chans": state["patch_embed.proj_conv.weight"].shape[1],
            "embed_dim": dim,
            "depth": len({key.split(".")[1] for key in state if key.startswith("block.")}),
            "num_heads": state["block.0.attn.talking_heads.weight"].shape[0],
            "mlp_ratio": state["block.0.mlp.fc1_conv.weight"].shape[0] / dim,
            "num_classes": state["head.weight"].shape[0],
            "spike_mode": "plif" if "head_lif.w" in state else "lif",
        }
    except (KeyError, IndexError, ZeroDivisionError):
        return None


def fitting_entry_points(state: Mapping[str, Tensor]) -> list[str]:
    """Entry points that take exactly these names and shapes, for the checkpoint's own number of classes."""
    arguments = arguments_of(state)
    if arguments is None:
        return []
    shapes = {key: tensor.shape for key, tensor in state.items()}
    fitting = []
    for name in list_models(module="entry_points", filter="sdt_*"):
        own = {key: arguments[key] for key in ("num_classes", "spike_mode")}
        with torch.device("meta"):
            candidate = model_entrypoint(name)(**own)
        if {key: tensor.shape for key, tensor in candidate.state_dict().items()} == shapes:
            fitting.append(name)
    return fitting


def _advice(given: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    arguments = arguments_of(given)
    if arguments is None:
        return "its names are not those of a published Spike-driven Transformer, so no entry point fits"
    differ = [
        f"{key}={value} (model: {config[key]})" for key, value in arguments.items() if config.get(key, value) != value
    ]
    fitting = fitting_entry_points(given)
    parts = [f"it was made with {', '.join(differ)}"] if differ else []
    parts.append(
        f"entry point whose shapes fit: {' or '.join(fitting)}" if fitting else "no entry point has these shapes"
    )
    return "; ".join(parts)


def _count(kind: str, keys: list[str], described: Iterable[str]) -> str:
    return f"{len(keys)} {kind}, first {next(iter(described))}" if keys else ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"

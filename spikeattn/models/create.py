"""One call from a model's name to a model ready for recording, with its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import list_models, model_entrypoint

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models import entry_points
from spikeattn.models.checkpoint_fit import load_into
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.models.neuron_backend import requested_implementation
from spikeattn.models.spike_driven import SpikeDrivenTransformer


def model_names() -> list[str]:
    """Names that `create_model` takes."""
    return list_models(module=entry_points.__name__.rpartition(".")[2], filter="sdt_*")


def create_model(
    name: str,
    checkpoint: str | Path | None = None,
    weights: str = "auto",
    pretrained: bool = False,
    **kwargs: Any,
) -> SpikeDrivenTransformer:
    """A registered model in eval mode, with random weights unless a checkpoint is given.

    Args:
        name: one of `model_names()`.
        checkpoint: file of trained weights; see `load_checkpoint` for what it may be.
        weights: which weights of the file, "auto", "model" or "ema".
        pretrained: take the weights that come with the package.
        **kwargs: arguments of `SpikeDrivenTransformer` that replace the published ones, such as `time_steps=1`.

    Returns:
        The model, with a dictionary `provenance` of name, config (all arguments), trained, checkpoint (file name),
        sha256, weights (the entry taken), notes and card of the checkpoint, and the neuron implementation asked for.

    Raises:
        SpikeattnError: unknown name or argument, or a checkpoint that cannot be read or does not fit.
    """
    if not isinstance(name, str):
        raise SpikeattnError(f"name is {shown(name)}; give the name of a model as text: {', '.join(model_names())}")
    if name not in model_names():
        raise unknown("model", name, model_names())
    if pretrained and checkpoint is not None:
        raise SpikeattnError("give either a checkpoint of your own or pretrained for the shipped weights, not both")
    model = model_entrypoint(name)(**kwargs).eval()
    model.provenance = {
        "name": name,
        "config": dict(model.config),
        "trained": False,
        "checkpoint": None,
        "sha256": None,
        "weights": None,
        "notes": [],
        "card": {},
        "neurons": requested_implementation(),
    }
    path = shipped_weights(name) if pretrained else checkpoint
    if path is not None:
        read = load_checkpoint(path, weights)
        load_into(model, read)
        model.provenance |= {
            "trained": True,
            "checkpoint": read.path.name,
            "sha256": read.sha256,
            "weights": read.which,
            "notes": list(read.notes),
            "card": read.metadata,
        }
    return model

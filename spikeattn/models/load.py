"""One call from whatever names a network to the network: this package's, timm's, or the user's own by its address."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from spikeattn.boundary.arguments import shown
from spikeattn.boundary.own_networks import ADDRESSES
from spikeattn.errors import FAILURES, SpikeattnError, unknown
from spikeattn.models.ann import twin_names
from spikeattn.models.checkpoint_fit import load_into, unwrapped
from spikeattn.models.checkpoints import load_checkpoint
from spikeattn.models.configs import note
from spikeattn.models.create import create_model, model_names


def load_model(
    name: str, *, pretrained: bool = False, checkpoint: str | Path | None = None, **arguments: Any
) -> nn.Module:
    """A network in eval mode, with random weights unless a checkpoint is given.

    An address loads code of the user's own: the file is run, with its folder importable while it loads and its factory
    runs. Files of published repositories load as they are, also those written for older SpikingJelly and timm.

    Args:
        name: of a model of this package ("sdt_8_512", "ann_8_512", "vit_digits") or of timm; or FILE.py:NAME or
            package.module:NAME, where NAME is a class or a function that returns the network; or FILE.nir, a graph of
            NIR (the extra [nir]), with `dt`, its time step, where the file leaves it open.
        pretrained: weights that come with the package, or timm's own; a factory of one's own gets it if it has an
            argument of that name.
        checkpoint: file of trained weights; see `load_checkpoint` for what it may be. It must fit as a whole.
        **arguments: of the model or of the factory.

    Returns:
        The network, with a dictionary `provenance`: name, config, whether it is trained (None: not known), where its
        weights come from, and for code of one's own "code": file, factory, arguments, git commit, sha256 of every file
        that was run, and what was replaced.

    Raises:
        SpikeattnError: an unknown name or argument, a file or factory that fails, weights that do not fit.
    """
    return load(name, arguments, pretrained, checkpoint)


def load(
    name: str,
    arguments: Mapping[str, Any],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    weights: str = "auto",
) -> nn.Module:
    """`load_model` with its arguments as one mapping, and which weights of the file are meant; for the commands."""
    from spikeattn.models.address import is_address, is_nir
    from spikeattn.models.own_code import build_own

    if not isinstance(name, str):
        raise SpikeattnError(f"name is {shown(name)}; give the name of a model as text, or {ADDRESSES}")
    if name in model_names():
        return create_model(name, checkpoint=checkpoint, weights=weights, pretrained=pretrained, **arguments)
    if pretrained and checkpoint is not None:
        raise SpikeattnError("give either a checkpoint of your own or pretrained weights, not both")
    if is_nir(name):
        if pretrained or checkpoint is not None:
            raise SpikeattnError(f"{name}: a NIR file holds its weights; leave out the checkpoint and pretrained")
        from spikeattn.models.nir_network import load_nir

        return load_nir(name, arguments)
    if is_address(name):
        model = build_own(name, arguments, pretrained)
    elif timm.is_model(name):
        model = _of_timm(name, pretrained, dict(arguments))
    else:
        raise unknown_model(name)
    if checkpoint is not None:
        read = load_checkpoint(checkpoint, weights)
        load_into(model, unwrapped(read, model))
        entries = {"trained": True, "checkpoint": read.path.name, "sha256": read.sha256, "weights": read.which}
        provenance: Any = model.provenance
        provenance |= entries | {"notes": list(read.notes), "card": read.metadata}
    return model


def unknown_model(name: str) -> SpikeattnError:
    """The error for a name that is no model's, with the closest ones."""
    close = difflib.get_close_matches(name, timm.list_models(), n=4)
    known = {*model_names(), *twin_names(), *close, "vit_digits"}
    error = unknown("model", name, known)
    return SpikeattnError(f"{error}, every name of timm's, and {ADDRESSES}")


def _of_timm(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    try:
        model = timm.create_model(name, pretrained=pretrained, **arguments).eval()
    except SpikeattnError:
        raise
    except Exception as error:  # the hub's client raises many types where there is no network or no such file
        if isinstance(error, FAILURES) and not pretrained:
            raise SpikeattnError(f"{name} cannot be built with {arguments or 'its defaults'}: {error}") from error
        if not pretrained:
            raise
        reason = " ".join(str(error).split())[:200]
        raise SpikeattnError(
            f"{name}: timm could not get its weights ({type(error).__name__}: {reason}); give them as --checkpoint "
            "FILE, or leave out --pretrained for random weights"
        ) from error
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if size is not None and not hasattr(model, "img_size"):
        patches: Any = model.patch_embed
        note(model, img_size=tuple(size), in_chans=patches.proj.in_channels)
    source = "timm's own" if pretrained else None
    own = {"name": name, "config": arguments, "trained": pretrained, "checkpoint": source}
    provenance: dict[str, Any] = getattr(model, "provenance", own)
    provenance.setdefault("notes", [])
    note(model, provenance=provenance)
    return model

"""The ANN beside a spiking network, one of the user's or the twin: run once, its multiply-accumulates counted."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.compat.torch_modes import flop_counter, math_attention, without_memory
from spikeattn.energy.dense_twin import COLUMNS, DenseTwin, dense_twin, frame_of_layers, twin_additions
from spikeattn.energy.relu_operands import behind_relu
from spikeattn.errors import SpikeattnError, failing, unknown
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.entry import OTHER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikeattn.models.ann import AnnTransformer


def twin_for(ledger: Ledger, ann: nn.Module | str | DenseTwin | None = None) -> DenseTwin:
    """The ANN to compare a profiled network with.

    Args:
        ann: a network, or the name of one that timm can build ("ann_8_512", "vit_small_patch16_224"); it is run once on
            the input size of the ledger. A `DenseTwin` is one already. None: the ANN twin of one of this package's
            models; `dense_twin` for any other.

    Raises:
        SpikeattnError: an unknown name, a spiking network, or one that does not take the ledger's input.
    """
    if isinstance(ann, DenseTwin):
        return ann
    import torch

    from spikeattn.energy.shapes_of_ann import sizes_of_ann
    from spikeattn.models.ann import AnnTransformer, twin_config
    from spikeattn.tracing.modes import in_eval
    from spikeattn.tracing.neurons import is_spiking_neuron

    image = _image_shape(ledger)
    additions: tuple[tuple[str, int | None, int], ...] = ()
    if ann is None:
        home, _, kind = str(ledger.model.get("class", "")).rpartition(".")
        if kind != "SpikeDrivenTransformer" or not home.startswith("spikeattn."):  # a user's class may bear the name
            twin = dense_twin(ledger)
            return replace(twin, note=f"no ANN was given; by hand: {twin.note}")
        try:
            with torch.device("meta"):
                ann = AnnTransformer(**twin_config(ledger.model.get("config", {})))
        except (TypeError, ValueError, RuntimeError) as error:  # an argument that is none, or has no such size
            raise SpikeattnError(
                f"model.json: model.config builds no ANN twin ({' '.join(str(error).split())}); restore it, or give ann"
            ) from error
        name = str(ledger.model.get("name", "")).replace("sdt_", "ann_", 1)
        name = name if name.startswith("ann_") else "the ANN twin"
        note = f"{name} is the twin of the model: the same layers with ReLU and softmax attention, run and counted"
    elif isinstance(ann, str):
        name, ann = ann, _built(ann, image)
        note = f"{name} was run once and counted"
    else:
        if not isinstance(ann, torch.nn.Module):
            raise SpikeattnError(f"ann is a {type(ann).__name__}; give a network, its name, or a profile")
        known = getattr(ann, "provenance", None) or {}
        named = known.get("name") if "code" in known else (getattr(ann, "default_cfg", None) or {}).get("architecture")
        name = named or type(ann).__name__
        note = f"{name} was run once and counted"
    if spiking := [path for path, module in ann.named_modules() if is_spiking_neuron(module)]:
        raise SpikeattnError(
            f"{name} has {len(spiking)} spiking neurons, the first is {spiking[0]!r}: its operations depend on the "
            "images. Profile it on the same images and compare the two profiles"
        )
    with in_eval(ann):
        device = next((p.device for p in (*ann.parameters(), *ann.buffers())), torch.device("cpu"))
        one = torch.zeros(1, *image, device=device)
        layers, relu = ann_macs(ann, one), behind_relu(ann, one)
        sizes = sizes_of_ann(ann, one, _parts_of(ann))
    if isinstance(ann, AnnTransformer) and _is_twin(ann, ledger):
        additions = twin_additions(ledger)
    first = [i == 0 for i in range(len(layers))]
    able = [reads or layer in relu for reads, layer in zip(first, layers["layer"], strict=True)]
    return DenseTwin(name, layers.assign(reads_image=first, zeros=able), note, sizes=sizes, additions=additions)


def _is_twin(ann: AnnTransformer, ledger: Ledger) -> bool:
    """Whether one of this package's ANNs has the residual sums of a profiled network: blocks and stem alike.

    It runs on the input of the ledger, whatever size it was made for.
    """
    from spikeattn.models.ann import twin_config

    try:
        wanted = twin_config(ledger.model.get("config", {}))
    except (TypeError, ValueError, KeyError):
        return False
    sizes = {key: value for key, value in wanted.items() if key != "img_size"}
    return bool(sizes) and all(ann.config.get(key) == value for key, value in sizes.items())


def ann_macs(model: nn.Module, input: Tensor) -> pd.DataFrame:
    """Dense multiply-accumulates of one forward pass, per image and module that does any, in the order they run.

    Measured by torch's FlopCounterMode with the math kernel of scaled-dot-product attention, since it counts nothing
    in the fused kernel of a CPU.

    Args:
        input: a batch [B, ...].

    Returns:
        Columns part, block (the model's own, if it has `layer_parts()`; "other" and NA elsewhere), layer (dotted module
        path; "" for the model itself) and macs.
    """
    import torch

    counter = flop_counter(model)
    try:
        with torch.no_grad(), math_attention(), counter:
            model(input)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise SpikeattnError(
            f"{type(model).__name__} does not run on an input {tuple(input.shape)}: {error}"
        ) from error
    root = type(model).__name__
    flops = {
        path.removeprefix(root).removeprefix("."): sum(ops.values())
        for path, ops in counter.get_flop_counts().items()
        if path != "Global"
    }
    own = dict(flops)
    for path in flops:
        if path:
            own[_parent(path, flops)] -= flops[path]
    parts = _parts_of(model)
    rows = [
        (*parts.get(path, (OTHER, None)), path, count // 2 // len(input)) for path, count in own.items() if count > 0
    ]
    return frame_of_layers(rows, COLUMNS)


def _parts_of(model: nn.Module) -> dict[str, tuple[str, int | None]]:
    """(part, block) of the layers of a model that names them itself, by dotted path."""
    own_parts: Any = getattr(model, "layer_parts", None)
    return {} if own_parts is None else own_parts()


def measure_gamma(ann: nn.Module, loader: Iterable[Any]) -> pd.DataFrame:
    """Share of zero activations at the input of every layer of an ANN: what hardware that skips zeros would save.

    Meaningful on trained weights only. A quantiser sends further small values to zero, so for a quantised copy of the
    network the share is a lower bound. Products of softmax attention have no zeros worth skipping: 0.

    Args:
        loader: batches, as for `sa.profile`, images first; the network runs in eval mode on the device it is on.

    Returns:
        Columns part, block, layer, macs and gamma; `attrs` holds "gamma", the mean weighted by macs over all layers but
        the one that reads the image, and "n_images".

    Raises:
        SpikeattnError: no image; batches that are neither (images, labels) nor images nor a dict of them, or are
            [T, B, ...].
    """
    import torch
    from torch import nn

    from spikeattn.data.loaders import images_first
    from spikeattn.tracing.modes import in_eval
    from spikeattn.tracing.network import check_module

    check_module(ann)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    device = next((p.device for p in ann.parameters()), torch.device("cpu"))
    zeros: dict[str, int] = {}
    seen: dict[str, int] = {}
    handles, first, n_images = [], None, 0

    def tap(path: str) -> Any:
        def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            zeros[path] = zeros.get(path, 0) + int((args[0] == 0).sum())
            seen[path] = seen.get(path, 0) + args[0].numel()

        return count

    with in_eval(ann), torch.no_grad():
        try:
            for path, module in ann.named_modules():
                if isinstance(module, kinds):
                    handles.append(module.register_forward_pre_hook(tap(path)))
            for batch in images_first(loader):
                if len(batch.images):
                    images = batch.images.to(device)
                    first = images[:1] if first is None else first
                    with failing(f"{type(ann).__name__} fails on a batch of shape {tuple(images.shape)}"):
                        ann(images)
                    n_images += len(images)
        finally:
            for handle in handles:
                handle.remove()
        if first is None:
            raise SpikeattnError("the loader gave no image to measure gamma on")
        layers = ann_macs(ann, first)
    layers["gamma"] = [zeros[layer] / seen[layer] if seen.get(layer) else 0.0 for layer in layers["layer"]]
    inner = layers.iloc[1:]
    layers.attrs = {
        "gamma": float((inner["gamma"] * inner["macs"]).sum() / inner["macs"].sum()) if inner["macs"].sum() else 0.0,
        "n_images": n_images,
    }
    return layers


def _built(name: str, image: tuple[int, ...]) -> nn.Module:
    """A network by its name in timm, without memory for its weights."""
    import timm

    from spikeattn.models import model_names, twin_names

    if name in model_names():
        raise SpikeattnError(f"{name} is a spiking network: profile it on the same images and compare the two profiles")
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise unknown("ANN", name, {*twin_names(), *close})
    size: dict[str, Any] = {"in_chans": image[0], "img_size": image[1:]} if name in twin_names() else {}
    with without_memory():
        return timm.create_model(name, **size)


def _image_shape(ledger: Ledger) -> tuple[int, ...]:
    shape = next((tensor.shape for tensor in ledger.tensors if tensor.maker == "input"), None)
    if shape is None:
        raise SpikeattnError("the ledger lists no input tensor, so an ANN cannot be run on it; leave ann out")
    return shape


def _parent(path: str, known: Container[str]) -> str:
    """The nearest module around `path` that ran itself; containers such as a ModuleList do not."""
    while path:
        path = path.rpartition(".")[0]
        if path in known:
            break
    return path

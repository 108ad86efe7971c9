"""The network beside a spiking one that multiplies: its dense multiply-accumulates, layer by layer.

Counted are convolutions, linear layers and matrix products; batch norm, activations, pooling, softmax and scaling (some
3 N^2 per head) are not, on either side of a comparison.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.errors import SpikeattnError, failing, unknown
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Product, Synapse
from spikeattn.structure.entry import OTHER, Extent
from spikeattn.structure.network_structure import Structure

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION = "attention"  # the part that is masks of spikes in a spiking network and softmax attention in its twin
COLUMNS = ["part", "block", "layer", "macs"]


@dataclass(frozen=True, eq=False)
class DenseTwin:
    """Multiply-accumulates of one image through a network with real activations, without time.

    Attributes:
        name: of the network.
        layers: columns part, block, layer, macs (per image) and reads_image (True for a layer fed by the input).
        note: where the numbers come from, in a sentence.
    """

    name: str
    layers: pd.DataFrame
    note: str

    @property
    def macs(self) -> int:
        """All multiply-accumulates per image."""
        return int(self.layers["macs"].sum())


def shared_part(part: str | None) -> str:
    """The name of a part in a comparison: "other" where nobody knows it."""
    return part or OTHER


@dataclass(frozen=True)
class TwinParts:
    """What a twin is made of; `DenseTwin.layers` lists it in this order.

    Attributes:
        synapses: every layer with weights, once.
        attention: extents of the spiking attentions of every block, in whose place softmax attention stands.
        products: matrix products that belong to none of these, taken over as they are.
        sums: sums of q and k in runs of versions that inferred no structure; each stands for an attention.
    """

    synapses: tuple[Synapse, ...]
    attention: Mapping[int, tuple[Extent, ...]]
    products: tuple[Product, ...]
    sums: tuple[Product, ...]


def twin_parts(ledger: Ledger) -> TwinParts:
    """What of a spiking network its twin takes over, and what it replaces."""
    structure = Structure.of_ledger(ledger)
    inside = {product.block for product in ledger.products if product.part == ATTENTION}
    inside |= {tensor.block for tensor in ledger.tensors if tensor.part == ATTENTION}
    extents = {block: several for block, several in structure.attention.items() if block in inside}
    rest = [p for p in ledger.products if p.part != ATTENTION or p.block not in extents]
    products = tuple(p for p in rest if p.op == "matmul")
    sums = tuple(p for p in rest if p.op == "token_sum" and p.part == ATTENTION)
    return TwinParts(ledger.synapses, extents, products, sums)


def dense_twin(ledger: Ledger) -> DenseTwin:
    """The ordinary network beside a spiking one: the same layers once, and softmax attention in place of spiking ones.

    An attention of N tokens with D channels becomes Q K^T and A V, 2 N^2 D multiply-accumulates (Yao et al., NeurIPS
    2023, table 1), whatever stands there: masks, q (k^T v), sums of q. In windows N is the tokens of one; queries, keys
    and the channels of v count apart where they differ (`structure.Extent`). Matrix products that belong to no
    attention are taken over as they are.
    """
    parts = twin_parts(ledger)
    rows = [(s.part, s.block, s.name, s.dense_macs, ledger.tensor(s.input).maker == "input") for s in parts.synapses]
    for block, several in parts.attention.items():
        own = (p.name for p in ledger.products if (p.part, p.block) == (ATTENTION, block))
        rows.append((ATTENTION, block, next(own, f"attention of block {block}"), sum(e.macs for e in several), False))
    rows += [(p.part, p.block, p.name, p.elements, False) for p in parts.products]
    for product in parts.sums:
        tensor = ledger.tensor(product.operands[0])
        tokens = product.summed_over or tensor.elements // tensor.shape[0]
        rows.append((product.part, product.block, product.name, 2 * tokens * tensor.elements, False))
    note = "the same layers once, as multiply-accumulates"
    if attentions := sum(map(len, parts.attention.values())) + len(parts.sums):
        note += f", and softmax attention ({_formula(parts.attention)}) in place of the {attentions} spiking ones"
    if parts.products:
        note += f", and the same {len(parts.products)} matrix products"
    name = ledger.model.get("name", "the model")
    return DenseTwin(f"{name} as an ANN", _layers(rows), note)


def _formula(extents: Mapping[int, Sequence[Extent]]) -> str:
    windows = any(e.windows > 1 for several in extents.values() for e in several)
    return "2 N^2 D in each window of N tokens" if windows else "2 N^2 D"


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

    from spikeattn.models.ann import AnnTransformer, twin_config
    from spikeattn.tracing.modes import in_eval
    from spikeattn.tracing.neurons import is_spiking_neuron

    image = _image_shape(ledger)
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
        layers = ann_macs(ann, torch.zeros(1, *image, device=device))
    return DenseTwin(name, layers.assign(reads_image=[i == 0 for i in range(len(layers))]), note)


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
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
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
    own_parts: Any = getattr(model, "layer_parts", None)
    parts = {} if own_parts is None else own_parts()
    rows = [
        (*parts.get(path, (OTHER, None)), path, count // 2 // len(input)) for path, count in own.items() if count > 0
    ]
    return _frame(rows, COLUMNS)


def measure_gamma(ann: nn.Module, loader: Iterable[Any]) -> pd.DataFrame:
    """Share of zero activations at the input of every layer of an ANN: what hardware that skips zeros would save.

    Meaningful on trained weights only. A quantiser sends further small values to zero, so for a quantised copy of the
    network the share is a lower bound. Products of softmax attention have no zeros worth skipping: 0.

    Args:
        loader: batches, as for `sa.profile`; the network runs in eval mode on the device it is on.

    Returns:
        Columns part, block, layer, macs and gamma; `attrs` holds "gamma", the mean weighted by macs over all layers but
        the one that reads the image, and "n_images".

    Raises:
        SpikeattnError: no image, or batches that are neither (images, labels) nor images.
    """
    import torch
    from torch import nn

    from spikeattn.data.loaders import batches_of
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
            for batch, _ in batches_of(loader):
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
    import torch

    from spikeattn.models import model_names, twin_names

    if name in model_names():
        raise SpikeattnError(f"{name} is a spiking network: profile it on the same images and compare the two profiles")
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise unknown("ANN", name, {*twin_names(), *close})
    size: dict[str, Any] = {"in_chans": image[0], "img_size": image[1:]} if name in twin_names() else {}
    with torch.device("meta"):
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


def _layers(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    rows = [(shared_part(part), *rest) for part, *rest in rows]
    return _frame(rows, [*COLUMNS, "reads_image"])


def _frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64", "macs": "int64"})

"""Attention maps of spiking and of ordinary transformers: one score per token, per layer, head and time step.

A Spike-driven Transformer has no N x N map (Yao et al., Spike-driven Transformer, NeurIPS 2023, figure 3, shows rates
of V_S and Vhat_S); a Spikformer and a ViT do. Rollout: Abnar, Zuidema, Quantifying attention flow, ACL 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeattn.attention.capture import capture, check_images, ready
from spikeattn.attention.families import (
    OTHERWISE,
    Family,
    Tap,
    family_of,
    softmax_part,
    spike_counts,
    taps_of,
    whole_maps,
)
from spikeattn.errors import SpikeattnError, unknown


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Scores of the tokens of a batch.

    Attributes:
        values: [image, (layer), (step), (head), row, column], float32, not negative.
        axes: names of the axes of `values`.
        kind: of map.
        layer: number of the block, or "all".
        image_size: height and width in pixels.
        unit: value of one spike where scores are rates of spikes, else None; `assess` takes it.
    """

    values: Tensor
    axes: tuple[str, ...]
    kind: str
    layer: int | str
    image_size: tuple[int, int]
    unit: float | None

    def to_image(self, size: tuple[int, int] | None = None, mode: str = "nearest") -> Tensor:
        """The maps at the size of the image, or at `size`, as "nearest" or "bilinear" spreads them."""
        if mode not in ("nearest", "bilinear"):
            raise unknown("interpolation", mode, ("nearest", "bilinear"))
        flat = self.values.flatten(0, -3)[:, None]
        corners = {} if mode == "nearest" else {"align_corners": False}
        return F.interpolate(flat, size or self.image_size, mode=mode, **corners).reshape(
            *self.values.shape[:-2], *(size or self.image_size)
        )


def attention_map(
    model: nn.Module,
    images: Tensor,
    kind: str | None = None,
    *,
    layer: int | str = -1,
    heads: str = "mean",
    steps: str = "mean",
    weight: str = "none",
    target: Tensor | None = None,
) -> AttentionMap:
    """The attention map of every image.

    Spike-driven Transformer (rates over channels and time steps, at most 1):

    - "Vhat_S" (default): spikes that leave the attention, q * g. "V_S": the spikes q that enter it.
    - "gate": the share of a token's V_S spikes that the gate lets through; 0 for a silent token.
    - "drive": spikes of k * v, the token's votes for opening the gate; after Erode with `dvs`.

    Spikformer: "ssa", the mean over queries j and channels of q_j k_i for key token i; "rate", spikes that leave it.

    Softmax attention (timm's ViTs, SVDA, the ANN twin): "cls", the class token's row (default where there is one);
    "received", the mean over the queries of image tokens; "rollout", the product over layers up to `layer` of
    (A + 1) / 2, the class token's row or the mean over queries. Class and register tokens are no part of the map.

    Args:
        model: one of these; eval mode and reset neurons are seen to, and its modes restored.
        images: [B, C, H, W], or frames [B, T, C, H, W].
        kind: see above.
        layer: block to look at, from 0 or from the end; "all" adds an axis.
        heads: "mean", or "each" for an axis of heads.
        steps: "mean", or "each" for an axis of time steps, for spiking models.
        weight: "gradient" multiplies scores by the gradient of the predicted class's logit with respect to them, before
            summing over channels, and keeps the positive part; of "ssa" the keys' spikes. Not for "gate", "rollout".
        target: classes [B] instead of the predicted ones, for the gradient.

    Returns:
        AttentionMap: [B, h, w] on the grid of the tokens, with axes for layers, time steps and heads where asked for.

    Raises:
        SpikeattnError: a model without a known attention, unknown names, images that do not fit, NaN in the map.
    """
    images = check_images(model, images)
    family = family_of(model)
    kind = family.kinds[0] if kind is None else kind
    layers = _check(family, kind, layer, heads, steps, weight, model)
    credited = weight == "gradient" and not family.time
    if credited:
        per_layer = [(whole_maps(family.attentions[index]),) for index in layers]
    else:
        per_layer = [taps_of(family, kind, index, last=len(layers) == 1) for index in layers]
    taps = tuple(tap for group in per_layer for tap in group)
    shown = {tap.module for tap in taps}
    hooked = tuple(a for a in family.attentions if getattr(a, "attn_drop", None) in shown)
    if weight == "gradient":
        seen, grid = _weighted(model, images, taps, hooked, target)
        seen = [softmax_part(kind, family.prefix, maps) for maps in seen] if credited else seen
    else:
        with ready(model, hooked), torch.inference_mode():
            seen, grid, _ = capture(model, images, taps)
    prefix = family.prefix
    maps, unit = [], None
    if kind == "rollout":
        maps = _rollout(seen, prefix, grid, "cls" in family.kinds)
        maps = maps if layer == "all" else maps[-1:]
    else:
        width = len(per_layer[0])
        for start in range(0, len(seen), width):
            group = tuple(seen[start : start + width])
            if family.time:
                values, unit = _spiking(kind, group, family.heads, grid, heads, steps, weight)
            else:
                values = _row(group[0], prefix, grid)
                values = values.sum(1) if weight == "gradient" and heads == "mean" else values
                values = values.mean(1) if weight == "none" and heads == "mean" else values
            maps.append(values)
    values = torch.stack(maps, 1) if layer == "all" else maps[0]
    values = values.float().clamp(min=0) if weight == "gradient" else values.float()
    if not torch.isfinite(values).all():
        raise SpikeattnError(f"the {kind} map holds NaN or infinite scores: the model's activations overflow")
    names = [("layer", layer == "all"), ("step", steps == "each"), ("head", heads == "each")]
    axes = ("image", *(name for name, there in names if there), "row", "column")
    number = layer if layer == "all" else layers[-1]
    values = values.clone() if values.is_inference() else values
    return AttentionMap(values, axes, kind, number, tuple(images.shape[-2:]), unit)


def _check(family: Family, kind: str, layer: Any, heads: str, steps: str, weight: str, model: nn.Module) -> list[int]:
    """The numbers of the layers wanted; errors for arguments that do not fit the model."""
    if kind not in family.kinds:
        raise unknown(f"attention map of {type(model).__name__}", kind, family.kinds)
    for name, value, valid in (
        ("heads", heads, ("mean", "each")),
        ("steps", steps, ("mean", "each")),
        ("weight", weight, ("none", "gradient")),
    ):
        if value not in valid:
            raise unknown(name, value, valid)
    if steps == "each" and not family.time:
        raise SpikeattnError(f'steps="each": {type(model).__name__} has no time steps; leave it at "mean"')
    if kind == "rollout" and heads == "each":
        raise SpikeattnError('heads="each": rollout multiplies the mean over heads; leave it at "mean"')
    if weight == "gradient" and (kind in ("gate", "rollout") or hasattr(family.attentions[0], "products")):
        raise SpikeattnError(f'weight="gradient" is not defined for the {kind} map of {type(model).__name__}')
    if weight == "gradient" and hasattr(family.attentions[0], "spectrum"):
        raise SpikeattnError('weight="gradient" is not defined for SVDA layers, whose kernel shows no map')
    depth = len(family.attentions)
    if layer == "all":
        return list(range(depth))
    if isinstance(layer, bool) or not isinstance(layer, int) or not -depth <= layer < depth:
        raise SpikeattnError(f'layer={layer!r}: the model has blocks 0 to {depth - 1}; -1 is the last, "all" is all')
    return list(range(layer % depth + 1)) if kind == "rollout" else [layer % depth]


def _weighted(
    model: nn.Module, images: Tensor, taps: tuple[Tap, ...], hooked: tuple[nn.Module, ...], target: Tensor | None
) -> tuple[list[Tensor], tuple[int, int]]:
    """The tensors at the taps times the gradient of a class's logit."""
    with ready(model, hooked), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        seen, grid, output = capture(model, inputs, taps, whole=True)
        logits = output.mean(0) if output.dim() == 3 else output
        classes = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device)
        if classes.shape != (len(images),) or classes.min() < 0 or classes.max() >= logits.shape[1]:
            raise SpikeattnError(
                f"target has shape {list(classes.shape)}; give one class from 0 to {logits.shape[1] - 1} for each of "
                f"the {len(images)} images"
            )
        gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), seen, allow_unused=True)
    pairs = zip(seen, gradients, strict=True)
    return [torch.zeros_like(x) if g is None else (x * g).detach() for x, g in pairs], grid


def _spiking(
    kind: str, tensors: tuple[Tensor, ...], heads: int, grid: tuple[int, int], per_head: str, steps: str, weight: str
) -> tuple[Tensor, float | None]:
    """Rates [B, (T), (heads), h, w] and the value of one spike."""
    axes = [axis for axis, each in ((1, steps), (2, per_head)) if each == "mean"]

    def total(x: Tensor) -> Tensor:
        return x.sum(axes) if axes else x

    if weight == "gradient":
        x = tensors[-1]
        if kind == "ssa":  # credit of the keys: their part of the stacked q, k, v
            x = x.unflatten(2, (3, heads, -1))[:, :, 1]
        elif kind != "rate":
            x = x.unflatten(2, (heads, -1))
        credit = x.sum(3).transpose(0, 1)
        return total(credit.reshape(*credit.shape[:3], *grid)), None
    counts, possible = spike_counts(kind, tensors, heads, grid)
    if kind == "gate":
        entered = spike_counts("V_S", tensors[:1], heads, grid)[0]
        return total(counts) / total(entered).clamp(min=1), None
    for axis in axes:
        possible *= counts.shape[axis]
    return total(counts) / possible, 1 / possible


def _row(rows: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """[B, heads, h, w] of rows [B, heads, prefix + N]."""
    row = rows[:, :, prefix:]
    if row.shape[-1] != grid[0] * grid[1]:
        raise SpikeattnError(
            f"the attention is over {prefix + row.shape[-1]} tokens, {prefix} of them before those of the image, which "
            f"do not fill the grid of {grid[0]}x{grid[1]}; {OTHERWISE}"
        )
    return row.reshape(*row.shape[:2], *grid)


def _rollout(layers: list[Tensor], prefix: int, grid: tuple[int, int], class_token: bool) -> list[Tensor]:
    """[B, h, w] after each layer."""
    flow, rolled = None, []
    for maps in layers:  # the mean over heads, [B, N, N]
        mixed = (maps + torch.eye(maps.shape[-1], device=maps.device)) / 2
        flow = mixed if flow is None else mixed @ flow
        row = flow[:, 0, prefix:] if class_token else flow[:, prefix:, prefix:].mean(1)
        rolled.append(row.reshape(-1, *grid))
    return rolled

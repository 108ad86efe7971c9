"""Maps of the models whose attention is known beforehand (see `map_sources`): rates of spikes, rows, rollout.

A Spike-driven Transformer has no N x N map (Yao et al., Spike-driven Transformer, NeurIPS 2023, figure 3, shows rates
of V_S and Vhat_S); a Spikformer and a ViT do. Rollout: Abnar, Zuidema, Quantifying attention flow, ACL 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeattn.attention.capture import capture, ready
from spikeattn.attention.map_request import MapRequest, Scores
from spikeattn.attention.map_sources import OTHERWISE, Family, Tap, softmax_part, spike_counts, taps_of, whole_maps
from spikeattn.errors import SpikeattnError


def family_scores(family: Family, model: nn.Module, images: Tensor, request: MapRequest) -> Scores:
    """The map of a model whose attention is known beforehand; by default the family's first.

    Raises:
        SpikeattnError: what the model has no map for, a target that is no class.
    """
    kind = request.kind or family.kinds[0]
    layers = check_family(family, kind, request, model)
    credited = request.gradient and not family.time
    per_layer: list[tuple[Tap, ...]] = [
        (whole_maps(family.attentions[index]),) if credited else taps_of(family, kind, index, last=len(layers) == 1)
        for index in layers
    ]
    taps = tuple(tap for group in per_layer for tap in group)
    shown = {tap.module for tap in taps}
    hooked = tuple(a for a in family.attentions if getattr(a, "attn_drop", None) in shown)
    if request.gradient:
        seen, grid = _weighted(model, images, taps, hooked, request.target)
        seen = [softmax_part(kind, family.prefix, maps) for maps in seen] if credited else seen
    else:
        with ready(model, hooked), torch.inference_mode():
            seen, grid, _ = capture(model, images, taps)
    maps: list[Tensor] = []
    unit: float | None = None
    if kind == "rollout":
        maps = _rollout(seen, family.prefix, grid, "cls" in family.kinds)
        maps = maps if request.layer == "all" else maps[-1:]
    else:
        width = len(per_layer[0])
        for start in range(0, len(seen), width):
            group = tuple(seen[start : start + width])
            if family.time:
                values, unit = _spiking(kind, group, family.heads, grid, request)
            else:
                values = on_grid(group[0], family.prefix, grid)
                if request.heads == "mean":
                    values = values.sum(1) if request.gradient else values.mean(1)
            maps.append(values)
    values = torch.stack(maps, 1) if request.layer == "all" else maps[0]
    values = values.float().clamp(min=0) if request.gradient else values.float()
    number = "all" if request.layer == "all" else layers[-1]
    return Scores(values, request.axes, kind, number, unit, None, family.attentions[layers[-1]]).checked()


def check_family(family: Family, kind: str, request: MapRequest, model: nn.Module) -> list[int]:
    """The numbers of the layers that a map is made from.

    Raises:
        SpikeattnError: arguments that do not fit the model.
    """
    name, layer = type(model).__name__, request.layer
    if request.steps == "each" and not family.time:
        raise SpikeattnError(f'steps="each": {name} has no time steps; leave it at "mean"')
    if kind == "rollout" and request.heads == "each":
        raise SpikeattnError('heads="each": rollout multiplies the mean over heads; leave it at "mean"')
    if request.gradient and (kind in ("gate", "rollout") or hasattr(family.attentions[0], "products")):
        raise SpikeattnError(f'weight="gradient" is not defined for the {kind} map of {name}')
    if request.gradient and hasattr(family.attentions[0], "spectrum"):
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
        assert output is not None  # the pass is whole
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
    kind: str, tensors: tuple[Tensor, ...], heads: int, grid: tuple[int, int], request: MapRequest
) -> tuple[Tensor, float | None]:
    """Rates [B, (T), (heads), h, w] and the value of one spike."""
    axes = [axis for axis, treatment in ((1, request.steps), (2, request.heads)) if treatment == "mean"]

    def total(x: Tensor) -> Tensor:
        return x.sum(axes) if axes else x

    if request.gradient:
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


def on_grid(rows: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
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
    flow: Tensor | None = None
    rolled = []
    for maps in layers:  # the mean over heads, [B, N, N]
        mixed = (maps + torch.eye(maps.shape[-1], device=maps.device)) / 2
        flow = mixed if flow is None else mixed @ flow
        row = flow[:, 0, prefix:] if class_token else flow[:, prefix:, prefix:].mean(1)
        rolled.append(row.reshape(-1, *grid))
    return rolled

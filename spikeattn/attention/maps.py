"""Attention maps of spiking and of ordinary transformers: one score per token, per layer, head and time step.

A Spike-driven Transformer has no N x N map (Yao et al., Spike-driven Transformer, NeurIPS 2023, figure 3, shows rates
of V_S and Vhat_S); a Spikformer and a ViT do. Rollout: Abnar, Zuidema, Quantifying attention flow, ACL 2020.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeattn.attention import applied_maps
from spikeattn.attention.applied_maps import Applied, applied, applied_map
from spikeattn.attention.capture import call_model, capture, check_images, ready
from spikeattn.attention.map_sources import (
    OTHERWISE,
    Family,
    Tap,
    known_family,
    softmax_family,
    softmax_part,
    spike_counts,
    taps_of,
    whole_maps,
)
from spikeattn.attention.named_maps import named_map
from spikeattn.attention.placement import Placement, evenly, tokens_of
from spikeattn.attention.roles import ROLES, anatomy, fails
from spikeattn.attention.significance import AttentionWarning
from spikeattn.attention.survey import Forward, survey
from spikeattn.errors import SpikeattnError, failing, unknown
from spikeattn.tracing.neurons import has_neurons


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Scores of the tokens of a batch.

    Attributes:
        values: [image, (layer), (step), (head), row, column], float32; not negative, but for real-valued tensors and
            differences of two softmax maps.
        axes: names of the axes of `values`.
        kind: of map: its name, a role or a path.
        layer: number of the block, or "all"; None for a tensor outside the blocks.
        image_size: height and width in pixels.
        unit: value of one spike where scores are rates of spikes, else None; `assess` takes it.
        placement: the pixels of every token.
    """

    values: Tensor
    axes: tuple[str, ...]
    kind: str
    layer: int | str | None
    image_size: tuple[int, int]
    unit: float | None
    placement: Placement = field(repr=False)

    def to_image(self, size: tuple[int, int] | None = None, mode: str = "nearest") -> Tensor:
        """The maps on the pixels of the image, [..., H, W].

        Token i stands on [c - s/2, c + s/2) about the centre c of its receptive field, padding included, s being the
        distance of the centres: half a pixel goes to the later token. Pixels of no token hold 0; `placement.covered()`
        tells them apart.

        Args:
            size: of the picture, if not that of the image.
            mode: "nearest", or "bilinear" between the centres of the tokens.

        Warns:
            AttentionWarning: the receptive fields are not known, and the grid is spread evenly over the image.
        """
        return paint(self.placement, self.values, size, mode)


def paint(placement: Placement, values: Tensor, size: tuple[int, int] | None, mode: str) -> Tensor:
    """`Placement.paint`, with a warning where the tokens' pixels are not known."""
    if not placement.known:
        warnings.warn(f"tokens are spread evenly over the image: {placement.note}", AttentionWarning, stacklevel=3)
    return placement.paint(values, size, mode)


class Scores(NamedTuple):
    """A map before it is put on the image; `where` names the module whose output has the same tokens."""

    values: Tensor
    axes: tuple[str, ...]
    kind: str
    layer: int | str | None
    unit: float | None
    placement: Placement | None
    where: nn.Module | None


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
    forward: Forward = call_model,
) -> AttentionMap:
    """The attention map of every image.

    Spike-driven Transformer (rates over channels and time steps, at most 1):

    - "Vhat_S" (default): spikes that leave the attention, q * g. "V_S": the spikes q that enter it.
    - "gate": the share of a token's V_S spikes that the gate lets through; 0 for a silent token.
    - "drive": spikes of k * v, the token's votes for opening the gate; after Erode with `dvs`.

    Spikformer: "ssa", the mean over queries j and channels of q_j k_i for key token i; "rate", spikes that leave it.

    Softmax attention (any network without spikes that forms N x N maps, as its layers apply them): "cls", the class
    token's row (default where there is one); "received", the mean over the queries of image tokens; "rollout", the
    product over layers up to `layer` of (A + 1) / 2, the class token's row or the mean over queries. Class and register
    tokens are no part of the map.

    Any network, by the structure that `spikeattn.structure(model, images)` infers: the mean over channels of

    - "attention" (default of other spiking transformers): what the attention of a block hands on: the spikes behind its
      last product, or that product, where it is a mask.
    - "q", "k", "v": what enters the attention as such; spikes where there are some.
    - "gate": the spikes that scale the others, where they have a value per token.
    - "products": the mean over queries of the N x N matrix, where the network forms one.
    - the path of a module, such as "blocks.1.attn.attn_lif", or "path:in" for what it is given; names of products in
      `structure(...).table("tensors")`, such as "block.1.attn.mul_1".

    Args:
        model: one of these; eval mode and reset neurons are seen to, and its modes restored.
        images: [B, C, H, W], or frames [B, T, C, H, W].
        kind: see above.
        layer: block to look at, from 0 or from the end, among those that have attention; "all" adds an axis.
        heads: "mean", or "each" for an axis of heads.
        steps: "mean", or "each" for an axis of time steps, for spiking models.
        weight: "gradient" multiplies scores by the gradient of the predicted class's logit with respect to them, before
            summing over channels, and keeps the positive part; of "ssa" the keys' spikes. Not for "gate", "rollout".
        target: classes [B] instead of the predicted ones, for the gradient.
        forward: calls the model on a batch, where model(images) is not how it takes one, as with a loop over time.

    Returns:
        AttentionMap: [B, h, w] on the grid of the tokens, with axes for layers, time steps and heads where asked for.

    Raises:
        SpikeattnError: a model without attention, or without a map of this kind, and why; unknown names, with the
            closest valid ones; images that do not fit, NaN in the map.
    """
    images = check_images(model, images)
    found = scores(model, images, kind, layer=layer, heads=heads, steps=steps, weight=weight, target=target,
                   forward=forward)  # fmt: skip
    size = (int(images.shape[-2]), int(images.shape[-1]))
    grid = (int(found.values.shape[-2]), int(found.values.shape[-1]))
    placed = found.placement
    if placed is None:
        placed = placement_of(model, images, found.where, grid, forward)
    return AttentionMap(found.values, found.axes, found.kind, found.layer, size, found.unit, placed)


def placement_of(
    model: nn.Module, images: Tensor, module: nn.Module | None, grid: tuple[int, int], forward: Forward = call_model
) -> Placement:
    """Where the tokens that a module hands out stand on the image; spread evenly, with a note, where nobody knows."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    path = next((path for path, other in model.named_modules() if other is module), None)
    try:
        with failing("the model fails on two images"):
            seen = survey(model, images, forward)
    except SpikeattnError as error:
        return evenly(grid, size, str(error))
    outputs = seen.outputs.get(path) if path else None
    tokens = None if outputs is None else tokens_of(outputs[0].place.row, outputs[0].place.column, size)
    if tokens is not None and tokens.grid == grid:
        return tokens.placement
    lost = next(iter(seen.notes), None)
    why = f"nobody knows what {lost} does to places" if lost else "what lies before the tokens joins the whole image"
    return evenly(grid, size, f"their receptive fields cannot be derived, since {why}")


def placement_by_grid(
    model: nn.Module, images: Tensor, grid: tuple[int, int], forward: Forward = call_model
) -> Placement:
    """Where the tokens of a grid stand, if all tensors with such a grid agree; for a statistic of a user's own."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    try:
        with failing("the model fails on two images"):
            seen = survey(model, images, forward)
    except SpikeattnError as error:
        return evenly(grid, size, str(error))
    found: list[Placement] = []
    for calls in seen.outputs.values():
        tokens = tokens_of(calls[0].place.row, calls[0].place.column, size)
        if tokens is not None and tokens.grid == grid:
            found.append(tokens.placement)
    alike = all((f.rows == found[0].rows).all() and (f.columns == found[0].columns).all() for f in found)
    if found and alike:
        return found[0]
    why = "no tensor of the network has" if not found else "the network has several tensors, at different places, with"
    return evenly(grid, size, f"{why} a grid of {grid[0]}x{grid[1]} tokens")


def default_kind(model: nn.Module, images: Tensor, forward: Forward = call_model) -> str:
    """The map that a model has by default."""
    family = known_family(model)
    if family is not None:
        return family.kinds[0]
    body = _applied(model, images, forward)
    return body.kinds[0] if body is not None and body.kinds else ROLES[0]


def has_steps(model: nn.Module) -> bool:
    """Whether a model's maps have time steps."""
    family = known_family(model)
    return has_neurons(model) if family is None else family.time


def _applied(model: nn.Module, images: Tensor, forward: Forward) -> Applied | None:
    """The N x N attention of a network without spikes; None for a spiking one."""
    if has_neurons(model):
        return None
    with failing(fails(model, images)):
        seen = survey(model, images, forward)
    return applied(model, seen, (int(images.shape[-2]), int(images.shape[-1])), forward)


def scores(
    model: nn.Module,
    images: Tensor,
    kind: str | None = None,
    *,
    layer: int | str = -1,
    heads: str = "mean",
    steps: str = "mean",
    weight: str = "none",
    target: Tensor | None = None,
    forward: Forward = call_model,
) -> Scores:
    """The scores of `attention_map`, whose arguments these are, without their pixels."""
    _check_names(heads, steps, weight)
    family = known_family(model)
    if family is None and weight == "gradient":
        family = _with_shown_maps(model, images, layer, forward)
    if family is not None and (kind is None or kind in family.kinds):
        return _of_family(family, model, images, kind or family.kinds[0], layer, heads, steps, weight, target)
    if weight == "gradient":
        name = type(model).__name__
        raise SpikeattnError(f'weight="gradient" is not defined for the {kind or "default"} map of {name}')
    body = _applied(model, images, forward) if kind is None or kind in applied_maps.KINDS else None
    if kind in applied_maps.KINDS and body is None:
        raise SpikeattnError(
            f"{type(model).__name__} is a spiking network, and {kind!r} a map of softmax attention; take a role: "
            f"{', '.join(ROLES)}"
        )
    if body is not None and (body.kinds or kind is not None):
        return _as_applied(body, model, images, kind or body.kinds[0], layer, heads, steps)
    kind = ROLES[0] if kind is None else kind
    own = () if family is None else family.kinds
    values, unit, placement, number = named_map(model, images, kind, layer, heads, steps, own, forward)
    return _scores(values, layer if kind in ROLES else -1, heads, steps, kind, number, unit, placement, None)


def _with_shown_maps(model: nn.Module, images: Tensor, layer: Any, forward: Forward) -> Family | None:
    """The family of a model built as timm's are, if the maps that its dropouts hand out are those that meet the values.

    Gradients need a map in the graph of the pass, where `matrices.catch` does not reach.
    """
    family = softmax_family(model)
    body = None if family is None else _applied(model, images, forward)
    if family is None or body is None:
        return None
    image = images[:1]
    for number in range(len(family.attentions)) if layer == "all" else [layer]:
        attention = family.attentions[number]
        with suppress(SpikeattnError), ready(model, (attention,)), torch.no_grad():
            (maps,), grid, _ = capture(model, image, (whole_maps(attention),))
            shown = _row(softmax_part("received", family.prefix, maps), family.prefix, grid)
            (own,), _, _ = applied_map(body, image, "received", number, True)
            if shown.shape == own.shape and torch.allclose(shown.float(), own, rtol=1e-3, atol=1e-6):
                continue
        return None
    return family


def _as_applied(
    body: Applied, model: nn.Module, images: Tensor, kind: str, layer: int | str, heads: str, steps: str
) -> Scores:
    if steps == "each":
        raise SpikeattnError(f'steps="each": {type(model).__name__} has no time steps; leave it at "mean"')
    if kind == applied_maps.ROLLOUT and heads == "each":
        raise SpikeattnError('heads="each": rollout multiplies the mean over heads; leave it at "mean"')
    if not body.sites:
        raise SpikeattnError(
            f"{type(model).__name__} forms no N x N map of attention: no matrix made of products of the images' tokens "
            f"meets other tensors of theirs; {OTHERWISE}"
        )
    maps, placement, number = applied_map(body, images, kind, layer, heads == "each")
    values = torch.stack(maps, 1) if layer == "all" else maps[0]
    return _scores(values, layer, heads, steps, kind, number, None, placement, None)


def _scores(
    values: Tensor, layer: Any, heads: str, steps: str, kind: str, number: Any, unit: float | None,
    placement: Placement | None, where: nn.Module | None,
) -> Scores:  # fmt: skip
    if not torch.isfinite(values).all():
        raise SpikeattnError(f"the {kind} map holds NaN or infinite scores: the model's activations overflow")
    names = [("layer", layer == "all"), ("step", steps == "each"), ("head", heads == "each")]
    axes = ("image", *(name for name, there in names if there), "row", "column")
    values = values.clone() if values.is_inference() else values
    return Scores(values, axes, kind, number, unit, placement, where)


def _check_names(heads: str, steps: str, weight: str) -> None:
    for name, value, valid in (
        ("heads", heads, ("mean", "each")),
        ("steps", steps, ("mean", "each")),
        ("weight", weight, ("none", "gradient")),
    ):
        if value not in valid:
            raise unknown(name, value, valid)


def _of_family(
    family: Family, model: nn.Module, images: Tensor, kind: str, layer: int | str, heads: str, steps: str, weight: str,
    target: Tensor | None,
) -> Scores:  # fmt: skip
    """The map of a model whose attention is known beforehand."""
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
    number = layer if layer == "all" else layers[-1]
    return _scores(values, layer, heads, steps, kind, number, unit, None, family.attentions[layers[-1]])


def _check(family: Family, kind: str, layer: Any, heads: str, steps: str, weight: str, model: nn.Module) -> list[int]:
    """The numbers of the layers wanted; errors for arguments that do not fit the model."""
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


@dataclass(frozen=True)
class Outlook:
    """What maps of one kind a network has, by one image.

    Attributes:
        kind: of map: the one asked for, or the network's default.
        blocks: how many blocks have such a map; 1 for a tensor named by its path.
        layer: number of the block of such a tensor, or 0 outside the blocks; None for all other kinds.
        steps, heads: whether maps by time step, and by head, can be told apart.
        alike: whether all blocks have one token grid, so that layer="all" has a map.
    """

    kind: str
    blocks: int
    layer: int | None
    steps: bool
    heads: bool
    alike: bool


def outlook(
    model: nn.Module, images: Tensor, kind: str | None, layer: int | str, forward: Forward = call_model
) -> Outlook:
    """What there is to be seen of a kind of map at a layer, from passes of the first image.

    Raises:
        SpikeattnError: what `attention_map` raises for it.
    """
    image = check_images(model, images)[:1]
    family = known_family(model)
    kind = default_kind(model, image, forward) if kind is None else kind
    if family is not None and kind in family.kinds:
        depth = len(family.attentions)
        _check(family, kind, layer, "mean", "mean", "none", model)
        return Outlook(kind, depth, None, family.time, not family.time and kind != applied_maps.ROLLOUT, True)

    def works(**more: Any) -> Scores | None:
        with suppress(SpikeattnError):
            return scores(model, image, kind, **{"layer": layer, "forward": forward} | more)
        return None

    found = scores(model, image, kind, layer=layer, forward=forward)
    path = kind not in (*ROLES, *applied_maps.KINDS)
    if path:
        depth = 1
    elif kind in applied_maps.KINDS:
        depth = len(survey(model, image, forward).matrices)
    else:
        depth = len(anatomy(model, image, forward).blocks)
    steps, heads = works(steps="each") is not None, works(heads="each") is not None
    alike = path or works(layer="all") is not None
    number = found.layer if isinstance(found.layer, int) else 0
    return Outlook(kind, depth, number if path else None, steps, heads, alike)

"""The scores of a map, whatever the network: known beforehand, with N x N attention, or by the structure of a pass."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikeattn.attention.anatomy import fails
from spikeattn.attention.applied_maps import KINDS, ROLLOUT, Applied, applied, applied_map
from spikeattn.attention.capture import Forward, call_model, capture, ready
from spikeattn.attention.family_maps import check_family, family_scores, on_grid
from spikeattn.attention.map_request import MapRequest, Scores
from spikeattn.attention.map_sources import OTHERWISE, Family, known_family, softmax_family, softmax_part, whole_maps
from spikeattn.attention.named_maps import named_map
from spikeattn.attention.role_target import ROLES
from spikeattn.attention.survey import survey
from spikeattn.errors import SpikeattnError, failing
from spikeattn.tracing.neurons import has_neurons


def scores(model: nn.Module, images: Tensor, request: MapRequest) -> Scores:
    """The scores that `attention_map` puts on the image; its errors."""
    kind, family = request.kind, known_family(model)
    if family is None and request.gradient:
        family = _with_shown_maps(model, images, request)
    if family is not None and (kind is None or kind in family.kinds):
        return family_scores(family, model, images, request)
    if request.gradient:
        name = type(model).__name__
        raise SpikeattnError(f'weight="gradient" is not defined for the {kind or "default"} map of {name}')
    body = applied_attention(model, images, request.forward) if kind is None or kind in KINDS else None
    if kind in KINDS and body is None:
        raise SpikeattnError(
            f"{type(model).__name__} is a spiking network, and {kind!r} a map of softmax attention; take a role: "
            f"{', '.join(ROLES)}"
        )
    if body is not None and (body.kinds or kind is not None):
        return _applied_scores(body, model, images, kind or body.kinds[0], request)
    kind = ROLES[0] if kind is None else kind
    own = () if family is None else family.kinds
    values, unit, placement, number = named_map(
        model, images, kind, request.layer, request.heads, request.steps, own, request.forward
    )
    axes = request.axes if kind in ROLES else replace(request, layer=-1).axes  # a path names one tensor of one layer
    return Scores(values, axes, kind, number, unit, placement, None).checked()


def default_kind(model: nn.Module, images: Tensor, forward: Forward = call_model) -> str:
    """The map that a model has by default."""
    family = known_family(model)
    if family is not None:
        return family.kinds[0]
    body = applied_attention(model, images, forward)
    return body.kinds[0] if body is not None and body.kinds else ROLES[0]


def has_steps(model: nn.Module) -> bool:
    """Whether a model's maps have time steps."""
    family = known_family(model)
    return has_neurons(model) if family is None else family.time


def applied_attention(model: nn.Module, images: Tensor, forward: Forward) -> Applied | None:
    """The N x N attention of a network without spikes; None for a spiking one."""
    if has_neurons(model):
        return None
    with failing(fails(model, images)):
        seen = survey(model, images, forward)
    return applied(model, seen, (int(images.shape[-2]), int(images.shape[-1])), forward)


def _with_shown_maps(model: nn.Module, images: Tensor, request: MapRequest) -> Family | None:
    """The family of a model built as timm's are, if the maps that its dropouts hand out are those that meet the values.

    Gradients need a map in the graph of the pass, where `matrices.catch` does not reach.
    """
    family = softmax_family(model)
    body = None if family is None else applied_attention(model, images, request.forward)
    if family is None or body is None:
        return None
    image = images[:1]
    for number in check_family(family, request.kind or family.kinds[0], request, model):
        attention = family.attentions[number]
        with suppress(SpikeattnError), ready(model, (attention,)), torch.no_grad():
            (maps,), grid, _ = capture(model, image, (whole_maps(attention),))
            shown = on_grid(softmax_part("received", family.prefix, maps), family.prefix, grid)
            (own,), _, _ = applied_map(body, image, "received", number, True)
            if shown.shape == own.shape and torch.allclose(shown.float(), own, rtol=1e-3, atol=1e-6):
                continue
        return None
    return family


def _applied_scores(body: Applied, model: nn.Module, images: Tensor, kind: str, request: MapRequest) -> Scores:
    if request.steps == "each":
        raise SpikeattnError(f'steps="each": {type(model).__name__} has no time steps; leave it at "mean"')
    if kind == ROLLOUT and request.heads == "each":
        raise SpikeattnError('heads="each": rollout multiplies the mean over heads; leave it at "mean"')
    if not body.sites:
        raise SpikeattnError(
            f"{type(model).__name__} forms no N x N map of attention: no matrix made of products of the images' tokens "
            f"meets other tensors of theirs; {OTHERWISE}"
        )
    maps, placement, number = applied_map(body, images, kind, request.layer, request.heads == "each")
    values = torch.stack(maps, 1) if request.layer == "all" else maps[0]
    return Scores(values, request.axes, kind, number, None, placement, None).checked()

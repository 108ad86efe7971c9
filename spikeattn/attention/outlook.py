"""What maps of one kind a network has: its blocks, time steps and heads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor, nn

from spikeattn.attention.anatomy import anatomy
from spikeattn.attention.applied_maps import KINDS, ROLLOUT
from spikeattn.attention.capture import Forward, call_model, check_images
from spikeattn.attention.family_maps import check_family
from spikeattn.attention.map_request import MapRequest
from spikeattn.attention.map_sources import known_family
from spikeattn.attention.role_target import ROLES
from spikeattn.attention.scores import default_kind, scores
from spikeattn.attention.survey import survey
from spikeattn.errors import SpikeattnError


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
        check_family(family, kind, MapRequest(kind, layer), model)
        return Outlook(kind, depth, None, family.time, not family.time and kind != ROLLOUT, True)

    def works(request: MapRequest) -> bool:
        with suppress(SpikeattnError):
            scores(model, image, request)
            return True
        return False

    request = MapRequest(kind, layer, forward=forward)
    own = scores(model, image, request).layer
    path = kind not in (*ROLES, *KINDS)
    if path:
        depth = 1
    elif kind in KINDS:
        depth = len(survey(model, image, forward).matrices)
    else:
        depth = len(anatomy(model, image, forward).blocks)
    steps, heads = works(replace(request, steps="each")), works(replace(request, heads="each"))
    alike = path or works(replace(request, layer="all"))
    number = own if isinstance(own, int) else 0
    return Outlook(kind, depth, number if path else None, steps, heads, alike)

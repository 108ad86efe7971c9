"""Maps of any network with N x N attention, as its layers apply it: the class token's row, what keys receive, rollout.

Nothing is known of a network beforehand: its matrices, their tokens and its class tokens are read off a survey of one
pass. Rollout: Abnar, Zuidema, Quantifying attention flow, ACL 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.attention import matrices
from spikeattn.attention.capture import Forward, ready
from spikeattn.attention.map_sources import OTHERWISE, class_token_of
from spikeattn.attention.matrices import Layout
from spikeattn.attention.named_maps import received
from spikeattn.attention.placement import Placement
from spikeattn.attention.survey_record import Site, Survey
from spikeattn.errors import SpikeattnError, unknown

CLS, RECEIVED, ROLLOUT = "cls", "received", "rollout"
KINDS = (CLS, RECEIVED, ROLLOUT)
_REGISTERS = ("reg_token", "register_tokens", "reg_tokens")


@dataclass(frozen=True, eq=False)
class Applied:
    """The attention of a network in the order of execution.

    Attributes:
        layers: of every attention its layout, or a sentence why it has no N x N map.
    """

    model: nn.Module
    seen: Survey
    forward: Forward
    sites: tuple[Site, ...]
    layers: tuple[Layout | str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of map that some layer has, the default first."""
        some = [layer for layer in self.layers if not isinstance(layer, str)]
        if not some:
            return ()
        own = [kind for kind in KINDS[:2] if any(self.lacks(kind, n) is None for n in range(len(self.layers)))]
        whole = all(self.lacks(ROLLOUT, n) is None for n in range(len(self.layers)))
        return (*own, ROLLOUT) if whole else tuple(own)

    def lacks(self, kind: str, number: int) -> str | None:
        """Why a layer has no map of a kind; None where it has one."""
        layer = self.layers[number]
        if isinstance(layer, str):
            return layer
        classes = _classes(layer)
        if kind == CLS:
            if not len(classes):
                return "its queries hold no class token"
            return None if self._class_token(len(classes)) else "which of its tokens is the class token cannot be told"
        if kind == RECEIVED:
            return None if layer.queries is not None else "its queries are class tokens alone"
        if layer.windows or layer.queries is None or layer.queries.cells.shape != layer.keys.cells.shape:
            return "its matrix is not over all tokens as queries and as keys"
        same = np.array_equal(layer.queries.cells, layer.keys.cells)
        first = next(other for other in self.layers if not isinstance(other, str))
        if not same or not np.array_equal(layer.keys.cells[0], first.keys.cells[0]):
            return "its tokens are not those of the first layer"
        return None

    def _class_token(self, classes: int) -> bool:
        """Whether the first token without a place is a class token, and no register."""
        named = class_token_of(self.model)
        registers = any(getattr(self.model, name, None) is not None for name in _REGISTERS)
        return named or (classes == 1 and not registers)

    def names(self) -> str:
        """The network as errors name it."""
        return type(self.model).__name__


def applied(model: nn.Module, seen: Survey, image_size: tuple[int, int], forward: Forward) -> Applied:
    """The attention that a survey has shown."""
    layers = tuple(matrices.layout_of(seen, site, image_size) for site in seen.matrices)
    return Applied(model, seen, forward, tuple(seen.matrices), layers)


def applied_map(
    body: Applied, images: Tensor, kind: str, layer: int | str, each_head: bool
) -> tuple[list[Tensor], Placement, int | str]:
    """Maps of the layers asked for, each [image, (head), h, w], their placement, and the layer's number.

    Raises:
        SpikeattnError: a kind that there is not, or not at this layer; layers of different grids with layer="all".
    """
    if kind not in body.kinds:
        raise _no_kind(body, kind)
    depth = len(body.layers)
    if layer != "all" and (isinstance(layer, bool) or not isinstance(layer, int) or not -depth <= layer < depth):
        raise SpikeattnError(f'layer={layer!r}: the model has attention 0 to {depth - 1}; -1 is the last, "all" is all')
    last = depth - 1 if layer == "all" else int(layer) % depth
    wanted = list(range(last + 1)) if layer == "all" or kind == ROLLOUT else [last]
    layouts: list[Layout] = []
    for number in wanted:
        why, own = body.lacks(kind, number), body.layers[number]
        if why is not None or isinstance(own, str):
            raise SpikeattnError(
                f"attention {number} of {body.names()} ({body.sites[number].path}) has no map {kind!r}: {why or own}"
            )
        layouts.append(own)
    grids = list(dict.fromkeys(layout.keys.grid for layout in layouts))
    if len(grids) > 1:
        raise SpikeattnError(
            f'layer="all": the layers of {body.names()} have different token grids, '
            f"{' and '.join('x'.join(map(str, g)) for g in grids)}; give one layer"
        )
    read = {CLS: _class_row, RECEIVED: received, ROLLOUT: _whole}[kind]
    sites = {
        body.sites[n]: (layout.operand, len(body.seen.matrices[body.sites[n]]), partial(read, layout))
        for n, layout in zip(wanted, layouts, strict=True)
    }
    with ready(body.model), torch.no_grad():
        caught = matrices.catch(body.model, lambda: body.forward(body.model, images), sites)
    found = [torch.stack(caught[body.sites[n]]).mean(0) for n in wanted]
    if kind == ROLLOUT:
        found = _rolled(found, layouts[0])
        found = found if layer == "all" else found[-1:]
    elif not each_head:
        found = [maps.mean(1) for maps in found]
    return found, layouts[-1].keys.placement, "all" if layer == "all" else last


def _no_kind(body: Applied, kind: str) -> SpikeattnError:
    if kind in KINDS:
        number = next((n for n in reversed(range(len(body.layers))) if body.lacks(kind, n) is not None), 0)
        why = body.lacks(kind, number)
        valid = f"valid are {', '.join(body.kinds)}" if body.kinds else OTHERWISE
        return SpikeattnError(
            f"there is no attention map of {body.names()} {kind!r}: attention {number} ({body.sites[number].path}): "
            f"{why}; {valid}"
        )
    return unknown(f"attention map of {body.names()}", kind, body.kinds)


def _classes(layout: Layout) -> Sequence[int]:
    return [int(n) for n in layout.own_classes]


def _class_row(layout: Layout, matrix: Tensor) -> Tensor:
    """The row of the class token, [image, copy, h, w]."""
    return layout.onto_grid(layout.split(matrix)[:, :, _classes(layout)[0]])


def _whole(layout: Layout, matrix: Tensor) -> Tensor:
    """The mean over heads, [image, query, key]."""
    return layout.split(matrix).float().mean(1)


def _rolled(layers: Sequence[Tensor], layout: Layout) -> list[Tensor]:
    """[image, h, w] after each layer: the class token's row, or the mean over the queries of the image."""
    cells = layout.keys.cells[0]
    there, classes = np.flatnonzero(cells >= 0), _classes(layout)
    h, w = layout.keys.grid
    order = torch.from_numpy(there[np.argsort(cells[there])])
    flow, found = None, []
    for maps in layers:
        mixed = (maps + torch.eye(maps.shape[-1], device=maps.device)) / 2
        flow = mixed if flow is None else mixed @ flow
        row = flow[:, classes[0]] if classes else flow[:, order.to(flow.device)].mean(1)
        found.append(row[:, order.to(flow.device)].reshape(-1, h, w))
    return found

"""Maps of any network: of a tensor by its role in the attention of a block, or by its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spikeattn.attention import matrices
from spikeattn.attention.anatomy import anatomy
from spikeattn.attention.capture import Enough, Forward, call_model, ready
from spikeattn.attention.map_sources import OTHERWISE
from spikeattn.attention.placement import Placement
from spikeattn.attention.role_target import INPUT, ROLES, Target
from spikeattn.attention.roles import Anatomy
from spikeattn.attention.survey import fingerprint
from spikeattn.attention.survey_record import BATCH, Seen
from spikeattn.attention.tensor_layout import TensorLayout, head_index, layout_of
from spikeattn.errors import SpikeattnError
from spikeattn.structure import axes as ax
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import plan
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.state import state_kept
from spikeattn.tracing.taps import Plan, Tap

Found = tuple[Tensor, float | None, Placement, int | str | None]


def named_map(
    model: nn.Module, images: Tensor, statistic: str, layer: int | str, heads: str, steps: str,
    kinds: Sequence[str] = (), forward: Forward = call_model,
) -> Found:  # fmt: skip
    """The map [image, (layer), (step), (head), h, w] of a role or a path, value of a spike, placement and block.

    Args:
        kinds: maps that the model has by name, for errors.

    Raises:
        SpikeattnError: a network without attention, a statistic that names nothing, a layer that there is not; heads or
            steps that the tensor does not have; blocks with different grids and layer="all".
    """
    if len(images) > 1 and image_by_image(model, images, forward):
        found = [named_map(model, image, statistic, layer, heads, steps, kinds, forward) for image in images.split(1)]
        return torch.cat([values for values, *_ in found]), *found[0][1:]
    body = anatomy(model, images, forward)
    targets, block = _targets(body, statistic, layer, kinds)
    read = [_reader(model, images, body, target, forward) for target in targets]
    seen = _captured(model, images, body, targets, forward)
    each = (heads == "each", steps == "each")
    maps, unit, placement = [], None, None
    for target, reader, calls in zip(targets, read, seen, strict=True):
        values, unit, own = reader(calls, *each)
        if placement is not None and placement.grid != own.grid:
            raise SpikeattnError(
                f'layer="all": the blocks of {body.name} have different token grids, '
                f"{'x'.join(map(str, placement.grid))} and {'x'.join(map(str, own.grid))} at {target.path}; "
                "give one block"
            )
        maps.append(values)
        placement = own
    assert placement is not None
    return torch.stack(maps, 1) if layer == "all" and statistic in ROLES else maps[0], unit, placement, block


def _targets(
    body: Anatomy, statistic: str, layer: int | str, kinds: Sequence[str]
) -> tuple[list[Target], int | str | None]:
    if statistic not in ROLES:
        if layer not in (-1, "all"):
            raise SpikeattnError(f"layer={layer!r}: {statistic} is the path of one tensor; leave layer at -1")
        target = body.at(statistic, kinds)
        return [target], body.blocks.index(target.block) if target.block in body.blocks else None
    blocks = body.blocks
    if not blocks:
        raise SpikeattnError(
            f"{body.name} has no attention: it is no model whose attention is known here, and no product of its "
            f"tensors joins what is made of the same tokens; name a tensor by its path, or {OTHERWISE}"
        )
    if layer == "all":
        return [body.find(statistic, block) for block in blocks], "all"
    if isinstance(layer, bool) or not isinstance(layer, int) or not -len(blocks) <= layer < len(blocks):
        raise SpikeattnError(
            f"layer={layer!r}: {body.name} has {len(blocks)} blocks with attention, 0 to {len(blocks) - 1}; -1 is the "
            'last, "all" is all'
        )
    return [body.find(statistic, blocks[layer])], layer % len(blocks)


# ------------------------------------------------------------------------------------------------------------ reading
def _reader(model: nn.Module, images: Tensor, body: Anatomy, target: Target, forward: Forward) -> Any:
    size = (int(images.shape[-2]), int(images.shape[-1]))
    if target.matrix and target.site is not None:
        layout = matrices.layout_of(body.seen, target.site, size)
        if isinstance(layout, str):
            raise SpikeattnError(
                f"the attention of block {target.block} of {body.name} forms no N x N matrix of tokens: {layout}"
            )
        return partial(_of_matrix, target, layout, body, plan_of(model, images, forward))
    made = plan_of(model, images, forward)
    taps = () if made is None or made.one_image else made.taps
    lies = layout_of(target, _calls(body, target), size, body.seen.batch, _tap(taps, target))
    return partial(_of_tensor, lies, None if made is None else made.ledger.time_steps)


def _calls(body: Anatomy, target: Target) -> list[Seen]:
    if target.site is not None:
        return body.seen.results[target.site]
    known = body.seen.inputs if target.path.endswith(INPUT) else body.seen.outputs
    return known[target.path.removesuffix(INPUT)]


def _tap(taps: Sequence[Tap], target: Target) -> Tap | None:
    """Where a plan counts the same tensor."""
    if target.site is not None:
        same = [t for t in taps if t.where == "operation" and (t.module, t.op) == (target.site.path, target.site.op)]
        return next((t for t in same if t.operand == -1 and t.at[0][1] == target.site.ordinal), None)
    path, where = target.path.removesuffix(INPUT), "argument" if target.path.endswith(INPUT) else "output"
    same = [t for t in taps if (t.module, t.where, t.index) == (path, where, 0) and t.columns is None]
    return same[0] if same else None


def _of_tensor(lies: TensorLayout, T: int | None, calls: Sequence[Tensor], each_head: bool, each_step: bool) -> Any:
    values, unit = lies.scores(calls, each_head, each_step, T)
    return values, unit, lies.tokens.placement


def _of_matrix(
    target: Target, layout: matrices.Layout, body: Anatomy, made: Plan | None, calls: Sequence[Tensor], each_head: bool,
    each_step: bool,
) -> Any:  # fmt: skip
    """The mean over the queries of the image, for every key."""
    values = torch.stack(list(calls))  # [call, image, copy, h, w]
    groups: list[list[list[int]]] | None = [[list(range(values.shape[2]))]]
    if each_head or each_step:
        groups = None if layout.windows or len(calls) > 1 else _groups(target, layout, body, made, each_head, each_step)
    if groups is None:
        raise SpikeattnError(
            f'heads="each", steps="each": which head and step each of the {values.shape[2]} matrices of block '
            f'{target.block} of {body.name} belongs to cannot be told; leave both at "mean"'
        )
    whole = values.mean(0)
    maps = torch.stack([torch.stack([whole[:, own].mean(1) for own in row], 1) for row in groups], 1)
    maps = maps if each_head else maps[:, :, 0]
    maps = maps if each_step else maps[:, 0]
    return maps, None, layout.keys.placement


def _groups(
    target: Target, layout: matrices.Layout, body: Anatomy, made: Plan | None, each_head: bool, each_step: bool
) -> list[list[list[int]]] | None:
    """Copies by step and by head; None where they cannot be told."""
    assert target.site is not None
    first = body.seen.matrices[target.site][0]
    n = layout.outer * layout.inner
    rows = torch.arange(n) // layout.inner * body.seen.batch * layout.inner + torch.arange(n) % layout.inner
    heads, steps, H, T = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), 1, 1
    if each_head:
        index, H = (None, 1) if target.axes is None else head_index(target, target.axes[:1])
        if index is None or len(index) != first.matrix.shape[0]:
            return None
        heads = index[rows]
    if each_step:
        index = None if made is None or target.axes is None else _steps(target.axes[0], layout, made.ledger.time_steps)
        if index is None or made is None or len(index) != first.matrix.shape[0]:
            return None
        steps, T = index[rows], made.ledger.time_steps
    return [[((steps == t) & (heads == h)).nonzero().flatten().tolist() for h in range(H)] for t in range(T)]


def _steps(factors: ax.Axis, layout: matrices.Layout, T: int) -> Tensor | None:
    """The time step of every position of an axis: its one factor of T that holds neither images nor channels."""
    found, stride = [], 1
    for factor in reversed(factors):
        if factor.kind == ax.OTHER and factor.size == T:
            found.append(stride)
        stride *= factor.size
    if T == BATCH or len(found) != 1:  # with as many steps as images one could be taken for the other
        return None
    return torch.arange(stride) // found[0] % T


def received(layout: matrices.Layout, matrix: Tensor) -> Tensor:
    """Of a matrix the mean over the queries of the image, [image, copy, h, w]."""
    split = layout.split(matrix).float()  # [image, group, query, key]
    return layout.onto_grid(_of_image(layout, split))


def _of_image(layout: matrices.Layout, split: Tensor) -> Tensor:
    if layout.queries is None or bool((layout.queries.cells >= 0).all()):
        return split.mean(2)
    weight = torch.from_numpy(layout.queries.cells >= 0).to(split.device, split.dtype)  # [group, query]
    return torch.einsum("bgqk,gq->bgk", split, weight) / weight.sum(1)[:, None].clamp(min=1)


# ---------------------------------------------------------------------------------------------------------- capturing
def _captured(
    model: nn.Module, images: Tensor, body: Anatomy, targets: Sequence[Target], forward: Forward
) -> list[list[Tensor]]:
    """The calls of every target in one pass, which ends behind the last."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    sites: dict[Any, Any] = {}
    for target in targets:
        if target.site is not None and target.matrix:
            found = body.seen.matrices[target.site]
            layout = matrices.layout_of(body.seen, target.site, size)
            assert not isinstance(layout, str)
            sites[target.site] = (layout.operand, len(found), partial(received, layout))
        elif target.site is not None:
            sites[target.site] = (matrices.RESULT, len(body.seen.results[target.site]), lambda x: x)
    with ready(model), torch.no_grad():
        if len(sites) == len(targets):
            caught = matrices.catch(model, lambda: forward(model, images), sites)
            return [caught[target.site] for target in targets if target.site is not None]
        if sites:
            return [call for target in targets for call in _captured(model, images, body, [target], forward)]
        return _hooked(model, images, body, [target.path for target in targets], forward)


def _hooked(
    model: nn.Module, images: Tensor, body: Anatomy, paths: Sequence[str], forward: Forward
) -> list[list[Tensor]]:
    modules = dict(model.named_modules())
    found: dict[str, list[Tensor]] = {path: [] for path in paths}
    wanted: Mapping[str, int] = {
        path: len((body.seen.inputs if path.endswith(INPUT) else body.seen.outputs)[path.removesuffix(INPUT)])
        for path in found
    }

    def keep(path: str, value: Any) -> None:
        tensor = next((x for x in tensors_in(value) if x.dim()), None)
        if tensor is not None:
            found[path].append(tensor.detach())
        if all(len(found[p]) >= n for p, n in wanted.items()):
            raise Enough

    handles = []
    try:
        for path in found:
            module = modules[path.removesuffix(INPUT)]
            if path.endswith(INPUT):
                handles.append(
                    module.register_forward_pre_hook(
                        lambda m, args, kwargs, path=path: keep(path, (args, kwargs)), with_kwargs=True
                    )
                )
            else:
                handles.append(module.register_forward_hook(lambda m, args, out, path=path: keep(path, out)))
        with suppress(Enough):
            forward(model, images)
    finally:
        for handle in handles:
            handle.remove()
    missing = [path for path, calls in found.items() if len(calls) < wanted[path]]
    if missing:
        raise SpikeattnError(
            f"{missing[0]} of {body.name} was called {len(found[missing[0]])} times and {wanted[missing[0]]} times in "
            "the pass that had shown where its tokens are: does the model take another way from call to call?"
        )
    return [found[path] for path in paths]


_PLANS: WeakKeyDictionary[nn.Module, dict[Any, Plan | None]] = WeakKeyDictionary()


def plan_of(model: nn.Module, images: Tensor, forward: Forward = call_model) -> Plan | None:
    """What a profile would count, which says where time lies and what a spike is worth; None where it refuses."""
    known = _PLANS.setdefault(model, {})
    key = (fingerprint(model, images), forward)
    if key not in known:
        known[key] = None
        if nodes.has_neurons(model):
            for shown in (torch.cat([images[:1]] * 2), images[:1]):
                with suppress(SpikeattnError), nodes.uncompiled(), state_kept(model), nodes.evaluating(model):
                    known[key] = plan(model, shown, forward=forward, neurons=nodes.predicate_of(model))
                    break
    return known[key]


def image_by_image(model: nn.Module, images: Tensor, forward: Forward = call_model) -> bool:
    """Whether a network of neurons must see one image at a time: its images mix, or a plan cannot rule it out."""
    if not nodes.has_neurons(model):
        return False
    made = plan_of(model, images, forward)
    return made is None or made.one_image

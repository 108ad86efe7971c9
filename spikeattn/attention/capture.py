"""Running a model as far as its attention: the tensors at the taps of a map, and the state it is left in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.attention.map_sources import OTHERWISE, Tap, grid_of
from spikeattn.compat.spiking import is_spikformer
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.batch_parts import kind_of
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.network import check_module
from spikeattn.tracing.neurons import reset
from spikeattn.tracing.state import state_kept

Forward = Callable[[nn.Module, Tensor], Any]  # calls a model on a batch


class Enough(Exception):
    """Everything wanted was seen: the rest of the forward pass is not needed."""


def capture(
    model: nn.Module, images: Tensor, taps: tuple[Tap, ...], whole: bool = False
) -> tuple[list[Tensor], tuple[int, int], Tensor | None]:
    """The tensors at the taps, the grid of tokens, and the output of one forward pass.

    The pass ends at the last tap unless `whole`; then there is an output. Call it inside `ready(model)`.
    """
    seen: dict[int, Tensor] = {}
    grid: list[tuple[int, int]] = []
    handles = []

    def keep(number: int, value: Tensor) -> None:
        seen[number] = value
        if len(seen) == len(taps) and not whole:
            raise Enough

    def hook(number: int, tap: Tap) -> Any:
        if tap.read is None:
            return tap.module.register_forward_hook(lambda module, args, out: keep(number, out))
        if tap.output:
            return tap.module.register_forward_hook(lambda module, args, out: keep(number, tap.read(out)))
        return tap.module.register_forward_pre_hook(lambda module, args: keep(number, tap.read(*args)))

    def embedded(module: nn.Module, args: Any, out: Tensor) -> None:
        grid.append(grid_of(model, images, out))

    output = None
    try:
        handles.append(model.get_submodule("patch_embed").register_forward_hook(embedded))
        handles.extend(hook(number, tap) for number, tap in enumerate(taps))
        output = model(as_input(model, images))
    except Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(taps) or not grid:
        raise SpikeattnError(
            f"the forward pass of {type(model).__name__} went past {len(taps) - len(seen)} of the modules that show "
            f"its attention (a fused kernel of its own, perhaps); {OTHERWISE}"
        )
    return [seen[number] for number in range(len(taps))], grid[0], output


@contextmanager
def ready(model: nn.Module, attentions: tuple[nn.Module, ...] = ()) -> Iterator[None]:
    """The model in eval mode with neurons reset and `attentions` without fused kernels, which show no map; undone."""
    with unfused([module for module in attentions if hasattr(module, "fused_attn")]):
        with state_kept(model), in_eval(model):
            reset(model)
            yield


@contextmanager
def unfused(attentions: Iterable[Any]) -> Iterator[None]:
    """Layers of timm's form compute their attention step by step, and so show its matrix; undone."""
    before = [(attention, attention.fused_attn) for attention in attentions]
    try:
        for attention, _ in before:
            attention.fused_attn = False
        yield
    finally:
        for attention, fused in before:
            attention.fused_attn = fused


@contextmanager
def embedding_replaced(model: nn.Module, embedded: Tensor) -> Iterator[None]:
    """The patch embedding gives `embedded` instead of looking at its input."""
    embed: Any = model.get_submodule("patch_embed")
    embed.forward = lambda *args, **kwargs: embedded
    try:
        yield
    finally:
        del embed.forward


def check_images(model: nn.Module, images: Any) -> Tensor:
    """Images [B, C, H, W] or frames [B, T, C, H, W], on the model's device.

    Raises:
        SpikeattnError: no such tensor, none of them, NaN, or sides that the patch embedding cannot take.
    """
    check_module(model)
    if not isinstance(images, Tensor) or images.dim() not in (4, 5) or 0 in images.shape:
        shape = list(images.shape) if isinstance(images, Tensor) else kind_of(images)
        loader = not isinstance(images, Tensor | Mapping) and hasattr(images, "__iter__")
        batch = ("; of a dict, its tensor of images" if isinstance(images, Mapping) else "") or (
            "; of a loader, the images of one batch" if loader else ""
        )
        raise SpikeattnError(
            f"the images are {shape}; give a tensor [B, C, H, W], or frames [B, T, C, H, W], of 1 image or more "
            f"(one image: images[None]{batch})"
        )
    if not torch.isfinite(images).all():
        raise SpikeattnError("the images hold NaN or infinite values")
    embed, size = getattr(model, "patch_embed", None), tuple(images.shape[-2:])
    patch = getattr(embed, "patch_size", None)
    patch = (patch, patch) if isinstance(patch, int) else patch
    wanted = getattr(embed, "img_size", None) if getattr(embed, "strict_img_size", False) else None
    if wanted is not None and tuple(wanted) != size:
        raise SpikeattnError(
            f"the images have {size[0]}x{size[1]} pixels, the model takes {wanted[0]}x{wanted[1]}; resize them, or "
            "create the model with img_size=... or dynamic_img_size=True"
        )
    if patch is not None and (size[0] < patch[0] or size[1] < patch[1]):
        raise SpikeattnError(f"images of {size[0]}x{size[1]} pixels are smaller than a patch of {patch[0]}x{patch[1]}")
    parameter = next(model.parameters(), None)
    return images if parameter is None else images.to(parameter.device)


def as_input(model: nn.Module, images: Tensor) -> Tensor:
    """SpikingJelly's Spikformer takes frames as [T, B, C, H, W]."""
    return images.transpose(0, 1) if images.dim() == 5 and is_spikformer(model) else images


def call_model(model: nn.Module, images: Tensor) -> Any:
    """The model on a batch, as it takes one."""
    return model(as_input(model, images))

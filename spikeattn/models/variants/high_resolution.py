"""Finer feature maps from the same weights: strides removed from the last stages, and the loss to distil into them.

As in BR-NPA (https://arxiv.org/abs/2106.02566): a stride of 2 becomes 1 in the last stages of a CNN (14x14 to 56x56 for
a ResNet-50 at 448 pixels), and the low-resolution network teaches the high-resolution one. A Spike-driven Transformer
drops the last of its max-pools (14x14 to 28x28 tokens at 224 pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.tracing.modes import in_eval

Model = TypeVar("Model", bound=nn.Module)
Transformer = TypeVar("Transformer", bound=SpikeDrivenTransformer)
Size = tuple[int, int]
Strided = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def high_resolution(model: Model, stages: int = 1, input_size: tuple[int, int, int] | None = None) -> Model:
    """A copy with the same weights whose last feature map is 2 ** `stages` times finer in each direction.

    Args:
        model: a Spike-driven Transformer, or a CNN with `forward_features`, such as timm's; with or without a BR-NPA
            head.
        stages: how many of the last halvings to undo.
        input_size: (C, H, W) to trace a CNN with; default the one timm gives for the model.

    Raises:
        SpikeattnError: fewer halvings than `stages`, or a halving that is no stride of a convolution or a pool (an
            even kernel without overlap, a blur-pool), so that the map does not become finer as asked.
    """
    if isinstance(stages, bool) or not isinstance(stages, int) or stages < 1:
        raise SpikeattnError(f"stages is {stages!r}; it is the number of halvings to undo, a whole number from 1")
    if isinstance(model, SpikeDrivenTransformer):
        return _fewer_pools(model, stages)
    return _fewer_strides(model, stages, input_size)


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0, kl_share: float = 0.5
) -> Tensor:
    """kl_share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - kl_share) * cross-entropy, a mean.

    Args:
        student, teacher: logits [B, classes]; the teacher gets no gradient.
        labels: [B].
        temperature: T. The default, like that of `kl_share`, is ours.
        kl_share: weight of the teacher in [0, 1].
    """
    if student.shape != teacher.shape or temperature <= 0 or not 0 <= kl_share <= 1:
        raise SpikeattnError(
            f"distillation takes logits of one shape, a temperature above 0 and kl_share in [0, 1]; given are "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}, {temperature=}, {kl_share=}"
        )
    target = F.log_softmax(teacher.detach() / temperature, dim=1)
    kl = F.kl_div(F.log_softmax(student / temperature, dim=1), target, reduction="batchmean", log_target=True)
    return kl_share * temperature**2 * kl + (1 - kl_share) * F.cross_entropy(student, labels)


def _fewer_pools(model: Transformer, stages: int) -> Transformer:
    pooled = [i for i, stage in enumerate(model.config["pooling_stat"]) if stage == "1"]
    if len(pooled) < stages:
        raise SpikeattnError(
            f"cannot drop {stages} max-pools: pooling_stat {model.config['pooling_stat']!r} has {len(pooled)}"
        )
    kept = pooled[: len(pooled) - stages]
    stat = "".join("1" if i in kept else "0" for i in range(4))
    with torch.random.fork_rng(devices=[]):
        finer = type(model)(**(model.config | {"pooling_stat": stat}))
    finer.load_state_dict(model.state_dict())
    for name in ("default_cfg", "pretrained_cfg"):
        if hasattr(model, name):
            setattr(finer, name, getattr(model, name))
    reference = model.head.weight
    return finer.to(reference.device, reference.dtype).train(model.training)


def _fewer_strides(model: Model, stages: int, input_size: tuple[int, int, int] | None) -> Model:
    body = getattr(model, "body", model)
    if not hasattr(body, "forward_features"):
        raise SpikeattnError(
            f"{type(body).__name__} has no forward_features; give a Spike-driven Transformer or a CNN of timm"
        )
    input_size = image_size_of(body, input_size)
    finer = deepcopy(model)
    body = getattr(finer, "body", finer)
    before, strided = _trace(body, input_size)
    sizes = sorted({size for size, _ in strided})[:stages]  # of the coarsest maps that are still halved
    for module in (module for size, module in strided if size in sizes):
        if isinstance(module, nn.AvgPool2d) and module.kernel_size in (2, (2, 2)):
            module.kernel_size = 1  # the mean of a 2x2 cell, as in the short cut of a ResNet-D
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        else:
            module.stride = 1
    try:
        after = _trace(body, input_size)[0]
    except RuntimeError as error:
        raise SpikeattnError(f"the strides of {type(body).__name__} cannot be removed: {error}") from error
    if len(sizes) < stages or after != sizes[-1]:
        raise SpikeattnError(
            f"undoing {stages} halvings of {type(body).__name__} takes its {before[0]}x{before[1]} map to "
            f"{after[0]}x{after[1]}: it has {len({size for size, _ in strided})} halvings by a stride of a convolution "
            "or pool, and one of another kind (even kernel, blur-pool) may be in the way; use fewer stages"
        )
    return finer


@torch.no_grad()
def _trace(body: nn.Module, input_size: tuple[int, int, int]) -> tuple[Size, list[tuple[Size, Strided]]]:
    """Size of the last feature map, and every module of stride 2 with the size of the map it halves."""
    strided: list[tuple[Size, Strided]] = []

    def note(module: Strided, arguments: tuple[Tensor, ...]) -> None:
        if module.stride in (2, (2, 2)):
            strided.append((_size(arguments[0]), module))

    handles = [m.register_forward_pre_hook(note) for m in body.modules() if isinstance(m, Strided)]
    reference = next(body.parameters())
    try:
        with in_eval(body):
            zeros = torch.zeros(1, *input_size, dtype=reference.dtype, device=reference.device)
            features = features_of(body)(zeros)
    finally:
        for handle in handles:
            handle.remove()
    return _size(features), strided


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def features_of(body: nn.Module) -> Callable[[Tensor], Tensor]:
    """The `forward_features` of a network that has it, as timm's do."""
    network: Any = body
    forward: Callable[[Tensor], Tensor] = network.forward_features
    return forward


def image_size_of(body: nn.Module, input_size: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """(C, H, W) of a timm network's images: the one given, or H and W from timm and C from its first convolution.

    Raises:
        SpikeattnError: none is given, and the network does not carry one.
    """
    if input_size is not None:
        return input_size
    size = (getattr(body, "pretrained_cfg", None) or {}).get("input_size")
    if size is None:
        raise SpikeattnError(f"give the input_size=(C, H, W) of {type(body).__name__}: the model does not carry one")
    first = next((module for module in body.modules() if isinstance(module, nn.Conv2d)), None)
    return (size[0] if first is None else first.in_channels, size[1], size[2])  # in_chans= leaves timm's size as it was

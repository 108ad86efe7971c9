"""Images and labels of one batch, in whatever form a loader gives it, and on which axis the images lie.

The axis is told by the labels, of which there is one per image, or by `layout=`; a batch that fits both orders and says
neither is taken as [B, ...], and the examination of the network refuses it where its time runs along that axis.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.kinds import UNORDERED
from spikeattn.tracing.named_parts import Called, listed, named_parts
from spikeattn.tracing.targets import form_of_targets

EXPECTED = (
    "expected (images, labels), images or a dict of them, with images a tensor [B, C, H, W], [B, T, C, H, W] or "
    "[T, B, C, H, W]"
)


@dataclass(frozen=True)
class Parts:
    """A batch taken apart.

    Attributes:
        images: [B, ...]; a view of what the loader gave, where that is [T, B, ...].
        labels: int64 [B]; None where the batch has none.
        time_first: whether the loader gave [T, B, ...]; None where nothing told it, and images are taken to come first.
        targets: labels of another task than classification, in words; they tell no order.
    """

    images: Tensor
    labels: Tensor | None
    time_first: bool | None
    targets: str | None = None


def call_of(model: nn.Module) -> Called:
    """How a model is called where no `forward=` says it."""
    try:
        parameters = tuple(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):  # compiled by others, without a signature
        parameters = ()
    return Called(type(model).__name__, parameters)


def turned(forward: Callable[[nn.Module, Tensor], Any], axis: int = 1) -> Callable[[nn.Module, Tensor], Any]:
    """A call on input whose images lie along `axis`, as one on images that lie along the first."""
    return lambda model, images: forward(model, images.transpose(0, axis))


def parts_of(item: Any, where: str, layout: str | None = None, called: Called | None = None) -> Parts:
    """Images and labels of a batch.

    Args:
        where: the batch, as errors name it.
        layout: "TB" or "BT", where the user says which axis is which.
        called: how the model is called, where no `forward=` says it; see `named_parts`.

    Raises:
        SpikeattnError: naming the batch: neither (images, labels) nor images nor a dict of them; images that hold no
            plain numbers; labels that are not one whole number per image, and of no other task (`form_of_targets`).
    """
    while isinstance(item, (tuple, list)) and len(item) == 1 and isinstance(item[0], Mapping):
        item = item[0]  # one dict per device, as DALI gives them
    named = isinstance(item, Mapping)
    if isinstance(item, Mapping):
        images, labels = named_parts(item, where, called)
    else:
        images, labels = (item[0], item[1]) if isinstance(item, (tuple, list)) and len(item) >= 2 else (item, None)
        if isinstance(images, (tuple, list)) and len(images) == 1:
            images = images[0]
    images = _tensor(images, where)
    if isinstance(images, Tensor) and images.is_nested:
        raise SpikeattnError(f"{where} is a nested tensor of images of several sizes; give images of one size")
    if not isinstance(images, Tensor) or images.dim() < 2:
        shape = f" of shape {tuple(images.shape)}" if isinstance(images, Tensor) else ""
        first = images is item or named
        given = f"{kind_of(item)}{shape}" if first else f"{kind_of(item)} with {kind_of(images)}{shape} first"
        raise SpikeattnError(f"{where} is {given}; {EXPECTED}")
    if isinstance(labels, Tensor) and labels.shape == images.shape and not _tells(labels, images):
        raise SpikeattnError(
            f"{where} is a {kind_of(item)} of {len(item)} tensors of one shape, {tuple(images.shape)}, where (images, "
            "labels) or images are expected: join images by torch.stack, and leave out what the network shall give, by "
            "(batch[0] for batch in loader)"
        )
    _check_images(images, where)
    targets = form_of_targets(labels, images.shape[int(layout == "TB")])
    known = None if labels is None or targets is not None else _labels(labels, where)
    time_first = _order(images, known, layout, where)
    return Parts(images.transpose(0, 1) if time_first else images, known, time_first, targets)


def _tells(labels: Tensor, images: Tensor) -> bool:
    """Whether a second tensor of the images' shape is none of images: classes of pixels, the next tokens of tokens."""
    tokens = images.dim() == 2 and not images.is_floating_point()
    return not labels.is_floating_point() and (images.is_floating_point() or tokens)


def kind_of(item: Any) -> str:
    """The type of what was given, with the keys of a dict."""
    keys = listed(item) if isinstance(item, Mapping) else ""
    return f"{type(item).__name__} of {keys}" if keys else type(item).__name__


def _tensor(images: Any, where: str) -> Any:
    """An array of numbers as a tensor of the same values and type; everything else as it is."""
    if not isinstance(images, np.ndarray):
        return images
    try:
        # torch takes neither read-only arrays nor those of another machine's byte order
        return torch.from_numpy(np.require(images, images.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError) as error:
        raise SpikeattnError(
            f"{where} has images in an array of type {images.dtype}, which torch has no tensor for; give numbers of "
            "one size, such as float32 or uint8"
        ) from error


def _order(images: Tensor, labels: Tensor | None, layout: str | None, where: str) -> bool | None:
    """Whether the images lie along axis 1, behind the time; None where nothing tells."""
    shape, n = tuple(images.shape), None if labels is None else len(labels)
    first, second = n == shape[0], images.dim() > 2 and n == shape[1]
    if layout == "TB" and (images.dim() < 3 or (n is not None and not second)):
        told = "" if n is None else f" and {n} labels"
        raise SpikeattnError(
            f'layout="TB" says that the loader gives [T, B, ...], and {where} has images of shape {shape}{told}; leave '
            "layout out where images come first"
        )
    if layout is None and not first and second:
        return True
    if layout != "TB" and n is not None and not first:
        told = f', by layout="BT" and its shape {shape}' if second else ""
        raise SpikeattnError(
            f"{where} has {shape[0]} images and {n} labels{told}; give one whole number per image, -1 where its class "
            "is unknown, or the images alone"
        )
    if layout is None and (n is None or second):
        return None
    return layout == "TB"


def _check_images(images: Tensor, where: str) -> None:
    """Refuse tensors that hold no values, or hold them in a way in which nobody can look for NaN or cut out images."""
    form = None
    if images.is_meta:
        form = "on the meta device, without values"
    elif images.layout != torch.strided:
        form = f"sparse ({images.layout}; images.to_dense() is dense)"
    elif images.is_quantized or images.dtype in UNORDERED:
        form = f"of type {images.dtype}"
    if form is not None:
        raise SpikeattnError(
            f"{where} has images {form}; give them dense, as numbers that can be compared, such as float32 or uint8, "
            "and convert them in forward= where the model takes others"
        )
    if len(images) and not images.numel():
        raise SpikeattnError(
            f"{where} has images of shape {tuple(images.shape)}, without a single value in them; {EXPECTED}"
        )


def _labels(labels: Any, where: str) -> Tensor:
    """int64 [B]; whatever is no whole number is an error, for it would be counted as another class."""
    reason = type(labels).__name__
    known: Tensor | None
    try:
        known = torch.as_tensor(labels)
        if known.is_complex() or known.is_meta:
            reason = "complex" if known.is_complex() else "on the meta device"
            known = None
    except (TypeError, ValueError, RuntimeError):
        known = None
    if known is None:
        raise SpikeattnError(
            f"{where} has labels that are no numbers ({reason}); give each image's class as a whole number, -1 where "
            "it is unknown, or the images alone"
        )
    if known.dim() > 1 and known.numel() != len(known):
        raise SpikeattnError(
            f"{where} has labels of shape {tuple(known.shape)}; give one whole number per image, which of one-hot "
            "labels is labels.argmax(1), -1 where its class is unknown, or the images alone"
        )
    known = known.reshape(-1)
    whole = known.long()
    if known.is_floating_point() and not bool((whole == known).all()):
        raise SpikeattnError(
            f"{where} has labels that are no whole numbers, such as {known[whole != known][0].item():g}; give the "
            "number of each image's class, -1 where it is unknown"
        )
    return whole

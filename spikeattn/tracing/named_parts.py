"""Images and labels of a batch that names its parts: a dict, as Hugging Face's data sets and feature extractors give.

A part is taken where exactly one fits by its name. Where several do, or none does, the error says which names there
are: what is inside a tensor never decides what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from spikeattn.errors import SpikeattnError

# What data sets and their tools call the model's input: transformers, datasets, MONAI, DALI, plain collate functions.
IMAGES = (
    "pixel_values", "pixel_values_videos", "image", "images", "img", "imgs", "frames", "events", "video",
    "input_values", "input_features", "input_ids", "x", "input", "inputs", "data",
)  # fmt: skip
LABELS = ("labels", "label", "target", "targets", "y", "class", "classes", "cls", "label_ids")
_OF_LABELS = {"label", "labels", "target", "targets", "class", "cls"}  # as a word of a longer name: fine_label
_NUMBERING = {"id", "ids", "idx", "index", "indices", "key"}  # as the last word of a name: no classes
_SHOWN = 8  # keys in an error


@dataclass(frozen=True)
class Called:
    """How a model is called where no `forward=` says it: the names of the parameters of its forward, in order."""

    model: str
    parameters: tuple[str, ...]


def listed(item: Mapping[Any, Any]) -> str:
    """The keys of a dict as an error shows them."""
    keys = [repr(key) for key in item]
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def named_parts(item: Mapping[Any, Any], where: str, called: Called | None) -> tuple[Any, Any]:
    """Images and labels of a batch that names them; None for labels that it does not have.

    Args:
        where: the batch, as errors name it.
        called: how the model is called; None where a `forward=` of the user's calls it.

    Raises:
        SpikeattnError: several parts or none that may be the images, several that may be the labels, one row of a data
            set, or parts that the model takes beside the images.
    """
    image = _image_key(item, where)
    label = _label_key(item, image, where)
    if called is not None:
        _check_call(item, image, label, where, called)
    labels = None if label is None else item[label]
    if labels is not None and not isinstance(labels, list | tuple | str | Mapping) and np.ndim(labels) == 0:
        raise SpikeattnError(
            f"{where} is {_kind(item)} whose {label!r} is one number: a row of a data set, not a batch; give "
            "torch.utils.data.DataLoader(dataset, batch_size=...)"
        )
    return item[image], labels


def _image_key(item: Mapping[Any, Any], where: str) -> Any:
    called = [key for key in item if _name(key) in IMAGES]
    tensors = [key for key in called if isinstance(item[key], Tensor | np.ndarray)]
    if len(tensors) == 1:
        return tensors[0]
    if tensors:
        raise SpikeattnError(
            f"{where} is {_kind(item)}, and {_either(tensors)} may be the images; choose one by a generator such as "
            f"{_generator(tensors[0], item)}"
        )
    if called:
        held, key = item[called[0]], called[0]
        raise SpikeattnError(
            f"{where} is {_kind(item)}, and {key!r} holds {_described(held)}, where a tensor [B, ...] is expected; "
            'stack the images, or let the data set give tensors: dataset.with_format("torch") of Hugging Face\'s'
        )
    others = [key for key, held in item.items() if isinstance(held, Tensor | np.ndarray) and held.ndim > 1]
    raise SpikeattnError(
        f"{where} is {_kind(item)}, none of which is a name of images; valid are {', '.join(IMAGES)}: rename it, or "
        f"give a generator such as {_generator(others[0] if len(others) == 1 else 'KEY', item)}"
    )


def _label_key(item: Mapping[Any, Any], image: Any, where: str) -> Any:
    others = [key for key, held in item.items() if key != image and held is not None]
    found = [key for key in others if _name(key) in LABELS]
    found = found or [key for key in others if _OF_LABELS & set(_name(key).split("_")) and _are_numbers(item[key])]
    if len(found) > 1:
        raise SpikeattnError(
            f"{where} is {_kind(item)}, and {_either(found)} may be the labels; choose one by a generator such as "
            f"((batch[{image!r}], batch[{found[0]!r}]) for batch in loader)"
        )
    if found:
        return found[0]
    shape = np.shape(item[image])[:2]
    unnamed = [
        key for key in others
        if _are_numbers(item[key]) and np.ndim(item[key]) == 1 and len(item[key]) in shape
        and _name(key).split("_")[-1] not in _NUMBERING
    ]  # fmt: skip
    if unnamed:
        raise SpikeattnError(
            f"{where} is {_kind(item)}, none of which is a name of labels ({', '.join(LABELS)}), and {unnamed[0]!r} "
            "holds one whole number per image: give a generator such as "
            f"((batch[{image!r}], batch[{unnamed[0]!r}]) for batch in loader) if these are the classes, or "
            f"(batch[{image!r}] for batch in loader) if not"
        )
    return None


def _check_call(item: Mapping[Any, Any], image: Any, label: Any, where: str, called: Called) -> None:
    """The model is called with the images alone: what else it takes of the batch must not be lost in silence."""
    more = [key for key in item if key in called.parameters and key not in (image, label)]
    if more:
        raise SpikeattnError(
            f"{where} is {_kind(item)}, and {called.model} takes {_all(more)} too, while it is called with the images "
            f"alone; forward=lambda model, images: model({_argument(image, called)}) runs it without, and a forward of "
            "your own can make it of the images"
        )
    if image in called.parameters and called.parameters[0] != image:
        raise SpikeattnError(
            f"{where} is {_kind(item)}, and {called.model} takes {image!r} by its name, while it is called as "
            f"model(images); give forward=lambda model, images: model({image}=images)"
        )


def _argument(image: Any, called: Called) -> str:
    return f"{image}=images" if image in called.parameters else "images"


def _name(key: Any) -> str:
    return key.lower() if isinstance(key, str) else ""


def _kind(item: Mapping[Any, Any]) -> str:
    return f"{type(item).__name__} of {listed(item)}" if len(item) else f"an empty {type(item).__name__}"


def _all(keys: Sequence[Any]) -> str:
    return " and ".join(map(repr, keys))


def _either(keys: Sequence[Any]) -> str:
    return " or ".join(map(repr, keys))


def _generator(image: Any, item: Mapping[Any, Any]) -> str:
    labels = [key for key in item if _name(key) in LABELS]
    if len(labels) == 1:
        return f"((batch[{image!r}], batch[{labels[0]!r}]) for batch in loader)"
    return f"(batch[{image!r}] for batch in loader)"


def _described(held: Any) -> str:
    if isinstance(held, list | tuple) and held:
        return f"a {type(held).__name__} of {len(held)} {type(held[0]).__name__}"
    return type(held).__name__


def _are_numbers(held: Any) -> bool:
    """Whether a part holds whole numbers, as classes are."""
    if isinstance(held, Tensor):
        return not held.is_floating_point() and not held.is_complex()
    if isinstance(held, np.ndarray):
        return held.dtype.kind in "iu"
    if isinstance(held, list | tuple):
        return bool(held) and all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in held)
    return False

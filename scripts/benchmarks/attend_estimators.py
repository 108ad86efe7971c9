"""What the estimators of `attend` cost beside each other: the default, that of the first edition, the paper's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.significance import DEFAULT_ESTIMATOR, AttentionWarning

from .timing import Round, alternate, medians, ratio

FIRST = "plus-one"  # the default of the first edition
COMPARED = (FIRST, DEFAULT_ESTIMATOR, "published")
MEASURES = ("z", "p", "q", "lfdr")  # read from every result, since some of them are made when they are asked for
DIGITS = 8


def compare(
    vit: nn.Module, image: Tensor, B: int, rounds: int, device: str
) -> tuple[dict[str, list[Round]], list[tuple[str, ...]]]:
    """Rounds by network, and a table: the ViT of the page on one image, sdt_digits on digits with all its layers.

    On maps of spikes the default answers two questions, how much and where; it is timed with both and with the first.
    """
    digits = sa.load_model("sdt_digits", pretrained=True).to(device)
    few = torch.stack([sa.open_dataset("digits", digits)[i][0] for i in range(DIGITS)]).to(device)
    networks: dict[str, tuple[nn.Module, Tensor, dict[str, Any]]] = {
        f"one image, B = {B}, as above": (vit, image[None], {"replicates": B}),
        f"sdt_digits, {DIGITS} images, both layers, B = 200": (digits, few, {"replicates": 200, "layer": "all"}),
    }
    measured: dict[str, list[Round]] = {}
    table: list[tuple[str, ...]] = [("estimators", "s", f"of {FIRST}")]
    for name, (model, images, options) in networks.items():
        contestants = {each: _call(model, images, each, options) for each in COMPARED}
        if model is digits:
            contestants |= {f"{DEFAULT_ESTIMATOR}, and where": _call(model, images, DEFAULT_ESTIMATOR, options, True)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttentionWarning)
            measured[name] = alternate(contestants, rounds, device)
        table += [
            (f"{name}: {each}", f"{seconds:.3f}", f"{ratio(measured[name], each, FIRST):.3f}")
            for each, seconds in medians(measured[name]).items()
        ]
    return measured, table


def _call(
    model: nn.Module, images: Tensor, estimator: str, options: dict[str, Any], where: bool = False
) -> Callable[[], None]:
    def run() -> None:
        found = sa.attend(model, images, estimator=estimator, **options)
        for name in MEASURES:
            getattr(found, name)
            if where:
                getattr(found.answer("where"), name)

    return run

"""Every way to join wrongly: other images, networks, grids, axes, and arguments that do not exist."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.spurious import silencing_curve, spurious_energy
from tests.attention.cases import images_of, sdt
from tests.spurious.cases import case


def test_attention_without_tokens_or_of_other_images(lif):
    model, images, profile, attention = lif
    with pytest.raises(SpikeattnError, match="no token counts.*tokens=True"):
        spurious_energy(profile, replace(attention, tokens=None))
    with pytest.raises(SpikeattnError, match="zero images"):
        spurious_energy(profile, [])
    elsewhere = sa.attend(model, images, "pixel", 2, layer="all", tokens=True, indices=[0, 1, 77])
    with pytest.raises(SpikeattnError, match="does not hold 1 of 3 attended images, the first is number 77"):
        spurious_energy(profile, elsewhere)
    swapped = sa.attend(model, images, "pixel", 2, layer="all", tokens=True, indices=[1, 0, 2])
    with pytest.raises(SpikeattnError, match=r"tokens of block\.0\.attn\.\w+ in image 1 .*different passes"):
        spurious_energy(profile, swapped)
    with pytest.raises(SpikeattnError, match="layer 0 of image 0 stands twice"):
        spurious_energy(profile, [attention, attention])
    other = sa.attend(model, images[2:], "normal", 3, layer="all", tokens=True, indices=[2])
    with pytest.raises(SpikeattnError, match="differ in null: 'pixel' and 'normal'"):
        spurious_energy(profile, [attention, other])
    first = sa.attend(model, images[:1], "pixel", 2, layer=0, tokens=True)
    second = sa.attend(model, images[1:2], "pixel", 2, layer=1, tokens=True, indices=[1])
    with pytest.raises(SpikeattnError, match="image 0 was not attended at layer 1"):
        spurious_energy(profile, [first, second])
    by_head = sa.attend(model, images[2:], "pixel", 2, layer="all", heads="each", tokens=True, indices=[2])
    rest = sa.attend(model, images[:2], "pixel", 2, layer="all", tokens=True)
    with pytest.raises(SpikeattnError, match="by head"):
        spurious_energy(profile, [rest, by_head])


def test_other_networks(lif):
    _, _, profile, attention = lif
    longer = sdt(time_steps=3)
    with pytest.raises(SpikeattnError, match="2 time steps.*tokens 3"):
        spurious_energy(profile, case(longer, images_of(longer))[1])
    wider = sdt(embed_dim=32)
    with pytest.raises(SpikeattnError, match="another network or input size"):
        spurious_energy(profile, case(wider, images_of(wider))[1])
    twin = sdt(seed=4)  # the same structure with other weights
    with pytest.raises(SpikeattnError, match="different passes: other weights"):
        spurious_energy(profile, case(twin, images_of(twin))[1])


def test_other_grids_and_axes(lif):
    model, images, profile, attention = lif
    halved = replace(attention, maps=attention.maps[..., ::2, ::2])
    with pytest.raises(SpikeattnError, match="maps of the attention are 4x4 and the tokens 8x8"):
        spurious_energy(profile, halved)
    whole = sa.attend(model, images, "pixel", 2, layer="all", tokens=True)
    with pytest.raises(SpikeattnError, match="null of the attention are 4x8"):
        spurious_energy(profile, replace(whole, null_maps=whole.null_maps[..., ::2, :]))
    steps = sa.attend(model, images, "pixel", 2, steps="each", tokens=True)
    with pytest.raises(SpikeattnError, match="axes image, step, row, column"):
        spurious_energy(profile, steps)


def test_arguments(lif):
    model, images, profile, attention = lif
    for options, message in (
        ({"method": "lfd"}, "did you mean"),
        ({"method": "soft", "threshold": 0.1}, "has no threshold"),
        ({"threshold": 1.5}, "probability"),
        ({"convention": "exakt"}, "did you mean"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            spurious_energy(profile, attention, **options)
    loader = [(images, torch.zeros(3))]
    for options, message in (
        ({"method": "soft"}, "unknown method"),
        ({"below": "drop"}, "unknown below"),
        ({"controls": ("chance",)}, "unknown control"),
        ({"draws": 0}, "at least one"),
        ({"thresholds": (2.0,)}, "at most 1"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            silencing_curve(model, loader, attention, **options)
    with pytest.raises(SpikeattnError, match="does not give 1 of 3 attended images, the first is number 2"):
        silencing_curve(model, [(images[:2], torch.zeros(2))], attention)


def test_a_statistic_of_ones_own_is_named(lif):
    model, images, profile, _ = lif

    def brightness(model, images):
        return torch.nn.functional.avg_pool2d(images, 2)[:, 0]

    found = spurious_energy(profile, sa.attend(model, images, "pixel", 5, brightness, tokens=True))
    assert found.layers == (1,) and any(note.startswith("own-statistic: brightness") for note in found.notes)

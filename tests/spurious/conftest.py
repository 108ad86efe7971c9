"""A tiny network with made-up significance, and the demo model with that of its own attention."""

from __future__ import annotations

import pytest

import spikeattn as sa
from tests.attention.cases import images_of, sdt
from tests.spurious.cases import case


@pytest.fixture(scope="module")
def lif():
    model = sdt()
    return model, images_of(model), *case(model, images_of(model))


@pytest.fixture(scope="session")
def digits():
    model = sa.create_model("sdt_digits", pretrained=True)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=12, limit=24)
    found = [
        sa.attend(model, b.images, "pixel", 40, layer="all", tokens=True, indices=b.index.tolist()) for b in loader
    ]
    return model, loader, sa.profile(model, loader), found

"""One result of every kind that a notebook shows, of the demo model."""

from __future__ import annotations

import warnings

import pytest

import spikeattn as sa
from spikeattn.stats.intervals import wilson_interval

KINDS = ("profile", "attention", "spurious", "interval", "quantity", "published")
Results = dict[str, object]


@pytest.fixture(scope="package")
def results() -> Results:
    model = sa.create_model("sdt_digits", pretrained=True)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=4, limit=4)
    with warnings.catch_warnings():  # of few images and few replicates, which are meant
        warnings.simplefilter("ignore")
        profile = sa.profile(model, loader)
        attention = sa.attend(model, next(iter(loader)).images, "pixel", 40, layer="all", tokens=True)
        spurious = sa.spurious_energy(profile, attention)
    return {
        "profile": profile, "attention": attention, "spurious": spurious, "interval": wilson_interval(3, 4),
        "quantity": profile.energy().total, "published": sa.reproduce(),
    }  # fmt: skip

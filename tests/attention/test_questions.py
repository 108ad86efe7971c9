"""Which questions maps can be asked, and which of them two networks share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.attention.questions import answers, check_comparable, image_by_image, shared


@pytest.fixture(scope="module")
def attended() -> dict[str, sa.Attention]:
    torch.manual_seed(0)
    spikes, softmax = (sa.load_model(name, pretrained=True) for name in ("sdt_digits", "vit_digits"))
    data = sa.open_dataset("digits", spikes)
    images = torch.stack([data[i][0] for i in range(2)])
    return {
        "spikes": sa.attend(spikes, images, "pixel", 8, layer="all"),
        "gate": sa.attend(spikes, images, "pixel", 8, "gate"),
        "exact": sa.attend(spikes, images, "exact"),
        "softmax": sa.attend(softmax, images, "pixel", 8),
        "own": sa.attend(softmax, images, "normal", 8, brightness),
    }


def brightness(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A map whose total is free, of a network without spikes."""
    return images.abs().mean(1) + 0.1


def test_all_maps_but_those_of_softmax_attention_have_a_second_answer(attended) -> None:
    assert [name for name, one in attended.items() if len(answers(one)) == 2] == ["spikes", "gate", "own"]


@pytest.mark.parametrize(
    ("first", "second", "questions"),
    [
        ("spikes", "gate", ("how much", "where")),
        ("spikes", "softmax", ("where",)),
        ("softmax", "spikes", ("where",)),
        ("own", "softmax", ("where",)),
        ("softmax", "softmax", ("how much",)),
        ("exact", "exact", ("how much",)),
    ],
)
def test_two_networks_are_asked_what_both_can_answer(attended, first, second, questions) -> None:
    assert shared(attended[first], attended[second]) == questions


def test_an_image_of_a_batch_has_the_answers_that_it_has_in_the_batch(attended) -> None:
    batch = attended["spikes"]
    for number, one in enumerate(image_by_image(batch)):
        assert np.array_equal(one.q[0], batch.q[number])
        assert np.array_equal(one.where.q[0], batch.where.q[number])
        assert one.provenance["indices"] == [number]


def test_the_exact_null_beside_softmax_is_refused_before_anything_is_looked_at() -> None:
    def study(name: str, kind: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, kind=kind, settings=SimpleNamespace(null="exact"))

    with pytest.raises(sa.SpikeattnError, match='sdt beside ann: only "where" can be asked of both'):
        check_comparable([study("ann", "received"), study("sdt", "Vhat_S")])
    check_comparable([study("sdt", "Vhat_S"), study("other", "V_S")])
    check_comparable([study("ann", "received")])

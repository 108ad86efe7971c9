"""Structure of strange published families: what is understood is right, what is not is "other", never a wrong guess."""

from __future__ import annotations

import pytest

import spikeattn as sa
from tests.structure import strange_networks as strange


def found(name: str) -> dict[str, tuple[str, int | None, str | None]]:
    model = strange.NETWORKS[name]()
    return {e.name: (e.part, e.block, e.role) for e in sa.structure(model, strange.images(name)).entries["synapses"]}


@pytest.mark.parametrize("name", strange.NETWORKS)
def test_strange_families(name: str) -> None:
    got, truth = found(name), strange.NETWORKS[name]().truth
    assert {key: got.get(key) for key in truth} == truth


def test_distances_in_place_of_products_give_no_role() -> None:
    got = found("similarity")
    assert {got[f"mixers.0.{n}"] for n in ("alpha", "beta", "gamma")} == {("QKV", 0, None)}


def test_haar_matrices_mix_tokens() -> None:
    got = found("haar")
    assert {part for name, (part, _, _) in got.items() if "mm_" in name} == {"mixing"}
    assert got["mixers.1.weights"] == ("other", 1, None)


def test_recurrent_layers_are_no_feed_forward() -> None:
    assert {found("recurrent")[f"mixers.1.{n}"][:2] for n in "rkvo"} == {("other", 1)}


def test_gates_of_attention_and_scores_of_tokens() -> None:
    assert found("self gated")["mixers.0.delta"] == ("gate", 0, None)
    assert found("pruned")["score"] == ("other", None, None)


def test_layers_of_a_detector_are_its_head() -> None:
    got = found("pyramid")
    assert {got[n][0] for n in ("lateral", "smooth", "boxes", "classes")} == {"head"}


def test_a_graph_network_without_attention_is_no_transformer() -> None:
    assert {part for part, _, _ in found("graph").values()} <= {"other", "head", "conv", "gate"}

"""Which questions the maps of a network can be asked, and which of them two networks can both be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spikeattn.attention.applied_maps import KINDS
from spikeattn.attention.bootstrap_test import QUESTIONS, Answer, Attention
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.attention.study import Study

HOW_MUCH, WHERE = QUESTIONS


def answers(attention: Attention) -> dict[str, Answer]:
    """The answers by question: "how much", and "where" for maps that have a second answer; see `Attention.where`."""
    by_question: dict[str, Answer] = {HOW_MUCH: attention}
    if attention.where is not None:
        by_question[WHERE] = attention.where
    return by_question


def image_by_image(attention: Attention) -> list[Attention]:
    """The attention to every image of a batch by itself, without token counts; each as `attend` gives it for one."""
    n = len(attention.maps)
    each = len(attention.significance) // n
    null = attention.null_maps
    return [
        replace(
            attention,
            maps=attention.maps[i : i + 1],
            significance=attention.significance[i * each : (i + 1) * each],
            null_maps=None if null is None else null[i : i + 1],
            provenance=attention.provenance | {"indices": attention.provenance["indices"][i : i + 1]},
            tokens=None,
            images=None if attention.images is None else attention.images[i : i + 1],
        )
        for i in range(n)
    ]


def shared(first: Attention, second: Attention) -> tuple[str, ...]:
    """The questions that the maps of two networks can both be asked, so that a comparison never mixes two.

    Both questions where both have two answers; "where" alone where one of them has softmax attention, whose sum is
    constant; "how much" where both have one answer, which is the only one.
    """
    both = [set(answers(each)) for each in (first, second)]
    if both[0] != both[1]:
        return (WHERE,)
    return tuple(question for question in QUESTIONS if question in both[0])


def check_comparable(studies: Sequence[Study]) -> None:
    """Whether two networks can be asked one question, before any image is looked at.

    Raises:
        SpikeattnError: null="exact" with spikes and softmax attention side by side: they share "where" alone, which
            needs replicates.
    """
    if len(studies) < 2 or studies[0].settings.null != "exact":
        return
    names = {study.kind in KINDS: study.name for study in studies}
    if len(names) == 2:
        raise SpikeattnError(
            f'null exact, {names[False]} beside {names[True]}: only "where" can be asked of both spikes and softmax '
            "attention, and it needs replicates; take another null, such as pixel, or leave the second network out"
        )

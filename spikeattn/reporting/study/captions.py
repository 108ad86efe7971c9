"""What is said of the maps of a `Study`: its title, how its maps are made, the names of their rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from spikeattn.attention.questions import WHERE, answers, shared
from spikeattn.attention.study import Study

SCORES = {
    "Vhat_S": "Vhat_S spikes per neuron and step",
    "V_S": "V_S spikes per neuron and step",
    "gate": "share of V_S spikes let through",
    "drive": "k·v spikes per neuron and step",
    "ssa": "q·k per query, channel and step",
    "rate": "spikes per neuron and step",
    "cls": "attention weight of the class token",
    "received": "mean attention weight received",
    "rollout": "attention flow",
    "products": "matrix entry, mean over queries",
}


def title_of(study: Study) -> str:
    """The name of the network for figures and tables; random weights are named."""
    return f"UNTRAINED {study.name}" if study.untrained else study.name


def score_of(study: Study) -> str:
    """What a score of the map is."""
    return score_text(study.kind, study.outlook.steps)


def score_text(kind: str, spikes: bool) -> str:
    """What a score of a kind of map is, by its name; `spikes` where others than those of `SCORES` are rates."""
    return SCORES.get(kind) or f"{kind}: {'spikes per neuron and step' if spikes else 'mean over channels'}"


def details_of(study: Study) -> str:
    """How the maps shown in panels are made and tested, in a line."""
    s, known = study.settings, study.outlook.layer is None
    block = (study.layers[-1], study.outlook.blocks) if known else None
    return details_text(study.kind, block, s.null, s.replicates, s.estimator)


def details_text(kind: str, block: tuple[int, int] | None, null: str, replicates: int, estimator: str) -> str:
    """How a kind of map is made and tested, in a line.

    Args:
        block: its number, from 0, and how many there are; None of a tensor named by its path.
    """
    place = kind if block is None else f"{kind} of block {block[0] + 1} of {block[1]}"
    return f"{place}; null: exact" if null == "exact" else f"{place}; null: {null}, B = {replicates}; {estimator} p"


def shared_of(studies: Sequence[Study]) -> tuple[tuple[str, ...], str]:
    """The questions that two networks can both be asked, and in a sentence why these; see `shared`."""
    first, second = (study.attentions[0] for study in studies)
    questions = shared(first, second)
    one, other = title_of(studies[0]), title_of(studies[1])
    if len(answers(first)) != len(answers(second)):
        softmax = other if len(answers(second)) == 1 else one
        return questions, (
            f"Both are asked where their attention is, whatever the total: that of {softmax} always adds up to the "
            "same, so how much cannot be compared."
        )
    if WHERE in questions:
        return questions, f"{one} and {other} are both asked how much attention a token gets, and where it is."
    return questions, f"{one} and {other} have one question in common: which tokens get more attention than noise."


def grid_details_of(study: Study) -> str:
    """How the maps of a grid are made, in a line."""
    over = "every head" if study.outlook.heads else "the mean"
    over = "every time step, and their mean" if study.outlook.steps else over
    over = f"every layer and {over}" if study.outlook.alike and study.outlook.layer is None else over
    over = "all layers up to each" if study.kind == "rollout" else over
    return f"{study.kind} of {over}"


def columns_of(study: Study) -> list[str]:
    """Names of the columns of a grid."""
    columns = study.grids[0].shape[1]
    if study.outlook.steps:
        return [*(f"t = {t + 1}" for t in range(columns - 1)), "mean"]
    return [f"head {i + 1}" for i in range(columns)] if study.outlook.heads else ["mean head"]


def warning_of(studies: Sequence[Study]) -> str:
    """The line under every figure where a network has random weights."""
    names = [study.name for study in studies if study.untrained]
    return (
        f"UNTRAINED: the weights of {' and '.join(names)} are random; this picture describes nothing" if names else ""
    )

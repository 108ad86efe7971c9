"""What is said of the maps of a `Study`: its title, how its maps are made, the names of their rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

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
    if study.kind in SCORES:
        return SCORES[study.kind]
    return f"{study.kind}: {'spikes per neuron and step' if study.outlook.steps else 'mean over channels'}"


def details_of(study: Study) -> str:
    """How the maps shown in panels are made and tested, in a line."""
    s = study.settings
    block = f"{study.kind} of block {study.layers[-1] + 1} of {study.outlook.blocks}"
    block = study.kind if study.outlook.layer is not None else block
    if s.null == "exact":
        return f"{block}; null: exact"
    return f"{block}; null: {s.null}, B = {s.replicates}; {s.estimator} p"


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

"""The share of spurious energy by specification: every null, question and rule that the attention can answer.

"No more than noise" has no one meaning. What a null keeps, where the threshold lies, and whether a token must have more
attention than noise or more than its share of it are choices, and the share moves more with them than with the images.
So the grid of all of them stands beside the line that was chosen (Simonsohn, Simmons and Nelson, Specification curve
analysis, Nature Human Behaviour 2020, https://doi.org/10.1038/s41562-020-0912-z).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.attention.bootstrap_test import QUESTIONS, Attention
from spikeattn.errors import SpikeattnError
from spikeattn.spurious.arrangement import Arrangement, attentions_of, check_alike
from spikeattn.spurious.join import Join
from spikeattn.spurious.replicate_noise import (
    FEWEST,
    Asked,
    ReplicateNoise,
    energies_of,
    has_q,
    replicate_noise,
    shares_of,
)
from spikeattn.spurious.significance_rules import RULES
from spikeattn.spurious.token_energy import TokenEnergy

_METHODS = list(dict.fromkeys(rule.method for rule in RULES))
_ALIKE = ("statistic", "estimator", "heads", "model")  # of attentions of several nulls: else the maps are others


@dataclass(frozen=True, eq=False)
class Specifications:
    """The grid, and what of it belongs to the chosen specification.

    Attributes:
        frame: a row per null, rule and question; `SpuriousEnergy` lists the columns.
        noise: of the replicates under the chosen specification; None where the interval is over images alone.
        interval: what the intervals are over, in words.
    """

    frame: pd.DataFrame
    noise: ReplicateNoise | None
    interval: str
    notes: tuple[str, ...]


def specifications_of(
    joined: Join,
    also: Attention | Sequence[Attention],
    energy: TokenEnergy,
    chosen: Asked,
    settings: dict[str, Any],
) -> Specifications:
    """The grid of the attention that was joined and of attentions of other nulls.

    Args:
        energy: of the joined images by token.
        chosen: question and rule of the row that stands for all.
        settings: replicates, seed and confidence of the intervals over images.

    Raises:
        SpikeattnError: other attentions of other images, models or maps, or of a null that is there already.
    """
    first = joined.arrangement
    rows, noises = [], []
    for arrangement in [first, *_others(joined, also)]:
        asked = _asked_of(arrangement.attentions, chosen)
        noise = replicate_noise(energy, arrangement, joined.tokens, asked, settings["seed"])
        rows.append(_rows_of(energy, arrangement, asked, noise, settings))
        noises.append(noise)
    frame = pd.concat(rows, ignore_index=True)
    question, rule = chosen
    null = first.attentions[0].provenance["null"]
    frame["chosen"] = (frame["null"] == null) & (frame["question"] == question) & (frame["rule"] == str(rule))
    of_chosen = None if noises[0] is None else noises[0][chosen]
    over = "images alone" if of_chosen is None else "images and replicates"
    return Specifications(frame, of_chosen, over, _notes_of(frame, first, of_chosen, chosen))


def _asked_of(attentions: Sequence[Attention], chosen: Asked) -> list[Asked]:
    """Questions and rules that attentions can answer, with the chosen ones among them."""
    questions = [chosen[0]] if any(one.where is None for one in attentions) else list(QUESTIONS)
    with_q = has_q(attentions)
    rules = [rule for rule in dict.fromkeys([*RULES, chosen[1]]) if with_q or rule.method != "q"]
    rules.sort(key=lambda rule: (_METHODS.index(rule.method), rule.threshold or 0.0))
    return [(question, rule) for rule in rules for question in questions]


def _rows_of(
    energy: TokenEnergy,
    arrangement: Arrangement,
    asked: Sequence[Asked],
    noise: Mapping[Asked, ReplicateNoise] | None,
    settings: dict[str, Any],
) -> pd.DataFrame:
    """The rows of one null."""
    spurious = np.stack([energies_of(energy, arrangement, each)[0].sum(axis=1) for each in asked], axis=1)
    moved = None if noise is None else np.stack([noise[each].cells.sum(axis=2) for each in asked], axis=2)
    shares = shares_of(spurious, np.repeat(energy.spent[:, None], len(asked), axis=1), moved, settings)
    known = arrangement.attentions[0].provenance
    return pd.DataFrame(
        {
            "null": known["null"],
            "replicates": known["replicates"],
            "question": [question for question, _ in asked],
            "rule": [str(rule) for _, rule in asked],
            "method": [rule.method for _, rule in asked],
            "threshold": [rule.threshold for _, rule in asked],
            "share": shares.value,
            "low": shares.low,
            "high": shares.high,
            "interval": shares.method,
        }
    ).astype({"threshold": float})


def _others(joined: Join, also: Attention | Sequence[Attention]) -> list[Arrangement]:
    """The attentions of other nulls, one arrangement for each, of the same images and maps."""
    first = joined.arrangement
    known = first.attentions[0].provenance
    by_null: dict[str, list[Attention]] = {}
    for one in attentions_of(also):
        by_null.setdefault(one.provenance["null"], []).append(one)
    others = []
    for null, attentions in by_null.items():
        if null == known["null"]:
            raise SpikeattnError(f"also= holds attention of the null {null}, as the attention itself; give other nulls")
        check_alike(attentions)
        for name in _ALIKE:
            value, of_first = attentions[0].provenance[name], known[name]
            if value != of_first:
                raise SpikeattnError(
                    f"the attention of the null {null} differs in {name}: {value!r} and {of_first!r}; the nulls of one "
                    "grid are of the same maps, tested the same way"
                )
        other = Arrangement(attentions, joined.tokens, first.images)
        if other.layers != first.layers:
            raise SpikeattnError(
                f"the attention of the null {null} is of layers {list(other.layers)}, that of {known['null']} of "
                f"{list(first.layers)}; attend to the same layers"
            )
        others.append(other)
    return others


def _notes_of(frame: pd.DataFrame, first: Arrangement, noise: ReplicateNoise | None, chosen: Asked) -> tuple[str, ...]:
    """What the grid does not hold, and why."""
    notes, nulls = [], list(frame["null"].unique())
    if len(nulls) == 1:
        notes.append(f"one-null: the grid has {nulls[0]} alone, so the range does not show what another null would do")
    if frame["question"].nunique() == 1:
        notes.append(f'one-question: these maps or their null answer "{chosen[0]}" alone')
    if "q" not in set(frame["method"]):
        notes.append("no-q: the estimator has no q with so few replicates, so the grid has no row of it")
    if noise is None and len(first.images) >= FEWEST:
        notes.append("images-alone: the null has no replicates, or too few to halve; intervals are over images alone")
    return tuple(notes)

"""What "significant" means, in a sentence for each question that a map is asked and one for the rule."""

from __future__ import annotations

from collections.abc import Sequence

from spikeattn.attention.questions import HOW_MUCH, WHERE
from spikeattn.attention.regularize import METHOD, THRESHOLD, WITH_THRESHOLD
from spikeattn.boundary.number_format import percent
from spikeattn.reporting.tables.attention_tables import rule_of

IN_WORDS = {0.1: "one in ten", 0.05: "one in twenty"}


def meanings(questions: Sequence[str], null: str, replicates: int) -> dict[str, str]:
    """A sentence by question: what a token that is called significant has more of, and than where.

    Args:
        questions: those that the map was asked, of `answers`.
        null: what it was tested against; with B replicates, of which "exact" has none.
    """
    if null == "exact":
        than = "than they would if the spikes of every channel were permuted over the tokens (null: exact)"
        return {HOW_MUCH: f"Significant tokens get more attention {than}."}
    drawn = f"resampled input (null: {null}, B = {replicates})"
    more = f"Significant tokens get more attention than the same network gives them on {drawn}"
    share = "a larger share of the attention of their image than of the attention to"
    if WHERE not in questions:
        return {HOW_MUCH: f"{more}. Softmax attention adds up to a constant, so how much and where are one question."}
    return {HOW_MUCH: f"{more}.", WHERE: f"Significant tokens get {share} {drawn}, whatever the total."}


def promise(method: str = METHOD, threshold: float | None = None) -> str:
    """What the rule says of the tokens that it calls significant, in a sentence; methods are those of `regularize`."""
    rule = rule_of(method, threshold)
    limit = THRESHOLD if threshold is None else threshold
    if method == "q":
        share = IN_WORDS.get(limit, percent(limit))
        return f"Of the significant tokens of an image, on average at most {share} is noise ({rule})."
    if method == "p":
        unknown = "what share of the significant tokens is noise, p does not say"
        return f"A token of noise is significant with a probability of {percent(limit)} ({rule}); {unknown}."
    if method in (*WITH_THRESHOLD, "soft"):
        limit = limit if method in WITH_THRESHOLD else THRESHOLD
        return f"A significant token is noise with an estimated probability of at most {percent(limit)} ({rule})."
    return (
        "Significant are as many tokens as 1 − π₀ says, those with the lowest p; what share of them is noise is not "
        "controlled."
    )

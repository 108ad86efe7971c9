"""Words that the page explains where one points at them, and all of them once more at its end.

The sentences are those of docs/glossary.md, cut to what a reader of one page needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, WEIGHTED_RATE, WEIGHTED_RATE_IS, begun
from spikeattn.boundary.visible_text import visible

TERMS: dict[str, str] = {
    "SPS": "Spiking patch splitting: the convolutions that make the first tokens of an image, the network's stem.",
    "SDSA": "Spike-driven self-attention: masks and a sum over tokens in place of products of matrices, "
    "g = LIF(sum over tokens of k AND v), then q AND g.",
    "SOP": "Synaptic operation: one addition that one spike causes at one weight, counted where it takes place.",
    "MAC": "Multiply-accumulate: a multiplication and an addition, what a weight costs that meets a number.",
    "exact": "The default convention: operations as they were counted, with the true fan-outs.",
    "convention": "Which operations an energy has in it, and whose rate goes with which layer: a value for each "
    "switch, under one name. The switches are in the section Provenance.",
    "ANN twin": "The same layers without spikes, run once: real activations in place of neurons, softmax attention in "
    "place of the spiking one. It was not trained.",
    "break-even": "The rate weighted by operations at which both networks cost the same. Above 1, binary spikes cannot "
    "lose.",
    "gamma": "The share of the ANN's multiply-accumulates that meet a 0 and that hardware may skip.",
    MEAN_RATE: f"{begun(MEAN_RATE_IS)}.",
    WEIGHTED_RATE: f"{begun(WEIGHTED_RATE_IS)}. What a break-even rate is compared with.",
    "Wilson interval": "An interval of a share of successes, such as an accuracy, that stays between 0 and 1.",
}
_OTHER_FORMS = {"SOPs": "SOP", "MACs": "MAC", "conventions": "convention"}
_ALL = {name.lower(): name for name in TERMS} | {form.lower(): name for form, name in _OTHER_FORMS.items()}
# the longest first, so that "SOPs" is not the "SOP" of an "s"; a name such as sdsa_out or SPS-2 is no word of these
_WORDS = re.compile(
    r"(?<![\w./-])(?:" + "|".join(sorted(map(re.escape, _ALL), key=len, reverse=True)) + r")(?![\w./-]*\w)",
    re.IGNORECASE,
)
_IN_CAPITALS = {name for name in _ALL.values() if name.isupper()}  # of which "sop" and "mac" are no spelling


def glossed(text: str | Markup, focus: bool = True) -> Markup:
    """Text, escaped where it is not yet, in which the first of each word of the glossary tells what it means.

    Args:
        focus: whether the keyboard reaches it; in the cells of a table it does not, where the same word stands on
            line after line.
    """
    told: set[str] = set()
    stop = Markup(' tabindex="0"') if focus else Markup("")

    def explained(found: re.Match[str]) -> str:
        word = found.group(0)
        name = _ALL[word.lower()]
        if name in told or (name in _IN_CAPITALS and not word.startswith(name)):
            return word
        told.add(name)
        return str(Markup('<abbr class="term"{} title="{}">{}</abbr>').format(stop, TERMS[name], Markup(word)))

    return Markup(_WORDS.sub(explained, str(escape(text if isinstance(text, Markup) else visible(str(text))))))


def listed() -> Sequence[tuple[str, str]]:
    """Every word with its meaning, in the order of the alphabet."""
    return sorted(((begun(name), meaning) for name, meaning in TERMS.items()), key=lambda pair: pair[0].lower())

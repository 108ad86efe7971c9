"""The two rates of a whole network: what each is called, on the page, in tables, figures and at the terminal.

One number has one name. Both are mean rates, of different things, so neither is called "the rate".
"""

from __future__ import annotations

MEAN_RATE = "mean firing rate"
MEAN_RATE_IS = "non-zero outputs of all neurons / (neurons × time steps)"
WEIGHTED_RATE = "rate weighted by operations"
WEIGHTED_RATE_IS = "operations that spikes cause / dense operations of the same layers, both at their price"
WEIGHTED = "Weighted rate"  # as the title of a column


def begun(text: str) -> str:
    """With a capital letter, as a title begins."""
    return f"{text[:1].upper()}{text[1:]}"

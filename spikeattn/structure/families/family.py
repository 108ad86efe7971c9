"""What a family is: a rule that recognises it, and the labels that its paper gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from spikeattn.structure.entry import Structure
from spikeattn.structure.infer import Inference


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as it is printed.
        citation: of its paper.
        fits: whether a network is one of it, by its structure.
        label: the structure with the labels of the paper, and without heads where they have no effect.
    """

    name: str
    citation: str
    fits: Callable[[Inference], bool]
    label: Callable[[Inference, Structure], Structure]


def recognise(made: Inference, found: Structure) -> Structure:
    """The structure with the labels of the family that fits; as it was where none does."""
    from spikeattn.structure.families.spike_driven import SPIKE_DRIVEN

    for family in (SPIKE_DRIVEN,):
        if family.fits(made):
            return replace(family.label(made, found), family=family.name)
    return found

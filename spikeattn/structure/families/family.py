"""What a family is: a rule that recognises it, and the labels that its paper gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spikeattn.structure.infer import Inference
from spikeattn.structure.network_structure import Structure


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

"""All families, and which of them a network is."""

from __future__ import annotations

from dataclasses import replace

from spikeattn.structure.families.spike_driven import SPIKE_DRIVEN
from spikeattn.structure.infer import Inference
from spikeattn.structure.network_structure import Structure

FAMILIES = (SPIKE_DRIVEN,)


def recognise(inference: Inference, structure: Structure) -> Structure:
    """The structure with the labels of the family that fits; as it was where none does."""
    for family in FAMILIES:
        if family.fits(inference):
            return replace(family.label(inference, structure), family=family.name)
    return structure

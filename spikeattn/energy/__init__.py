"""Energy of a count table or of a published table of rates, under named conventions and cost tables."""

from spikeattn.energy.conventions import Convention, get_convention, list_conventions
from spikeattn.energy.costs import CostTable, get_costs, list_costs
from spikeattn.energy.estimate import EnergyTable, energy, operations
from spikeattn.energy.published import energy_from_rates

__all__ = [
    "Convention",
    "CostTable",
    "EnergyTable",
    "energy",
    "energy_from_rates",
    "get_convention",
    "get_costs",
    "list_conventions",
    "list_costs",
    "operations",
]

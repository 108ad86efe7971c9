"""Energy of a count table or of a published table of rates, under named conventions and cost tables."""

from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.components import ComponentTable, components
from spikeattn.energy.convention_switches import side_by_side, waterfall
from spikeattn.energy.conventions import Convention, get_convention, list_conventions
from spikeattn.energy.costs import CostTable, get_costs, list_costs
from spikeattn.energy.estimate import EnergyTable, energy
from spikeattn.energy.models.registry import EnergyModel, get_model, list_models
from spikeattn.energy.operations import operations
from spikeattn.energy.published_figures import reproduce
from spikeattn.energy.published_rates import activity_from_rates, energy_from_rates
from spikeattn.energy.twins import measure_gamma
from spikeattn.energy.what_if import sweep

__all__ = [
    "Comparison",
    "ComponentTable",
    "Convention",
    "CostTable",
    "EnergyModel",
    "EnergyTable",
    "activity_from_rates",
    "components",
    "energy",
    "energy_from_rates",
    "get_convention",
    "get_costs",
    "get_model",
    "list_conventions",
    "list_costs",
    "list_models",
    "measure_gamma",
    "operations",
    "reproduce",
    "side_by_side",
    "sweep",
    "waterfall",
]

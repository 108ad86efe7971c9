"""Energy of a count table or of a published table of rates, under named conventions and cost tables.

Names are loaded on first use, but for functions that are called as their files are: see `lazy_names`.
"""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names
from spikeattn.energy.by_model import ModelTable, by_model
from spikeattn.energy.components import ComponentTable, components
from spikeattn.energy.operations import operations
from spikeattn.energy.training_energy import TrainingTable, training_energy

if TYPE_CHECKING:
    from spikeattn.energy.comparison_result import Comparison
    from spikeattn.energy.convention_switches import side_by_side, waterfall
    from spikeattn.energy.conventions import Convention, get_convention, list_conventions
    from spikeattn.energy.costs import CostTable, get_costs, list_costs
    from spikeattn.energy.estimate import EnergyTable, energy
    from spikeattn.energy.models.catalogue import get_energy_model, list_energy_models, register_energy_model
    from spikeattn.energy.models.record import Charge, ModelConstant, ModelRecord, NamedModel
    from spikeattn.energy.models.registry import EnergyModel, get_model, list_models
    from spikeattn.energy.models.sana_fe import sana_fe_loihi
    from spikeattn.energy.published_figures import reproduce
    from spikeattn.energy.published_rates import activity_from_rates, energy_from_rates
    from spikeattn.energy.training_rules import Optimizer, TrainingConvention
    from spikeattn.energy.twins import measure_gamma
    from spikeattn.energy.what_if import sweep

__all__ = [
    "Charge",
    "Comparison",
    "ComponentTable",
    "Convention",
    "CostTable",
    "EnergyModel",
    "EnergyTable",
    "ModelConstant",
    "ModelRecord",
    "ModelTable",
    "NamedModel",
    "Optimizer",
    "TrainingConvention",
    "TrainingTable",
    "activity_from_rates",
    "by_model",
    "components",
    "energy",
    "energy_from_rates",
    "get_convention",
    "get_costs",
    "get_energy_model",
    "get_model",
    "list_conventions",
    "list_costs",
    "list_energy_models",
    "list_models",
    "measure_gamma",
    "operations",
    "register_energy_model",
    "reproduce",
    "sana_fe_loihi",
    "side_by_side",
    "sweep",
    "training_energy",
    "waterfall",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Charge": "models.record",
        "Comparison": "comparison_result",
        "Convention": "conventions",
        "CostTable": "costs",
        "EnergyModel": "models.registry",
        "EnergyTable": "estimate",
        "ModelConstant": "models.record",
        "ModelRecord": "models.record",
        "NamedModel": "models.record",
        "Optimizer": "training_rules",
        "TrainingConvention": "training_rules",
        "activity_from_rates": "published_rates",
        "energy": "estimate",
        "energy_from_rates": "published_rates",
        "get_convention": "conventions",
        "get_costs": "costs",
        "get_energy_model": "models.catalogue",
        "get_model": "models.registry",
        "list_conventions": "conventions",
        "list_costs": "costs",
        "list_energy_models": "models.catalogue",
        "list_models": "models.registry",
        "measure_gamma": "twins",
        "register_energy_model": "models.catalogue",
        "reproduce": "published_figures",
        "sana_fe_loihi": "models.sana_fe",
        "side_by_side": "convention_switches",
        "sweep": "what_if",
        "waterfall": "convention_switches",
    },
)

"""Energy of a count table or of a published table of rates, under named conventions and cost tables."""

from spikeattn.energy.by_model import ModelTable, by_model
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.components import ComponentTable, components
from spikeattn.energy.convention_switches import side_by_side, waterfall
from spikeattn.energy.conventions import Convention, get_convention, list_conventions
from spikeattn.energy.costs import CostTable, get_costs, list_costs
from spikeattn.energy.estimate import EnergyTable, energy
from spikeattn.energy.models.catalogue import get_energy_model, list_energy_models, register_energy_model
from spikeattn.energy.models.record import Charge, ModelConstant, ModelRecord, NamedModel
from spikeattn.energy.models.registry import EnergyModel, get_model, list_models
from spikeattn.energy.models.sana_fe import sana_fe_loihi
from spikeattn.energy.operations import operations
from spikeattn.energy.published_figures import reproduce
from spikeattn.energy.published_rates import activity_from_rates, energy_from_rates
from spikeattn.energy.training_energy import TrainingTable, training_energy
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

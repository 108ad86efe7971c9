"""Firing rates, operations and energy of spiking transformers: counted per image, priced with their source.

Importing the package registers its models with timm. Names are loaded on first use, so that the command line answers
`--help` without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikeattn.compat.environment import complete as _complete_environment
from spikeattn.compat.moved import find_moved_modules as _find_moved_modules
from spikeattn.compat.text_bars import import_widgets_quietly as _import_widgets_quietly
from spikeattn.compat.timm_hook import register_with_timm as _register_with_timm
from spikeattn.compat.version import __version__
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.attention.bootstrap_test import attend
    from spikeattn.attention.evaluate import evaluate_regularization
    from spikeattn.attention.maps import attention_map
    from spikeattn.data import make_loader, open_dataset
    from spikeattn.energy import energy_from_rates, measure_gamma, reproduce, sweep, waterfall
    from spikeattn.energy.comparison import compare
    from spikeattn.energy.measured_twins import measured_twin
    from spikeattn.models import br_npa, create_model, load_model, svda, twin_of
    from spikeattn.reporting.page.from_python import report
    from spikeattn.runs import Profile, measured_sweep, profile, record
    from spikeattn.spurious import spurious_energy
    from spikeattn.training import FiringRate, SpikeMonitor
    from spikeattn.training.penalty import spike_penalty

_HOME = {
    "FiringRate": "training",
    "Profile": "runs",
    "SpikeMonitor": "training",
    "attend": "attention.bootstrap_test",
    "attention_map": "attention.maps",
    "br_npa": "models",
    "compare": "energy.comparison",
    "create_model": "models",
    "energy_from_rates": "energy",
    "evaluate_regularization": "attention.evaluate",
    "load_model": "models",
    "make_loader": "data",
    "measure_gamma": "energy",
    "measured_sweep": "runs",
    "measured_twin": "energy.measured_twins",
    "open_dataset": "data",
    "profile": "runs",
    "record": "runs",
    "report": "reporting.page.from_python",
    "reproduce": "energy",
    "spike_penalty": "training.penalty",
    "spurious_energy": "spurious",
    "svda": "models",
    "sweep": "energy",
    "twin_of": "models",
    "waterfall": "energy",
}
_ROOMS = (
    "attention",
    "data",
    "energy",
    "fast",
    "models",
    "recording",
    "reporting",
    "results",
    "runs",
    "spurious",
    "stats",
    "storage",
    "structure",
    "training",
)

__all__ = [
    "FiringRate",
    "Profile",
    "SpikeMonitor",
    "SpikeattnError",
    "__version__",
    "attend",
    "attention_map",
    "br_npa",
    "compare",
    "create_model",
    "energy_from_rates",
    "evaluate_regularization",
    "load_model",
    "make_loader",
    "measure_gamma",
    "measured_sweep",
    "measured_twin",
    "open_dataset",
    "profile",
    "record",
    "report",
    "reproduce",
    "spike_penalty",
    "spurious_energy",
    "structure",
    "svda",
    "sweep",
    "twin_of",
    "waterfall",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})


_complete_environment()
_find_moved_modules()
_import_widgets_quietly()
_register_with_timm()

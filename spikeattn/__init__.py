"""Firing rates, operations and energy of spiking transformers: counted per image, priced with their source.

Importing the package registers its models with timm. Names are loaded on first use, so that the command line answers
`--help` without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikeattn.environment import complete as _complete_environment
from spikeattn.errors import SpikeattnError
from spikeattn.timm_hook import register_with_timm
from spikeattn.version import __version__

if TYPE_CHECKING:
    from spikeattn.attention.attend import attend
    from spikeattn.attention.evaluate import evaluate_regularization
    from spikeattn.attention.maps import attention_map
    from spikeattn.data import make_loader, open_dataset
    from spikeattn.energy import energy_from_rates, measure_gamma, reproduce, sweep, waterfall
    from spikeattn.energy.compare import compare
    from spikeattn.energy.measured_twins import measured_twin
    from spikeattn.models import br_npa, create_model, load_model, svda, twin_of
    from spikeattn.recordings import record
    from spikeattn.reporting.from_python import report
    from spikeattn.results import Profile
    from spikeattn.runs import profile
    from spikeattn.spurious import spurious_energy

_HOME = {
    "Profile": "results",
    "attend": "attention.attend",
    "attention_map": "attention.maps",
    "br_npa": "models",
    "compare": "energy.compare",
    "create_model": "models",
    "energy_from_rates": "energy",
    "evaluate_regularization": "attention.evaluate",
    "load_model": "models",
    "make_loader": "data",
    "measure_gamma": "energy",
    "measured_twin": "energy.measured_twins",
    "open_dataset": "data",
    "profile": "runs",
    "record": "recordings",
    "report": "reporting.from_python",
    "reproduce": "energy",
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
    "models",
    "recording",
    "reporting",
    "results",
    "runs",
    "spurious",
    "storage",
    "structure",
)

__all__ = [
    "Profile",
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
    "measured_twin",
    "open_dataset",
    "profile",
    "record",
    "report",
    "reproduce",
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
register_with_timm()

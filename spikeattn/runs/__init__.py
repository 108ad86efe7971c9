"""One run from loader to result.

`profile` feeds a network, `record` counts in a loop of the user's own; both give a `Profile`. Names are loaded on first
use: the command line answers `--help` without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeattn.runs.recording import record
    from spikeattn.runs.result import Profile
    from spikeattn.runs.run import profile

_HOME = {"Profile": "result", "profile": "run", "record": "recording"}

__all__ = ["Profile", "profile", "record"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value

"""One run from loader to result.

`profile` feeds a network, `record` counts in a loop of the user's own; both give a `Profile`. Names are loaded on first
use: the command line answers `--help` without torch.
"""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
    from spikeattn.runs.recording import record
    from spikeattn.runs.result import Profile
    from spikeattn.runs.run import profile
    from spikeattn.runs.sweep_result import measured_sweep

__all__ = ["Profile", "measured_sweep", "profile", "record"]

__getattr__ = lazy_names(
    __name__, {"Profile": "result", "measured_sweep": "sweep_result", "profile": "run", "record": "recording"}
)

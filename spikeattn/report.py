"""`sa.report`, and the old name of the room `spikeattn.reporting`.

The module is callable, so that the function stays what it is when somebody imports the old name. That name goes in the
release after the second edition.
"""

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any


class _Moved(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `spikeattn.reporting.from_python.report`."""
        from spikeattn.reporting.from_python import report

        return report(*args, **kwargs)


def __getattr__(name: str) -> Any:
    home = import_module("spikeattn.reporting")
    if name not in home.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"spikeattn.report.{name} has moved: import it from spikeattn.reporting", DeprecationWarning, stacklevel=2
    )
    return getattr(home, name)


sys.modules[__name__].__class__ = _Moved

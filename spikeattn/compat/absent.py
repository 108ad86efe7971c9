"""What a file may import although it is not installed here, as long as it does not use it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from spikeattn.compat.extras import how_to_get
from spikeattn.compat.spikingjelly_version import spikingjelly_version
from spikeattn.errors import SpikeattnError


def is_dunder(name: str) -> bool:
    """Whether a name is one of Python's own, such as __path__."""
    return name.startswith("__") and name.endswith("__")


def what_to_do(package: str) -> str:
    """What to do where a package, or a module of one, is missing, as the end of a sentence."""
    if package.partition(".")[0] == "spikingjelly" and (found := spikingjelly_version()) is not None:
        return (
            f"SpikingJelly {found} is, which has no {package}: `clock_driven` became `activation_based` after "
            '0.0.0.0.12; take pip install "spikingjelly==0.0.0.0.14", or 2.0 on Python 3.11 or newer'
        )
    return how_to_get(package)


class Absent:
    """Something of a package that is not installed: it may be imported and named, and is an error where it is used."""

    def __init__(self, path: str, package: str) -> None:
        vars(self).update(_path=path, _package=package)

    def __getattr__(self, name: str) -> Any:
        if is_dunder(name):
            raise AttributeError(name)
        return Absent(f"{self._path}.{name}", self._package)

    def __getitem__(self, item: Any) -> Any:  # in annotations
        return self

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def _use(self, *args: Any, **kwargs: Any) -> Any:
        raise SpikeattnError(
            f"{self._path} is used, and {self._package} is not installed here; {what_to_do(self._package)}"
        )

    __call__ = __mro_entries__ = __instancecheck__ = __iter__ = __len__ = __bool__ = __enter__ = __setattr__ = _use
    __contains__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = __matmul__ = __lt__ = _use

    def __repr__(self) -> str:
        return f"<{self._path}, not installed>"


def absent(name: str, missing: str) -> ModuleType:
    """A module in the place of one that is not installed.

    Args:
        missing: the part of the name that is not there, for the error.
    """
    module = ModuleType(name, f"In the place of {missing}, which is not installed.")
    vars(module).update(__path__=[], __getattr__=lambda key: getattr(Absent(name, missing), key))
    return module

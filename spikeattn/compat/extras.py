"""Packages that this one asks for by an extra: the one sentence for each where it is not installed."""

from __future__ import annotations

from spikeattn.errors import SpikeattnError

# The extra of pyproject.toml that brings a package, by the name that it is imported under.
EXTRAS = {"spikingjelly": "spikingjelly", "nir": "nir", "h5py": "nir", "openpyxl": "xlsx"}


def install_command(module: str) -> str:
    """The command that installs a package of `EXTRAS`.

    Args:
        module: a module of it, such as "spikingjelly.activation_based".
    """
    return f"pip install 'spikeattn[{EXTRAS[module.partition('.')[0]]}]'"


def missing_extra(what: str, package: str, otherwise: str = "") -> SpikeattnError:
    """The error where a package of `EXTRAS` is wanted and not installed.

    Args:
        what: needs it, the beginning of the sentence.
        otherwise: what else can be done, the end of it.
    """
    return SpikeattnError(f"{what} needs {package}, which is not installed: {install_command(package)}{otherwise}")

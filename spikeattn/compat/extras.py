"""Packages that not everybody needs: which extra of this one brings each, and the sentence where one is missing."""

from __future__ import annotations

from spikeattn.errors import SpikeattnError

# By what is imported; the extras themselves are in pyproject.toml.
EXTRAS = {"spikingjelly": "spikingjelly", "nir": "nir", "h5py": "nir", "openpyxl": "xlsx"}


def install(extra: str, *pins: str) -> str:
    """The command that installs an extra, in quotes that every shell takes.

    Args:
        pins: what pip is told beside it, such as "spikingjelly>=2".
    """
    return " ".join(["pip install", *(f'"{each}"' for each in (f"spikeattn[{extra}]", *pins))])


def how_to_get(module: str) -> str:
    """What to do where a module is missing, as the end of a sentence."""
    extra = EXTRAS.get(module.partition(".")[0])
    return f"install it with {install(extra)}" if extra else "install the package that has it"


def missing_extra(what: str, package: str, otherwise: str = "") -> SpikeattnError:
    """The error where a package of `EXTRAS` is wanted and not installed.

    Args:
        what: needs it, the beginning of the sentence.
        otherwise: what else can be done, the end of it.
    """
    return SpikeattnError(f"{what} needs {package}, which is not installed: {install(EXTRAS[package])}{otherwise}")

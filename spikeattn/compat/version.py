"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

try:
    __version__ = _version("spikeattn")
except PackageNotFoundError:  # imported from a checkout that was never installed
    __version__ = "0+unknown"

"""Which version of a package is installed; asked of the installation, since to import one takes seconds."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str | None:
    """The installed version, such as "1.0.31"; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None

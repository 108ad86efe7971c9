"""Which SpikingJelly is installed, if any."""

from __future__ import annotations

from functools import cache

from spikeattn.compat.extras import install
from spikeattn.compat.installed import installed_version
from spikeattn.errors import SpikeattnError


@cache
def spikingjelly_version() -> str | None:
    """The installed version of SpikingJelly, such as "0.0.0.0.14"; None where there is none."""
    return installed_version("spikingjelly")


@cache
def is_current() -> bool:
    """Whether SpikingJelly is installed in version 2 or newer: with torch's own operators and states handed in."""
    found = spikingjelly_version()
    return found is not None and int(found.partition(".")[0]) >= 2


def require_current(what: str) -> None:
    """Refuse what only SpikingJelly 2 has.

    Args:
        what: the beginning of the sentence, such as "QKFormer's dense operations".

    Raises:
        SpikeattnError: it is not installed, or older; with the command that installs it.
    """
    if not is_current():
        raise SpikeattnError(f"{what} need SpikingJelly 2, {what_is_there()}")


def what_is_there() -> str:
    """Where SpikingJelly 2 is not: what is installed, and the command that installs it, as the end of a sentence."""
    found = spikingjelly_version()
    return (
        f"and {f'version {found}' if found else 'none'} is installed; on Python 3.11 or newer: "
        f"{install('spikingjelly', 'spikingjelly>=2')}"
    )

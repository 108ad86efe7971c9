"""What the libraries below need to know of the user, given where the machine does not say it.

In a container that runs under a number without an account (`docker run --user 12345`) there is neither a user name nor
a home. torch asks for the first when it is imported, and ends in a KeyError; matplotlib and Triton look for the second.
So this stands before all other imports. Where the machine says both, nothing is changed.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

_USER = "USER"  # getpass.getuser takes it before it asks for an account
_CACHES = {"MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton"}  # torch keeps its own below the temporary folder


def complete() -> None:
    """Name the user and the home where nobody does, and folders for caches where the home cannot be written to."""
    if not hasattr(os, "getuid"):  # Windows, where there is always a name and a home
        return
    if not _has_user():
        os.environ[_USER] = f"user{os.getuid()}"
    if not _has_home():
        os.environ["HOME"] = _own_folder() or os.sep  # as docker does
    home = os.path.expanduser("~")
    missing = [variable for variable in _CACHES if not os.environ.get(variable)]
    if missing and not os.access(home, os.W_OK) and (folder := _own_folder()):
        for variable in missing:
            os.environ[variable] = os.path.join(folder, _CACHES[variable])


def _has_user() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):  # which of them depends on the version of Python
        return False


def _has_home() -> bool:
    try:
        return Path.home().is_absolute()
    except RuntimeError:
        return False


def _own_folder() -> str | None:
    """A folder for this user among the temporary ones; None where there is none that is this user's alone."""
    try:
        folder = os.path.join(tempfile.gettempdir(), f"spikeattn-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        there = os.lstat(folder)
    except OSError:
        return None
    private = stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o077
    return folder if private else None

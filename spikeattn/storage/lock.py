"""The lock of a run's folder: one run at a time, held by all of its ranks and released by the system if they die."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from pathlib import Path
from typing import Any

from spikeattn.errors import SpikeattnError

NAME, OLD_NAME = ".spikeattn.lock", ".lock"
_HOLDER = re.compile(r"process \d+ on [\w.-]+")  # whatever else stands there is not ours to print


class FolderLock:
    """An advisory lock on a folder.

    The first rank takes it alone, then shares it with the others of its run: whoever comes later finds it taken until
    the last one has ended.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        self._file: Any = None

    def acquire(self) -> None:
        """Take it alone.

        Raises:
            SpikeattnError: another run holds it, or the folder cannot be written.
        """
        while True:
            self._take(fcntl.LOCK_EX)
            try:
                if os.fstat(self._file.fileno()).st_ino == os.stat(self._path).st_ino:
                    break
            except FileNotFoundError:
                pass
            self._file.close()  # its last holder has just removed the file: it no longer keeps anyone out
        if os.fstat(self._file.fileno()).st_nlink == 1:  # else it has another name, under which it is no lock
            self._file.seek(0)
            self._file.truncate()
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    def share(self) -> None:
        """Hold it together with the other ranks; the first rank calls this too, when it has checked the folder."""
        if self._file is None:
            self._take(fcntl.LOCK_SH)
        else:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def release(self, remove: bool = True) -> None:
        """Let go of it; `remove` also takes the file away."""
        if self._file is not None:
            if remove:
                try:
                    self._path.unlink(missing_ok=True)
                except OSError:  # a read-only folder keeps the file; the lock itself is gone all the same
                    pass
            self._file.close()
            self._file = None

    def _take(self, how: int) -> None:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            self._file = os.fdopen(handle, "a+")
        except OSError as error:
            raise SpikeattnError(
                f"{self._folder}: cannot write the run there ({error.strerror}); give another folder"
            ) from error
        try:
            fcntl.flock(self._file, how | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = _HOLDER.match(self._file.read(200))
            who = holder.group() if holder else "another process"
            self._file.close()
            self._file = None
            raise SpikeattnError(
                f"{self._folder}: another process is writing this run ({who}); wait for it, or give another folder"
            ) from error

"""A C compiler that the machine may have, and a library made with it; neither can hang or end the process."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 120  # compiling takes one or two, on a machine with fifty times the work that it can do a minute or two
_SPOKEN = 1 << 14  # characters of a compiler's output that are kept: the version, or the first error
# Run by a process of its own: a library for another processor ends it, not us. A neuron and the convolutions use every
# vector unit that the compiler may choose.
_TRIAL = """
import ctypes, sys
library, i64 = ctypes.CDLL(sys.argv[1]), ctypes.c_int64
floats, bools, counts = (ctypes.c_float * 8192)(), (ctypes.c_uint8 * 8192)(), (i64 * 64)()
library.spikeattn_lif(floats, i64(64), bools, i64(1), i64(1), i64(1), i64(64), ctypes.c_float(2), ctypes.c_int(0),
                      ctypes.c_float(1), None, counts, None, ctypes.c_int(1))
sizes = [*map(i64, (1, 1, 1, 64, 64, 1))]
library.spikeattn_conv_real(floats, floats, floats, (ctypes.c_float * 64)(), *sizes, ctypes.c_int(1))
library.spikeattn_conv_room.restype = i64
each = library.spikeattn_conv_room(i64(1), *sizes)
library.spikeattn_conv((ctypes.c_uint8 * 64)(*[1] * 64), floats, floats, None, None, i64(1), *sizes,
                       ctypes.create_string_buffer(each), i64(each), bools, ctypes.c_float(2), ctypes.c_int(0),
                       ctypes.c_float(1), None, counts, None, ctypes.c_int(1))
"""


class CompilerFailed(Exception):
    """There is no library; the text says why."""


class CompilerHangs(CompilerFailed):
    """The compiler did not end; to ask it again, with other flags, would be to wait again."""


def compiler_command() -> tuple[str, ...]:
    """How the C compiler is called: $CC with its arguments, else cc, gcc or clang; empty where there is none."""
    for words in (*_words(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]):
        if path := shutil.which(words[0]):
            return (path, *words[1:])
    return ()


def _words(text: str) -> list[list[str]]:
    """What $CC may mean: one path, blanks and all, or a command with arguments; nothing where its quotes are open."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    return [each for each in ([text], words) if each and each[0].strip()]


def version_of(compiler: Sequence[str]) -> str:
    """What the compiler says about itself.

    Raises:
        CompilerFailed: it cannot be started, or does not end.
    """
    return _ask([*compiler, "--version"])[1]


def compile_library(compiler: Sequence[str], flags: Sequence[str], sources: Sequence[Path], target: Path) -> None:
    """Compile C files to a library that runs on this processor.

    Raises:
        CompilerFailed: it cannot be compiled, loaded or run.
    """
    scratch = {"TMPDIR": str(target.parent), "LC_ALL": "C"}  # its own files beside the library, its errors in English
    code, said = _ask([*compiler, *flags, *map(str, sources), "-o", str(target)], scratch)
    if code:
        raise CompilerFailed((said.strip().splitlines() or [f"it ended with {code}"])[0])
    if not target.is_file():
        raise CompilerFailed("it ended well and wrote no library")
    code, said = _ask([sys.executable, "-I", "-c", _TRIAL, str(target)])
    if code:
        raise CompilerFailed(f"its library does not run here ({_end(code, said)})")


def _end(code: int, said: str) -> str:
    """What ended a trial: a signal, such as SIGILL for an instruction that the processor lacks, or an error's line."""
    if code < 0:
        return signal.Signals(-code).name
    return (said.strip().splitlines() or [f"exit code {code}"])[-1]


def _ask(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of a program that gets no input and is ended after `SECONDS`, its children too."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CompilerFailed(f"{command[0]} cannot be started ({getattr(error, 'strerror', None) or error})") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(SECONDS, end)
    timer.start()
    try:
        with process:
            said = b""
            while chunk := process.stdout.read1(1 << 16):  # type: ignore[union-attr]  # a pipe, as it was opened
                said += chunk[: _SPOKEN - len(said)]  # read to its end, which may be far, and kept no further
            process.wait()
    except BaseException:
        _kill(process)
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise CompilerHangs(f"{command[0]} did not end within {SECONDS} seconds")
    return process.returncode, said.decode("utf-8", "backslashreplace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with the children that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has ended already
        pass

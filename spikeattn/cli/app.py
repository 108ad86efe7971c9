"""The commands put together, and what their failures look like: one line on standard error and an exit code.

Only typer is imported when the program starts; a command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from spikeattn.cli.attending import attend
from spikeattn.cli.comparing import compare
from spikeattn.cli.doctor import doctor
from spikeattn.cli.lists import conventions, costs, models
from spikeattn.cli.merging import merge
from spikeattn.cli.options import WrongCommandLine
from spikeattn.cli.profiling import profile
from spikeattn.cli.program import BUG, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, app
from spikeattn.cli.reporting import report
from spikeattn.cli.results import energy, rates
from spikeattn.cli.values import CommandLineError
from spikeattn.cli.verifying import verify
from spikeattn.cli.whatif import reproduce, sweep
from spikeattn.errors import SpikeattnError

LISTS = (models, costs, conventions)
for command in (profile, merge, verify, energy, rates, compare, sweep, attend, report, reproduce, *LISTS, doctor):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing a user can do wrong shows a traceback.

    Args:
        arguments: the command line without the program's name; the process's own unless given.
    """
    if getattr(sys.stdout, "errors", None) == "strict":  # a terminal without "µ" shows an escape instead of failing
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        command = typer.main.get_command(app)
        given = list(sys.argv[1:] if arguments is None else arguments)
        with command.make_context("spikeattn", given, obj=given) as context:
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as request:
        return request.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        _say("interrupted")
        return getattr(stop, "code", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except CommandLineError as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "spikeattn")
        _say(f"error: {error.format_message()}\nsee {where} --help")
        return USAGE
    except SpikeattnError as error:
        _say(f"error: {error}")
        return USAGE if isinstance(error, WrongCommandLine) else FAILED
    except Exception as error:
        if explained := _machine_error(error):
            _say(f"error: {explained}")
            return FAILED
        traceback.print_exc()
        _say("error: this is an error in spikeattn itself; please report it with the lines above")
        return BUG
    return 0


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _machine_error(error: Exception) -> str | None:
    """What happened, where the machine is the cause and not the program; None otherwise."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name = error.object.encode("utf-8", "backslashreplace").decode()
        return f"{name[:300]!r}: this name is no UTF-8 and cannot be used here; rename the file or folder"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out of memory; give a smaller --batch-size"
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return f"a process that reads images was ended by the system, mostly for memory ({text}); give fewer --workers"
    return None

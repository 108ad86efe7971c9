"""The commands put together, and what their failures look like: one line on standard error and an exit code.

Only typer is imported when the program starts; a command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

import typer

from spikeattn.cli.attend import attend
from spikeattn.cli.audit import audit
from spikeattn.cli.compare import compare
from spikeattn.cli.configured import ConfiguredCommand
from spikeattn.cli.conventions import conventions
from spikeattn.cli.costs import costs
from spikeattn.cli.doctor import doctor
from spikeattn.cli.energy import energy
from spikeattn.cli.energy_models import energy_models
from spikeattn.cli.launching import stoppable
from spikeattn.cli.merge import merge
from spikeattn.cli.models import models
from spikeattn.cli.option_types import CommandLineError
from spikeattn.cli.options import WrongCommandLine
from spikeattn.cli.profile import profile
from spikeattn.cli.program import BUG, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, app
from spikeattn.cli.rates import rates
from spikeattn.cli.report import report
from spikeattn.cli.reproduce import reproduce
from spikeattn.cli.several_words import lists_of_numbers, reading, runs_against
from spikeattn.cli.streams import drop_unwritten
from spikeattn.cli.structure import structure
from spikeattn.cli.sweep import sweep
from spikeattn.cli.terminal import be_quiet, say
from spikeattn.cli.verify import verify
from spikeattn.errors import SpikeattnError

_NO_ROOM = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")  # what dlopen says

COMPLETE = "_SPIKEATTN_COMPLETE"  # typer's name for it

# Those with several words behind an option.
READ: dict[Any, type[ConfiguredCommand]] = {compare: reading(runs_against), sweep: reading(lists_of_numbers)}

for command in (
    profile,
    structure,
    merge,
    verify,
    energy,
    rates,
    compare,
    sweep,
    attend,
    report,
    reproduce,
    audit,
    models,
    costs,
    conventions,
    energy_models,
    doctor,
):
    app.command(cls=READ.get(command, ConfiguredCommand))(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing a user can do wrong shows a traceback.

    Args:
        arguments: the command line without the program's name; the process's own unless given.
    """
    out = sys.stdout
    if isinstance(out, TextIOWrapper) and out.errors == "strict":  # a terminal without "µ" shows an escape
        out.reconfigure(errors="backslashreplace")
    be_quiet(False)
    os.environ["MPLBACKEND"] = "agg"  # commands draw into files; any other name may be one that matplotlib refuses
    try:
        return _run(arguments)
    finally:
        drop_unwritten()


def _run(arguments: Sequence[str] | None) -> int:
    """One command, and the exit code of its end."""
    try:
        command = typer.main.get_command(app)
        if COMPLETE in os.environ:  # the shell asks what could stand where the cursor is
            command.main(args=[], prog_name="spikeattn", standalone_mode=False)
        given = list(sys.argv[1:] if arguments is None else arguments)
        with stoppable(), command.make_context("spikeattn", given, obj=given) as context:
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as done:  # of a completion
        return done.code if isinstance(done.code, int) else FAILED
    except typer.Exit as request:
        return request.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        say("interrupted", err=True)
        return getattr(stop, "code", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        return PIPE_CLOSED
    except CommandLineError as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "spikeattn")
        say(f"error: {error.format_message()}\nsee {where} --help", err=True)
        return USAGE
    except SpikeattnError as error:
        say(f"error: {error}", err=True)
        return USAGE if isinstance(error, WrongCommandLine) else FAILED
    except Exception as error:
        if explained := _machine_error(error):
            say(f"error: {explained}", err=True)
            return FAILED
        say(traceback.format_exc().rstrip("\n"), err=True)
        say(
            "error: this is an error in spikeattn itself; please report it with the lines above and those of "
            "spikeattn --version",
            err=True,
        )
        return BUG
    return 0


def _machine_error(error: Exception) -> str | None:
    """What happened, where the machine is the cause and not the program; None otherwise."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name = error.object.encode("utf-8", "backslashreplace").decode()
        return f"{name[:300]!r}: this name is no UTF-8 and cannot be used here; rename the file or folder"
    if isinstance(error, KeyError) and "getpwuid" in text:
        return f"the user id {os.getuid()} has no name on this machine, and torch asks for one: set USER to any name"
    if isinstance(error, ImportError) and any(sign in text for sign in _NO_ROOM):
        return (
            f"not enough memory to load the libraries ({text}); raise the limit of this shell (ulimit -v) or of its job"
        )
    signs = ("can't allocate memory", "std::bad_alloc", "can't start new thread")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(s in text for s in signs):
        return "out of memory; give a smaller --batch-size"
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return f"a process that reads images was ended by the system, mostly for memory ({text}); give fewer --workers"
    if library := _library_imported(error):
        reason = " ".join(text.split())[:300]
        return (
            f"{library} cannot be imported ({type(error).__name__}: {reason}); look at the variables of the "
            "environment that it reads, and at its installation"
        )
    return None


def _library_imported(error: BaseException) -> str | None:
    """The library whose import failed, if that is where an error comes from: it may refuse a variable that it reads."""
    own, foreign = __name__.partition(".")[0], None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == own:
            foreign = None
        elif package != "importlib" and foreign is None:
            foreign = (package, frame.f_code.co_name)
    return foreign[0] if foreign and foreign[1] == "<module>" else None

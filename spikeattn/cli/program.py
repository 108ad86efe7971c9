"""The program itself: its name, its help and its exit codes; the commands are put in by `app`."""

from __future__ import annotations

from typing import Annotated

import typer

from spikeattn.cli.installation import installation
from spikeattn.cli.terminal import say
from spikeattn.compat.version import __version__

FAILED, USAGE, BUG, INTERRUPTED, PIPE_CLOSED = 1, 2, 70, 130, 141
EPILOG = f"""Exit codes: 0 done; {FAILED} it failed
(a name, a file, the data, the model or the machine; standard error says what
to do); {USAGE} the command line is wrong (an option or a number); {BUG} an error in spikeattn itself, with its
traceback; {INTERRUPTED} interrupted. Results go to standard output, progress and errors to standard error."""

app = typer.Typer(
    name="spikeattn",
    help="Firing rates, operations and energy of spiking vision transformers, counted per image and with intervals.",
    epilog=EPILOG,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    say(f"spikeattn {__version__}")
    for name, value in installation():
        say(f"  {name:<12}  {value}")
    raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and what it runs on: Python, torch, the GPU.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())

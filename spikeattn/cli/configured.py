"""What every command has beside its own options: --quiet, --no-config, and the defaults of a file."""

from __future__ import annotations

import inspect
import shlex
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from spikeattn.cli.help_text import fitted_help
from spikeattn.cli.output import note
from spikeattn.cli.terminal import be_quiet


class ConfiguredCommand(TyperCommand):
    """A command whose options may have their defaults in `spikeattn.toml`.

    What it took from there joins the words of the command line, which runs record, and is said in one line.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += _options()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _take_defaults(ctx, args)
        rest = super().parse_args(ctx, args)
        if words := _taken(self.params, ctx):
            if isinstance(ctx.obj, list):
                ctx.obj += words
            ctx.meta[TAKEN] = {"file": ctx.meta[FILE_NAME], "options": words}
            note(f"defaults from {ctx.meta[FILE_NAME]}: {shlex.join(words)}")
        return rest

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Its examples as wide as the terminal."""
        whole = self.help
        try:
            self.help = fitted_help(inspect.cleandoc(whole or ""), formatter.width - MARGIN)
            super().format_help_text(ctx, formatter)
        finally:
            self.help = whole


MARGIN = 2  # columns that click leaves before the text of a help page
TAKEN, FILE_NAME = "spikeattn.config.taken", "spikeattn.config.file"  # in the context's `meta`


def taken_from_file(context: Any) -> dict[str, Any]:
    """The file with defaults and the options that a command took from there, for its provenance; empty if none."""
    found: dict[str, Any] = context.meta.get(TAKEN, {})
    return found


def _take_defaults(ctx: Any, args: list[str]) -> None:
    """Give a command's context the defaults of the file in the current folder.

    Not while the shell completes a line, not for help, which shows those of the program, and not with --no-config.
    """
    from spikeattn.cli.config_file import config_file, defaults_of

    words = args[: args.index("--")] if "--" in args else args
    if ctx.parent is None or ctx.resilient_parsing or {"--no-config", "--help", "-h"} & set(words):
        return
    if (path := config_file(Path())) is not None:
        found = defaults_of(path, ctx.parent.command.commands, ctx.parent)
        ctx.default_map, ctx.meta[FILE_NAME] = found[ctx.info_name], path.name


def _taken(parameters: list[Any], ctx: Any) -> list[str]:
    """The words that say what was taken from the file."""
    words: list[str] = []
    for parameter in parameters:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "DEFAULT_MAP":
            value = ctx.default_map[parameter.name]
            if parameter.is_flag:
                words += [*parameter.opts[:1]] if value else parameter.secondary_opts[:1]
            else:
                listed = value if isinstance(value, list) else [value]
                words += [word for each in listed for word in (parameter.opts[0], str(each))]
    return words


def _set_quiet(wanted: bool) -> None:
    be_quiet(wanted)


def _shared(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_set_quiet, show_default=False,
            help="Say nothing on standard error but warnings and errors: no progress, no advice.",
        ),
    ] = False,
    no_config: Annotated[
        bool,
        typer.Option("--no-config", show_default=False, help="Take no defaults from spikeattn.toml or pyproject.toml."),
    ] = False,
) -> None:  # fmt: skip
    """The options of every command, which none of their functions takes."""


@cache
def _options() -> tuple[Any, ...]:
    """Those of `_shared` as typer builds them: how differs between its versions."""
    app = typer.Typer(add_completion=False)
    app.command()(_shared)
    found = [option for option in typer.main.get_command(app).params if option.name in ("quiet", "no_config")]
    for option in found:
        option.expose_value = False
    return tuple(found)

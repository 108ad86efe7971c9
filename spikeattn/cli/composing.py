"""One command that runs others: their command lines, from the options that were given to it."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import typer

from spikeattn.cli.output import note

_GIVEN = ("COMMANDLINE", "DEFAULT_MAP")  # typed, or in a file with defaults


def words_for(context: typer.Context, command: Callable[..., Any], besides: tuple[str, ...] = ()) -> list[str]:
    """The options of the running command that were given and that another command has too, as words for it.

    Args:
        besides: names of options that mean something else there; `out` and `as_json` always do.
    """
    shared = {parameter.name for parameter in _built(command).params} - {"out", "as_json", *besides}
    words = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if parameter.param_type_name == "option" and name in shared and stated(context, name, _GIVEN):
            words += _option(parameter, value)
    return words


def stated(context: typer.Context, name: str, sources: Sequence[str] = ("COMMANDLINE",)) -> bool:
    """Whether an option stands on the command line, and is not its default.

    Args:
        sources: click's names for where a value may come from; "DEFAULT_MAP" is a file with defaults.
    """
    source = context.get_parameter_source(name)
    return source is not None and source.name in sources  # by name: typer has a click of its own since 0.20


def run_command(command: Callable[..., Any], words: list[str]) -> None:
    """Run another command as if it had been typed; it is shown, what it prints as its result is not.

    Raises:
        SpikeattnError: what it raises.
    """
    line = [command.__name__, *words]
    note(shlex.join(["spikeattn", *line]))
    built = _built(command)
    with (
        redirect_stdout(io.StringIO()),
        built.make_context(f"spikeattn {command.__name__}", list(words), obj=line) as c,
    ):
        built.invoke(c)


def _built(command: Callable[..., Any]) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return typer.main.get_command(app)


def _option(option: Any, value: Any) -> list[str]:
    flag = option.opts[0]
    if option.is_flag:
        return [flag if value else option.secondary_opts[0]]
    if option.count:
        return [flag] * value
    values = value if isinstance(value, (list, tuple)) else [value]
    return [word for each in values for word in (flag, str(getattr(each, "value", each)))]

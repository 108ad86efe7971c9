"""Defaults of options from `spikeattn.toml`, or from `[tool.spikeattn]` in `pyproject.toml`, in the current folder.

Entries at the top are for every command that has the option, those of a table `[profile]` for `spikeattn profile`. What
stands on the command line wins.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeattn.cli.option_types import CommandLineError
from spikeattn.compat.python_names import tomllib
from spikeattn.errors import SpikeattnError

FILE, PROJECT = "spikeattn.toml", "pyproject.toml"
# Options that mean the same wherever they are; --data of `profile` and of `verify` do not, nor do seeds.
COMMON = (
    "device", "threads", "workers", "batch_size", "costs", "convention", "confidence", "replicates", "full", "quiet",
)  # fmt: skip
_OTHERWISE = {"energy": ("batch_size",)}  # commands where one of them is about something else: a training step
# Options about a single call: a default for them would surprise.
_NEVER = ("help", "no_config", "resume", "force", "shard", "allow_mixed", "verbose", "json", "as_json", "version")

Defaults = dict[str, dict[str, Any]]  # of the commands by their name, values by the parameter's


def config_file(folder: Path) -> Path | None:
    """The file with defaults in a folder: `spikeattn.toml`, else a `pyproject.toml` that has something for us.

    Raises:
        SpikeattnError: the file is no TOML, or cannot be read.
    """
    for name in (FILE, PROJECT):
        path = folder / name
        if path.is_file() and (name == FILE or _read(path).get("tool", {}).get("spikeattn") is not None):
            return path
    return None


def defaults_of(path: Path, commands: Mapping[str, Any], context: Any) -> Defaults:
    """The defaults of every command, checked as if they had been typed.

    Args:
        commands: by their names, as typer has built them.
        context: of the program.

    Raises:
        SpikeattnError: no TOML; an unknown command or option; a value that the option does not take. It names the file
            and the key.
    """
    record, prefix = _read(path), ""
    if path.name == PROJECT:
        record, prefix = record["tool"]["spikeattn"], "tool.spikeattn."
        if not isinstance(record, dict):
            raise SpikeattnError(f"{path.name}: tool.spikeattn: a table is needed, such as [tool.spikeattn.profile]")
    where = f"{path.name}: {prefix}"
    found: Defaults = {name: {} for name in commands}
    for key, value in record.items():
        if isinstance(value, dict):
            continue
        option = key.replace("-", "_")
        users = {
            name: _options(command)[option]
            for name, command in commands.items()
            if option in _options(command) and option not in _OTHERWISE.get(name, ())
        }
        if option not in COMMON or not users:
            raise _unknown(where, key, [*COMMON, *(f"[{prefix}{name}]" for name in commands)], users, prefix)
        for name, parameter in users.items():
            found[name][str(parameter.name)] = _checked(parameter, value, f"{where}{key}", context)
    for key, table in record.items():
        if not isinstance(table, dict):
            continue
        if key not in commands:
            raise _unknown(where, key, list(commands), {}, prefix)
        options = _options(commands[key])
        for name, value in table.items():
            if name.replace("-", "_") not in options:
                raise _unknown(f"{where}{key}.", name, list(options), {}, prefix)
            parameter = options[name.replace("-", "_")]
            found[key][str(parameter.name)] = _checked(parameter, value, f"{where}{key}.{name}", context)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SpikeattnError(f"{path.name}: no TOML: {error}; correct it, or give --no-config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpikeattnError(f"{path.name}: cannot be read ({error}); correct it, or give --no-config") from error


def _options(command: Any) -> dict[str, Any]:
    """What a table may hold: the long name of an option, with underscores, and its parameter."""
    found = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name not in _NEVER:
            for name in parameter.opts:
                if name.startswith("--"):
                    found[name[2:].replace("-", "_")] = parameter
    return found


def _unknown(where: str, key: str, valid: list[str], users: Mapping[str, Any], prefix: str) -> SpikeattnError:
    if users:
        first = next(iter(users))
        advice = f"it is an option of {', '.join(users)}; put it in a table, such as [{prefix}{first}]"
    else:
        close = difflib.get_close_matches(key.replace("-", "_"), valid, n=1)
        advice = f"{f'did you mean {close[0]!r}? ' if close else ''}valid are {', '.join(valid)}"
    return SpikeattnError(f"{where}{key}: unknown key; {advice}")


def _checked(parameter: Any, value: Any, where: str, context: Any) -> Any:
    """A value that the option takes, as its words would be given: a flag's as it is, texts for all others."""
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise SpikeattnError(f"{where}: true or false is needed, and this is {value!r}")
        taken: Any = value
    else:
        listed = value if parameter.multiple and isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in listed):
            needed = "a text or a number" + (", or a list of some," if parameter.multiple else "")
            raise SpikeattnError(f"{where}: {needed} is needed, and this is {value!r}")
        words = [str(each) for each in listed]
        taken = words if parameter.multiple else words[0]
    try:
        parameter.process_value(context, taken)
    except (CommandLineError, SpikeattnError) as error:
        said = error.format_message() if isinstance(error, CommandLineError) else str(error)
        raise SpikeattnError(f"{where}: {said}") from error
    return taken

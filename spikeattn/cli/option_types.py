"""What the values of options may be; what can never be is a wrong command line, said in our own words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from spikeattn.compat.python_names import StrEnum
from spikeattn.errors import SpikeattnError

E = TypeVar("E", bound=StrEnum)


# What click calls ClickException; where it lives depends on the version of typer.
CommandLineError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


class WrongCommandLine(SpikeattnError):
    """Options that do not go together or cannot be; the exit code is that of an option that does not exist."""


def within(low: float, high: float = math.inf) -> Callable[..., Any]:
    """Callback of an option whose number is from `low` to `high`."""
    valid = f"{low} or more" if high == math.inf else f"a number from {low} to {high}"

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and not low <= value <= high:
            raise WrongCommandLine(f"{param.opts[0]} {value}: give {valid}")
        return value

    return check


def level(param: typer.CallbackParam, value: float) -> float:
    """Callback of the level of an interval."""
    if not 0 < value < 1:
        raise WrongCommandLine(f"{param.opts[0]} {value}: give a number between 0 and 1, such as 0.95")
    return value


def choice(option: str, kind: type[E]) -> Any:
    """A typer option that takes the names of `kind`, as keywords of `typer.Option`.

    Args:
        option: its name, for the message.
    """
    names = [member.value for member in kind]

    def parse(word: str) -> E:
        if word in names:
            return kind(word)
        close = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise WrongCommandLine(f"{option} {word!r}: {hint}valid are {', '.join(names)}")

    return {"parser": parse, "metavar": "|".join(names)}


seed_of_sample = within(0, 2**32 - 1)  # what numpy's RandomState takes

"""Options with several words behind them: `--against B1 B2`, `--time-steps 1 2 4`.

An option of a command line takes one word. The words of these commands are rewritten before they are read, so that an
option gets all that stand behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from spikeattn.cli.configured import ConfiguredCommand
from spikeattn.cli.options import WrongCommandLine

AGAINST = "--against"
NUMBERS = ("--time-steps", "--threshold-scale", "--rate-scale")

Takes = Mapping[str, bool]  # whether an option takes a word


def reading(rewritten: Callable[[Sequence[str], Takes], list[str]]) -> type[ConfiguredCommand]:
    """The class of a command whose words are rewritten before they are read."""

    class Rewritten(ConfiguredCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            options = [option for option in self.params if any(name.startswith("-") for name in option.opts)]
            takes = {
                name: not (getattr(option, "is_flag", False) or getattr(option, "count", False))
                for option in options
                for name in option.opts
            }
            return super().parse_args(ctx, rewritten(args, takes))

    return Rewritten


def runs_against(words: Sequence[str], takes: Takes) -> list[str]:
    """Every word behind --against is one of the other side, up to the next option, where a run stands before it.

    `--against OTHER RUN` without a run before it is the other network and the run, as it always was.

    Raises:
        WrongCommandLine: more words than these two and no run before, of which nobody could tell whose they are.
    """
    found: list[str] = []
    runs, place, led = 0, 0, False
    while place < len(words):
        word, place = words[place], place + 1
        if word == AGAINST:
            group = list(takewhile(lambda each: not _is_option(each), words[place:]))
            place += len(group)
            if runs or len(group) < 2:
                found += [each for one in group for each in (AGAINST, one)] or [AGAINST]
                continue
            found += [AGAINST, *group]
            runs, led = len(group) - 1, True
        elif _is_option(word):
            found.append(word)
            if takes.get(word) and place < len(words):
                found.append(words[place])
                place += 1
        else:
            found.append(word)
            runs += 1
        if led and runs > 1:
            raise WrongCommandLine(
                f"{AGAINST}: which of its words are the other side? Put the runs first: spikeattn compare RUN "
                f"[RUN ...] {AGAINST} OTHER [OTHER ...]"
            )
    return found


def lists_of_numbers(words: Sequence[str], takes: Takes) -> list[str]:
    """The numbers behind an option that lists some, joined by commas: "--time-steps 1 2 4" is "--time-steps 1,2,4".

    So are those of an option that is given again: "--time-steps 2 --time-steps 4" is both.
    """
    found: list[str] = []
    where: dict[str, int] = {}  # the place of an option's list in `found`
    place = 0
    while place < len(words):
        (word, equals, first), place = words[place].partition("="), place + 1
        if word not in NUMBERS:
            found.append(words[place - 1])
            continue
        group = [first] if equals else []
        group += takewhile(_is_list, words[place:])
        place += len(group) - bool(equals)
        joined = ",".join(each.strip(",") for each in group)
        if word in where and joined:
            found[where[word]] += f",{joined}"
        elif joined:
            found += [word, joined]
            where[word] = len(found) - 1
        else:
            found.append(word)
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1


def _is_list(word: str) -> bool:
    """Whether a word is a number, or several between commas."""
    try:
        return all(float(each) > float("-inf") for each in word.strip(",").split(","))
    except ValueError:
        return False

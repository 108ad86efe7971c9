"""The text of a JSON or TOML file that anybody may have written, as plain Python values; no value is checked yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from spikeattn.boundary.places import SHOWN, step, value_text
from spikeattn.compat.python_names import tomllib
from spikeattn.errors import SpikeattnError

DEEPEST = 100  # levels; a record of ours has fewer than ten, and Python's own functions fail near 1,000
_DIGITS = 400  # float64 ends at 309 digits, Python reads no more than 4,300
_LONGEST = 10**_DIGITS


def parse_json(content: bytes, where: str, what: str) -> Any:
    """The value of a JSON file; `what` says in errors what was expected.

    Raises:
        SpikeattnError: no UTF-8, no JSON, a key twice in one record, too deep, or a number that is too long.
    """
    twice: dict[int, tuple[dict[str, Any], str]] = {}  # with the record itself, so that no other takes its id
    long: list[_Long] = []

    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice[id(values)] = values, next(name for name in names if names.count(name) > 1)
        return values

    def whole(digits: str) -> int | _Long:
        if len(digits) <= _DIGITS:
            return int(digits)
        long.append(_Long(len(digits)))
        return long[-1]

    try:
        value = json.loads(_text(content, where, what), object_pairs_hook=record, parse_int=whole)
    except RecursionError as error:
        raise _too_deep(where, "", what) from error
    except json.JSONDecodeError as error:
        raise SpikeattnError(f"{where}: not valid JSON ({error}); expected {what}") from error
    if twice or long or not _shallow(value):
        _check_tree(value, where, what, {key: name for key, (_, name) in twice.items()})
    return value


def parse_toml(content: bytes, where: str, what: str) -> dict[str, Any]:
    """The record of a TOML file; `what` says in errors what was expected, and they are those of `parse_json`."""
    try:
        value = tomllib.loads(_text(content, where, what))
    except RecursionError as error:
        raise _too_deep(where, "", what) from error
    except ValueError as error:  # TOMLDecodeError, or Python's own of a number with thousands of digits
        raise SpikeattnError(f"{where}: not valid TOML ({error}); expected {what}") from error
    _check_tree(value, where, what, {})
    return value


class _Long:
    """A whole number of so many digits, which is not read."""

    def __init__(self, digits: int) -> None:
        self.digits = digits


def _text(content: bytes, where: str, what: str) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        raise SpikeattnError(f"{where}: starts with a byte order mark; save it as UTF-8 without one")
    if not content.strip():
        raise SpikeattnError(f"{where}: is empty; expected {what}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpikeattnError(f"{where}: not a text file in UTF-8 ({error.reason}); expected {what}") from error
    if "\0" in text:
        raise SpikeattnError(f"{where}: not a text file in UTF-8 (it holds zero bytes); expected {what}")
    return text


def _shallow(value: Any) -> bool:
    """Whether a value ends within `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
    return not level


def _check_tree(value: Any, where: str, what: str, twice: Mapping[int, str]) -> None:
    """Depth, long numbers, and records with a key twice, level by level; no recursion, whatever the file holds."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(DEEPEST):
        if not level:
            return
        for path, each in level:
            if isinstance(each, _Long) or (isinstance(each, int) and abs(each) >= _LONGEST):
                long = f"{each.digits} digits" if isinstance(each, _Long) else f"more than {_DIGITS} digits"
                raise SpikeattnError(f"{where}: {path or 'it'} is a number of {long}; expected {what}")
            if id(each) in twice:
                key = value_text(twice[id(each)])
                raise SpikeattnError(f"{where}: {path or 'the record'} has the key {key} twice; leave one")
        level = [below for entry in level for below in _below(*entry)]
    raise _too_deep(where, level[0][0] if level else "", what)


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield (path + step(key)).removeprefix("."), each
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield f"{path}[{i}]", each


def _too_deep(where: str, path: str, what: str) -> SpikeattnError:
    begin = f"{path.partition('[')[0][:SHOWN]} is " if path else ""
    return SpikeattnError(f"{where}: {begin}nested more than {DEEPEST} levels deep; expected {what}")

"""Records of files that anybody may have edited, checked once at the door: JSON and TOML into frozen dataclasses.

The annotations of a dataclass are its schema: bool, int, float, str, `X | None`, tuples, mappings, other dataclasses.
`Annotated[int, Limits(1)]` bounds a number, `Annotated[str, OneOf(...)]` lists texts, and `Annotated[Mapping[str, Any],
Keys(...)]` says what is read of a record that may hold anything besides. An int is no bool and no float, and fits in 64
bits; a float is finite.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from spikeattn.errors import SpikeattnError, unknown

DEEPEST = 100  # levels; a record of ours has fewer than ten, and Python's own functions fail near 1,000
_INT64 = 1 << 63  # counts are kept in 64 bits
_DIGITS = 400  # float64 ends at 309 digits, Python reads no more than 4,300
_LONGEST = 10**_DIGITS
_SHOWN = 60  # characters of a wrong value in an error

_WORD = re.compile(r"[\w-]+", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Bounds of a number: at least `low`, or above it where `above`."""

    low: float
    above: bool = False

    def hold(self, value: float) -> bool:
        """Whether a number is within them."""
        return value > self.low if self.above else value >= self.low

    def __str__(self) -> str:
        return f" above {self.low:g}" if self.above else f" of at least {self.low:g}"


@dataclass(frozen=True)
class OneOf:
    """The texts that are valid."""

    values: tuple[str, ...]


class Printable:
    """A text that UTF-8 can hold; file names need not be, and JSON keeps them all the same."""


class Keys:
    """What is read of an open record: a type by key. A key may be absent, and others may be there, of any type."""

    def __init__(self, **types: Any) -> None:
        self.types = types


def read(
    kind: type[T], record: Any, where: str, path: str = "", *, null: str | None = "null", others: bool = False
) -> T:
    """A dataclass from a record of plain Python values, its lists made tuples.

    Args:
        where: names the file in errors.
        path: the place of the record in the file, "" at its root.
        null: what None is called in this kind of file; None where it cannot be written, as in TOML, and is left out.
        others: unknown fields of the record itself are passed over, as those of a newer version.

    Raises:
        SpikeattnError: with the path of the first field that is missing, unknown or wrong.
    """
    if others and isinstance(record, dict):
        known = _fields(kind, null)
        record = {name: value for name, value in record.items() if name in known}
    return _checked(_reader(kind, null), record, where, path)


def check(kind: Any, value: Any, where: str, path: str = "") -> Any:
    """A value in plain Python that must be of an annotated type, with lists made tuples; errors as in `read`."""
    return _checked(_compiled(kind, "null"), value, where, path)


def check_fields(instance: Any, where: str) -> None:
    """Every field of a dataclass that was made in Python; errors as in `read`."""
    for name, reader in _fields(type(instance), "null").items():
        _checked(reader, getattr(instance, name), where, name)


def parse_json(content: bytes, where: str, what: str) -> Any:
    """The value of a JSON file; `what` says in errors what was expected.

    Raises:
        SpikeattnError: no UTF-8, no JSON, a key twice in one record, too deep, or a number that is too long.
    """
    twice: dict[int, tuple[dict[str, Any], str]] = {}  # with the record itself, so that no other takes its id
    long: list[_Long] = []

    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice[id(made)] = made, next(name for name in names if names.count(name) > 1)
        return made

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


# ---------------------------------------------------------------- text and tree
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
                key = _shown(twice[id(each)])
                raise SpikeattnError(f"{where}: {path or 'the record'} has the key {key} twice; leave one")
        level = [below for entry in level for below in _below(*entry)]
    raise _too_deep(where, level[0][0] if level else "", what)


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield (path + _step(key)).removeprefix("."), each
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield f"{path}[{i}]", each


def _step(key: str) -> str:
    """A key as the next step of a path, in quotes where it is no plain word."""
    return f".{key}" if _WORD.fullmatch(key) else f"[{json.dumps(key)}]"


def _too_deep(where: str, path: str, what: str) -> SpikeattnError:
    begin = f"{path.partition('[')[0][:_SHOWN]} is " if path else ""
    return SpikeattnError(f"{where}: {begin}nested more than {DEEPEST} levels deep; expected {what}")


# ---------------------------------------------------------------- types
class _WrongError(Exception):
    """A value that does not fit; the records around it put their part of the path in front."""

    def __init__(self, text: Callable[[str], SpikeattnError]) -> None:
        self.text, self.path = text, ""

    def within(self, step: str) -> _WrongError:
        """The same, seen from the record around it."""
        self.path = step + self.path
        return self


@dataclass(frozen=True)
class _Reader:
    """How to read one type: what is expected, in words, and a function that gives the value or raises."""

    words: str
    take: Callable[[Any], Any]
    nothing: bool = False  # None is valid


def _checked(reader: _Reader, value: Any, where: str, path: str) -> Any:
    try:
        return reader.take(value)
    except _WrongError as wrong:
        error = wrong.text((path + wrong.path).removeprefix("."))
    raise SpikeattnError(f"{where}: {error}")


def _no(value: Any, words: str) -> _WrongError:
    return _WrongError(lambda path: SpikeattnError(f"{path or 'it'} is {_shown(value)}; {words} is expected"))


def _shown(value: Any) -> str:
    """A value as it stands in the file, shortened."""
    if isinstance(value, int) and abs(value) >= _INT64:
        return "a whole number that is too long for 64 bits"
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


@cache
def _reader(kind: Any, null: str | None) -> _Reader:
    """The reader of a dataclass from a record."""
    fields = _fields(kind, null)
    absent = {name: None for name, reader in fields.items() if reader.nothing and null is None}
    needed = tuple(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in absent
    )

    def take(value: Any) -> Any:
        if type(value) is kind:  # made in Python
            for name, reader in fields.items():
                try:
                    reader.take(getattr(value, name))
                except _WrongError as wrong:
                    raise wrong.within(_step(name)) from None
            return value
        if type(value) is not dict:
            raise _no(value, words)
        made: dict[str, Any] = dict(absent)
        for name, each in value.items():
            reader = fields.get(name)
            if reader is None:
                raise _WrongError(lambda path, name=name: unknown(f"field of {path or 'the record'}", name, fields))
            try:
                made[name] = reader.take(each)
            except _WrongError as wrong:
                raise wrong.within(_step(name)) from None
        if lacks := ", ".join(name for name in needed if name not in made):
            raise _WrongError(lambda path: SpikeattnError(f"{path or 'the record'} lacks {lacks}"))
        try:
            return kind(**made)
        except SpikeattnError as error:  # its fields do not go together
            text = str(error)
            raise _WrongError(lambda path: SpikeattnError(f"{path}: {text}" if path else text)) from None

    words = f"a record of {', '.join(needed)}"
    return _Reader(words, take)


@cache
def _fields(kind: type, null: str | None) -> dict[str, _Reader]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _compiled(hints[field.name], null) for field in dataclasses.fields(kind)}


def _compiled(hint: Any, null: str | None) -> _Reader:
    """The reader of an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1], null)
    if hint is Any:
        return _Reader("anything", lambda value: value)
    if hint in (int, float):
        return _number(hint, None)
    if hint in _PLAIN:
        return _plain(hint)
    if origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
        return _or_null(_compiled(next(one for one in arguments if one is not NoneType), null), null)
    if origin is tuple:
        return _list(arguments, null)
    if origin is Mapping or origin is dict:
        return _mapping(_compiled(arguments[1], null))
    if dataclasses.is_dataclass(hint):
        return _reader(hint, null)
    raise TypeError(f"no reader for the annotation {hint!r}")


_PLAIN = {bool: "true or false", str: "text"}


def _plain(kind: type) -> _Reader:
    words = _PLAIN[kind]

    def take(value: Any) -> Any:
        if type(value) is not kind:
            raise _no(value, words)
        return value

    return _Reader(words, take)


def _number(kind: type, limits: Limits | None) -> _Reader:
    bounds = "" if limits is None else str(limits)
    words = f"a whole number{bounds}" if kind is int else f"a finite number{bounds}"
    kinds: tuple[type, ...] = (int,) if kind is int else (int, float)

    def take(value: Any) -> Any:
        fits = type(value) in kinds and (-_INT64 <= value < _INT64 if type(value) is int else math.isfinite(value))
        if not fits or not (limits is None or limits.hold(value)):
            raise _no(value, words)
        return value

    return _Reader(words, take)


def _annotated(kind: Any, mark: Any, null: str | None) -> _Reader:
    if isinstance(mark, Keys):
        return _open(mark, null)
    if isinstance(mark, Printable):
        return _printable()
    return _one_of(mark.values) if isinstance(mark, OneOf) else _number(kind, mark)


def _printable() -> _Reader:
    words = "text in UTF-8"

    def take(value: Any) -> Any:
        if type(value) is not str or not (value.isascii() or value.encode("utf-8", "ignore").decode() == value):
            raise _no(value, words)
        return value

    return _Reader(words, take)


def _or_null(of: _Reader, null: str | None) -> _Reader:
    words = f"{of.words} or {null}" if null else of.words

    def take(value: Any) -> Any:
        if value is None:
            return None
        try:
            return of.take(value)
        except _WrongError as wrong:  # the value itself, or something in it
            raise (wrong if wrong.path else _no(value, words)) from None

    return _Reader(words, take, nothing=True)


def _one_of(values: tuple[str, ...]) -> _Reader:
    words = f"one of {', '.join(map(_shown, values))}"

    def take(value: Any) -> Any:
        if type(value) is not str or value not in values:
            raise _no(value, words)
        return value

    return _Reader(words, take)


def _list(kinds: tuple[Any, ...], null: str | None) -> _Reader:
    """A list of one type, or of so many values of types of their own, as a tuple."""
    endless = kinds[-1] is Ellipsis
    readers = [_compiled(kind, null) for kind in kinds if kind is not Ellipsis]
    words = "a list" if endless else f"a list of {len(readers)} values"

    def take(value: Any) -> Any:
        if not isinstance(value, list | tuple) or not (endless or len(value) == len(readers)):
            raise _no(value, words)
        made = []
        for i, each in enumerate(value):
            try:
                made.append(readers[0 if endless else i].take(each))
            except _WrongError as wrong:
                raise wrong.within(f"[{i}]") from None
        return tuple(made)

    return _Reader(words, take)


def _mapping(of: _Reader) -> _Reader:
    def take(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _no(value, "a record")
        made = {}
        for name, each in value.items():
            try:
                made[name] = of.take(each)
            except _WrongError as wrong:
                raise wrong.within(_step(name)) from None
        return made

    return _Reader("a record", take)


def _open(keys: Keys, null: str | None) -> _Reader:
    """A record of which some keys are read; it is handed on as it is."""
    readers = {name: _compiled(hint, null) for name, hint in keys.types.items()}

    def take(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _no(value, "a record")
        for name, reader in readers.items():
            if name in value:
                try:
                    reader.take(value[name])
                except _WrongError as wrong:
                    raise wrong.within(_step(name)) from None
        return dict(value)

    return _Reader("a record", take)

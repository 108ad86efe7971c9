"""Readers of annotated types: each gives a value that fits, as frozen Python, or says where one does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from spikeattn.boundary.marks import Keys, Limits, OneOf, Printable
from spikeattn.boundary.places import INT64, step, value_text
from spikeattn.errors import SpikeattnError, unknown


class WrongValue(Exception):
    """A value that does not fit; the records around it put their part of the path in front."""

    def __init__(self, text: Callable[[str], SpikeattnError]) -> None:
        self.text, self.path = text, ""

    def within(self, step: str) -> WrongValue:
        """The same, seen from the record around it."""
        self.path = step + self.path
        return self


@dataclass(frozen=True)
class Reader:
    """How to read one type: what is expected, in words, and a function that gives the value or raises."""

    words: str
    take: Callable[[Any], Any]
    nothing: bool = False  # None is valid


def _no(value: Any, words: str) -> WrongValue:
    return WrongValue(lambda path: SpikeattnError(f"{path or 'it'} is {value_text(value)}; {words} is expected"))


def _reader(kind: Any, null: str | None) -> Reader:
    """The reader of a dataclass from a record."""
    fields = fields_of(kind, null)
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
                except WrongValue as wrong:
                    raise wrong.within(step(name)) from None
            return value
        if type(value) is not dict:
            raise _no(value, words)
        values: dict[str, Any] = dict(absent)
        for name, each in value.items():
            field = fields.get(name)
            if field is None:
                raise _no_field(name, fields)
            try:
                values[name] = field.take(each)
            except WrongValue as wrong:
                raise wrong.within(step(name)) from None
        if lacks := ", ".join(name for name in needed if name not in values):
            raise WrongValue(lambda path: SpikeattnError(f"{path or 'the record'} lacks {lacks}"))
        try:
            return kind(**values)
        except SpikeattnError as error:  # its fields do not go together
            text = str(error)
            raise WrongValue(lambda path: SpikeattnError(f"{path}: {text}" if path else text)) from None

    words = f"a record of {', '.join(needed)}"
    return Reader(words, take)


def _no_field(name: str, fields: Mapping[str, Reader]) -> WrongValue:
    return WrongValue(lambda path: unknown(f"field of {path or 'the record'}", name, fields))


def _fields(kind: type, null: str | None) -> dict[str, Reader]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: compiled(hints[field.name], null) for field in dataclasses.fields(kind)}


# One reader per type, made at its first use.
reader_of: Callable[[Any, str | None], Reader] = cache(_reader)
fields_of: Callable[[Any, str | None], dict[str, Reader]] = cache(_fields)


def compiled(hint: Any, null: str | None) -> Reader:
    """The reader of an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1], null)
    if hint is Any:
        return Reader("anything", lambda value: value)
    if hint in (int, float):
        return _number(hint, None)
    if hint in _PLAIN:
        return _plain(hint)
    if origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
        return _or_null(compiled(next(one for one in arguments if one is not NoneType), null), null)
    if origin is tuple:
        return _list(arguments, null)
    if origin is Mapping or origin is dict:
        return _mapping(compiled(arguments[1], null))
    if dataclasses.is_dataclass(hint):
        return reader_of(hint, null)
    raise TypeError(f"no reader for the annotation {hint!r}")


_PLAIN = {bool: "true or false", str: "text"}


def _plain(kind: type) -> Reader:
    words = _PLAIN[kind]

    def take(value: Any) -> Any:
        if type(value) is not kind:
            raise _no(value, words)
        return value

    return Reader(words, take)


def _number(kind: type, limits: Limits | None) -> Reader:
    bounds = "" if limits is None else str(limits)
    words = f"a whole number{bounds}" if kind is int else f"a finite number{bounds}"
    kinds: tuple[type, ...] = (int,) if kind is int else (int, float)

    def take(value: Any) -> Any:
        fits = type(value) in kinds and (-INT64 <= value < INT64 if type(value) is int else math.isfinite(value))
        if not fits or not (limits is None or limits.hold(value)):
            raise _no(value, words)
        return value

    return Reader(words, take)


def _annotated(kind: Any, mark: Any, null: str | None) -> Reader:
    if isinstance(mark, Keys):
        return _open(mark, null)
    if isinstance(mark, Printable):
        return _printable()
    return _one_of(mark.values) if isinstance(mark, OneOf) else _number(kind, mark)


def _printable() -> Reader:
    words = "text in UTF-8"

    def take(value: Any) -> Any:
        if type(value) is not str or not (value.isascii() or value.encode("utf-8", "ignore").decode() == value):
            raise _no(value, words)
        return value

    return Reader(words, take)


def _or_null(of: Reader, null: str | None) -> Reader:
    words = f"{of.words} or {null}" if null else of.words

    def take(value: Any) -> Any:
        if value is None:
            return None
        try:
            return of.take(value)
        except WrongValue as wrong:  # the value itself, or something in it
            raise (wrong if wrong.path else _no(value, words)) from None

    return Reader(words, take, nothing=True)


def _one_of(values: tuple[str, ...]) -> Reader:
    words = f"one of {', '.join(map(value_text, values))}"

    def take(value: Any) -> Any:
        if type(value) is not str or value not in values:
            raise _no(value, words)
        return value

    return Reader(words, take)


def _list(kinds: tuple[Any, ...], null: str | None) -> Reader:
    """A list of one type, or of so many values of types of their own, as a tuple."""
    endless = kinds[-1] is Ellipsis
    readers = [compiled(kind, null) for kind in kinds if kind is not Ellipsis]
    words = "a list" if endless else f"a list of {len(readers)} values"

    def take(value: Any) -> Any:
        if not isinstance(value, list | tuple) or not (endless or len(value) == len(readers)):
            raise _no(value, words)
        values = []
        for i, each in enumerate(value):
            try:
                values.append(readers[0 if endless else i].take(each))
            except WrongValue as wrong:
                raise wrong.within(f"[{i}]") from None
        return tuple(values)

    return Reader(words, take)


def _mapping(of: Reader) -> Reader:
    def take(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _no(value, "a record")
        values = {}
        for name, each in value.items():
            try:
                values[name] = of.take(each)
            except WrongValue as wrong:
                raise wrong.within(step(name)) from None
        return values

    return Reader("a record", take)


def _open(keys: Keys, null: str | None) -> Reader:
    """A record of which some keys are read; it is handed on as it is."""
    readers = {name: compiled(hint, null) for name, hint in keys.types.items()}

    def take(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _no(value, "a record")
        for name, reader in readers.items():
            if name in value:
                try:
                    reader.take(value[name])
                except WrongValue as wrong:
                    raise wrong.within(step(name)) from None
        return dict(value)

    return Reader("a record", take)

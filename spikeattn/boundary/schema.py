"""Records of files that anybody may have edited, checked once at the door: JSON and TOML into frozen dataclasses.

The annotations of a dataclass are its schema: bool, int, float, str, `X | None`, tuples, mappings, other dataclasses.
`Annotated[int, Limits(1)]` bounds a number, `Annotated[str, OneOf(...)]` lists texts, and `Annotated[Mapping[str, Any],
Keys(...)]` says what is read of a record that may hold anything besides. An int is no bool and no float, and fits in 64
bits; a float is finite.
"""

from __future__ import annotations

from typing import Any, TypeVar

from spikeattn.boundary.readers import Reader, WrongValue, compiled, fields_of, reader_of
from spikeattn.errors import SpikeattnError

T = TypeVar("T")


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
        known = fields_of(kind, null)
        record = {name: value for name, value in record.items() if name in known}
    return _checked(reader_of(kind, null), record, where, path)


def check(kind: Any, value: Any, where: str, path: str = "") -> Any:
    """A value in plain Python that must be of an annotated type, with lists made tuples; errors as in `read`."""
    return _checked(compiled(kind, "null"), value, where, path)


def check_fields(instance: Any, where: str) -> None:
    """Every field of a dataclass that was made in Python; errors as in `read`."""
    for name, reader in fields_of(type(instance), "null").items():
        _checked(reader, getattr(instance, name), where, name)


def _checked(reader: Reader, value: Any, where: str, path: str) -> Any:
    try:
        return reader.take(value)
    except WrongValue as wrong:
        error = wrong.text((path + wrong.path).removeprefix("."))
    raise SpikeattnError(f"{where}: {error}")

"""The names file: the structure of a network as TOML, to be read, corrected and given back.

    [synapses]
    "block.0.attn.q_conv" = { part = "QKV", block = 0, role = "q" }

Keys are names as a ledger has them; the tables are synapses, products and tensors. What a file leaves out stays as it
was inferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikeattn.boundary.arguments import shown
from spikeattn.compat.python_names import tomllib
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage.ledger_rows import current_part
from spikeattn.structure.entry import KINDS, OTHER, PARTS, Entries, Entry

NAMES_FILE = "names file"
_FIELDS = ("part", "block", "role")


def text_of(entries: Entries) -> str:
    """The text of a names file."""
    lines = ["# Part, block and role of everything in the network. Change what is wrong, drop what is right.",
             f"# Parts: {', '.join(PARTS)}.", ""]  # fmt: skip
    for kind in KINDS:
        lines.append(f"[{kind}]")
        for entry in entries[kind]:
            fields = [f"part = {json.dumps(entry.part)}"]
            fields += [f"block = {entry.block}"] if entry.block is not None else []
            fields += [f"role = {json.dumps(entry.role)}"] if entry.role is not None else []
            line = f"{json.dumps(entry.name)} = {{ {', '.join(fields)} }}"
            note = entry.known
            if entry.part == OTHER:
                note += f", nearest: {entry.nearest}" if entry.nearest else ", like nothing else here"
            lines.append(f"{line}  # {note}")
        lines.append("")
    return "\n".join(lines)


def read(names: str | Path | Mapping[str, Any]) -> tuple[dict[str, dict[str, dict[str, Any]]], str]:
    """The tables of a names file or mapping, checked but for their keys; and what to call it in errors."""
    where = "names"
    if isinstance(names, Mapping):
        tables: Any = dict(names)
    elif isinstance(names, (str, Path)):
        where = str(names)
        try:
            tables = tomllib.loads(Path(names).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SpikeattnError(f"{where}: no such names file; `structure.write_names(path)` writes one") from error
        except OSError as error:
            raise SpikeattnError(f"{where}: cannot be read ({error.strerror}); give a names file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpikeattnError(
                f"{where}: no TOML ({error}); `structure.write_names(path)` writes a names file"
            ) from error
    else:
        raise SpikeattnError(f"names is {shown(names)}; give the path of a names file, or a dict as one holds it")
    if not set(tables) & set(KINDS):  # names of synapses alone
        tables = {"synapses": tables}
    if strange := sorted(set(tables) - set(KINDS)):
        raise unknown(f"table in {where}", strange[0], KINDS)
    return {
        kind: {str(k): _entry(where, k, v) for k, v in _table(where, kind, t).items()} for kind, t in tables.items()
    }, where


def _table(where: str, kind: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpikeattnError(f"{where}: {kind} is {shown(value)}; give a table of names")
    return value


def _entry(where: str, key: Any, value: Any) -> dict[str, Any]:
    entry = {"part": value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping):
        raise SpikeattnError(f'{where}: {key!r} is {shown(value)}; give {{ part = "QKV", block = 0, role = "q" }}')
    if strange := sorted(set(entry) - set(_FIELDS)):
        raise unknown(f"field of {key!r} in {where}", strange[0], _FIELDS)
    part = current_part(entry["part"]) if isinstance(entry.get("part"), str) else entry.get("part")
    if "part" in entry and part not in PARTS:
        raise unknown(f"part of {key!r} in {where}", entry["part"], PARTS)
    block, role = entry.get("block"), entry.get("role")
    if block is not None and (not isinstance(block, int) or isinstance(block, bool) or block < 0):
        raise SpikeattnError(f"{where}: block of {key!r} is {shown(block)}; give a whole number of at least 0")
    if role is not None and (not isinstance(role, str) or not role):
        raise SpikeattnError(f'{where}: role of {key!r} is {shown(role)}; give a text such as "q"')
    return dict(entry) | ({"part": part} if "part" in entry else {})


def named(entries: Entries, names: str | Path | Mapping[str, Any], also: Entries | None = None) -> Entries:
    """Entries with those of a names file; see `Structure.named`. `also` has further names that may stand in it."""
    tables, where = read(names)
    labelled = dict(entries)
    for kind, table in tables.items():
        own = {entry.name for entry in entries[kind]}
        known = own | ({entry.name for entry in also[kind]} if also is not None else set())
        for key in table:
            if key not in known:
                raise unknown(f"{kind[:-1]} in {where}", key, known)
        labelled[kind] = tuple(_named(entry, table.get(entry.name)) for entry in entries[kind])
    return labelled


def _named(entry: Entry, fields: Mapping[str, Any] | None) -> Entry:
    """An entry as a names file has it; what the file repeats unchanged stays as it was known."""
    if fields is None:
        return entry
    part, block, role = fields.get("part", entry.part), fields.get("block"), fields.get("role")
    if "block" not in fields and part == entry.part:
        block = entry.block
    if "role" not in fields and part == entry.part:
        role = entry.role
    if (part, block, role) == (entry.part, entry.block, entry.role) and part != OTHER:
        return replace(entry, known=NAMES_FILE)
    return Entry(entry.name, part, block, role, NAMES_FILE, entry.channels if role == entry.role else {})

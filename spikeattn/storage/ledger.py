"""The ledger of a model: what every synapse and every product would cost if all its inputs were non-zero.

The ledger is structure, never activity: dense operations, fan-outs and the tensor each synapse receives. Together with
the count table it is everything that rates, operations and energies are computed from; on disk it is `model.json`.
Elements, dense operations and fan-outs are per image and time step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from spikeattn.boundary import file_text, schema
from spikeattn.boundary.marks import Keys
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage import files
from spikeattn.storage.ledger_rows import (
    Addition,
    CountedTensor,
    Number,
    Product,
    Row,
    Size,
    Synapse,
    Uncounted,
    current_part,
)
from spikeattn.storage.settings import SETTINGS, Record, Settings, Text

FORMAT = 1  # of model.json; another number where this version would misread the file
EXPECTED = "the model.json of a run"
TOKENS = "token ids"  # kind of an input whose numbers name rows of a table: they are no amounts, and have no rate
_LABELLED = ("tensors", "synapses", "products")

# What is read of records that otherwise hold whatever a model or a user's `provenance` says of itself.
MODEL = Keys(**{"name": Text, "class": Text, "parameters": Number | None, "trained": bool | None, "config": Record})
PROVENANCE = Keys(
    settings=Annotated[Record, SETTINGS],
    command=str,
    inputs=Record,
    shard=str,
    skipped=tuple[Annotated[Record, Keys(id=str, reason=str)], ...],
    mixed=Mapping[str, tuple[Any, ...]],
    counts_sha256=str,
    python=Text,
    platform=Text,
    output=Text,
    targets=Text,
    no_accuracy=Text,
)


@dataclass(frozen=True)
class Ledger:
    """The structure of one model at one input size: tensors, synapses, products, and what could not be counted.

    `structure` holds what the entries do not: token grid, heads, class tokens, channel ranges (`structure.Structure`).
    `additions` are None in runs of versions that did not record them; part and block of each are those of its layer.

    Raises:
        SpikeattnError: a name stands twice, a synapse receives a tensor that is not listed, or a field has another type
            or range than its annotation says.
    """

    time_steps: Size
    static_input: bool
    tensors: tuple[CountedTensor, ...]
    synapses: tuple[Synapse, ...]
    products: tuple[Product, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    warnings: tuple[str, ...] = ()
    model: Annotated[Record, MODEL] = field(default_factory=dict)
    provenance: Annotated[Record, PROVENANCE] = field(default_factory=dict)
    structure: Record = field(default_factory=dict)
    additions: tuple[Addition, ...] | None = None

    def __post_init__(self) -> None:
        schema.check_fields(self, "ledger")
        for what, rows in self._rows().items():
            twice = [name for name, times in Counter(row.name for row in rows).items() if times > 1]
            if twice:
                raise SpikeattnError(f"ledger: {what} {twice[0]!r} is listed twice, names must be unique")
        received = [(f"tensors[{i}].sources", name) for i, t in enumerate(self.tensors) for name in t.sources]
        received += [(f"synapses[{i}].input", synapse.input) for i, synapse in enumerate(self.synapses)]
        received += [(f"products[{i}].operands", name) for i, p in enumerate(self.products) for name in p.operands]
        for path, name in received:
            if name not in self._by_name["tensor"]:
                raise unknown(f"tensor of {path}", name, self._by_name["tensor"])
        if self.additions is not None:
            object.__setattr__(self, "additions", tuple(self._parted(i, a) for i, a in enumerate(self.additions)))

    @property
    def of_tokens(self) -> bool:
        """Whether the input holds the numbers of tokens, and no values."""
        known = self.provenance.get("input")
        return isinstance(known, Mapping) and known.get("kind") == TOKENS

    def _parted(self, place: int, addition: Addition) -> Addition:
        """An addition with the part and block of its layer, so that no other place can say something else."""
        tensors, layers = self._by_name["tensor"], {**self._by_name["product"], **self._by_name["synapse"]}
        if addition.operand is not None and addition.operand not in tensors:
            raise unknown(f"tensor of additions[{place}].operand", addition.operand, tensors)
        if addition.layer is None:
            return addition
        if addition.layer not in layers:
            raise unknown(f"layer of additions[{place}].layer", addition.layer, layers)
        layer = layers[addition.layer]
        return dataclasses.replace(addition, part=layer.part, block=layer.block)

    def _rows(self) -> dict[str, tuple[Row, ...]]:
        return {"tensor": self.tensors, "synapse": self.synapses, "product": self.products}

    @cached_property
    def _by_name(self) -> dict[str, dict[str, Any]]:
        return {what: {row.name: row for row in rows} for what, rows in self._rows().items()}

    @cached_property
    def settings(self) -> Settings:
        """What the run was made with, as far as its provenance says."""
        return Settings.of(self.provenance)

    def _lookup(self, what: str, name: str) -> Any:
        rows = self._by_name[what]
        if name not in rows:
            raise unknown(what, name, rows)
        return rows[name]

    def tensor(self, name: str) -> CountedTensor:
        """The tensor of this name; an unknown name is an error with the closest names."""
        return self._lookup("tensor", name)

    def synapse(self, name: str) -> Synapse:
        """The synapse of this name; an unknown name is an error with the closest names."""
        return self._lookup("synapse", name)

    def product(self, name: str) -> Product:
        """The product of this name; an unknown name is an error with the closest names."""
        return self._lookup("product", name)

    def labels(self) -> dict[str, tuple[str | None, int | None, str | None]]:
        """Part, block and role by name of every tensor, synapse and product; which runs may be joined goes by it."""
        return {f"{what} {r.name}": (r.part, r.block, r.role) for what, rows in self._rows().items() for r in rows}

    def dense_macs(self) -> int:
        """Dense multiply-accumulates of all synapses, per image and time step."""
        return sum(synapse.dense_macs for synapse in self.synapses)

    def hash(self) -> str:
        """Sha256 of what a count table depends on: time steps, names, shapes, dense operations, fan-outs.

        Labels (role, part), kinds (settled only when a run ends), numbers of parameters, warnings and provenance do not
        enter: two runs of one model at one input size have the same hash.
        """
        structure = {
            "time_steps": self.time_steps,
            "static_input": self.static_input,
            "tensors": [
                [t.name, list(t.shape), t.elements, *([] if t.unit == 1 else [t.unit]), *(["joined"] * t.joined)]
                for t in self.tensors
            ],
            "synapses": [
                [
                    *(s.name, s.op, s.input, s.dense_macs, s.fan_out, s.output_elements, s.every_step),
                    *([] if s.runs is None else [s.runs]),
                ]
                for s in self.synapses
            ],
            "products": [
                [
                    *(p.name, p.op, list(p.operands), p.elements),
                    *([] if p.every_step else [False]),
                    *([] if p.runs is None else [p.runs]),
                ]
                for p in self.products
            ],
        }
        return hashlib.sha256(json.dumps(structure, separators=(",", ":")).encode()).hexdigest()

    def settings_hash(self) -> str:
        """Sha256 of the settings a run was made with (model, weights, data, device, versions)."""
        settings = json.dumps(self.provenance.get("settings"), sort_keys=True, default=str)
        return hashlib.sha256(settings.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The content of `model.json` as plain Python values."""
        record: dict[str, Any] = {
            "format": FORMAT,
            "model": dict(self.model),
            "time_steps": self.time_steps,
            "static_input": self.static_input,
        }
        for key in ("tensors", "synapses", "products", "additions", "uncounted"):
            if getattr(self, key) is not None:  # a run that was made without the additions stays one
                record[key] = [dataclasses.asdict(entry) for entry in getattr(self, key)]
        return record | {
            "warnings": list(self.warnings),
            "provenance": dict(self.provenance),
            "structure": dict(self.structure),
        }

    def to_json(self) -> str:
        """The text of `model.json`: UTF-8, two spaces, a final newline."""
        content = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        return content.encode("utf-8", "backslashreplace").decode("utf-8")  # file names may be no UTF-8

    def save(self, path: str | Path) -> Path:
        """Write `model.json` and return its path; the file appears whole or not at all."""
        return files.write(Path(path), self.to_json())

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], source: str = "ledger") -> Ledger:
        """The ledger of a `to_dict` record; `source` names its origin in errors.

        Raises:
            SpikeattnError: with the path of the field that is missing, unknown or wrong.
        """
        if not isinstance(record, Mapping) or "format" not in record:
            raise SpikeattnError(f"{source}: not a spikeattn ledger (no 'format'); expected {EXPECTED}")
        if type(record["format"]) is not int or record["format"] != FORMAT:
            raise SpikeattnError(
                f"{source}: ledger format {record['format']!r}, this version reads format {FORMAT}; profile again"
            )
        read = schema.read(cls, dict(record), source, others=True)
        renamed: dict[str, Any] = {key: tuple(_renamed(entry) for entry in getattr(read, key)) for key in _LABELLED}
        same = all(rows == getattr(read, key) for key, rows in renamed.items())
        return read if same else dataclasses.replace(read, **renamed)

    @classmethod
    def from_json(cls, text: str, source: str = "ledger") -> Ledger:
        """The ledger of a `to_json` text; `source` names its origin in errors."""
        content = text.encode("utf-8", "surrogatepass")
        return cls.from_dict(file_text.parse_json(content, source, EXPECTED), source)

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """Read a `model.json`; a missing, damaged or foreign file is one clear error."""
        path = Path(path)
        if not path.is_file():
            raise SpikeattnError(f"{path}: no such file; expected the model.json that a profile run writes")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SpikeattnError(f"{path}: cannot be read ({error.strerror}); expected {EXPECTED}") from error
        return cls.from_dict(file_text.parse_json(content, str(path), EXPECTED), str(path))


def _renamed(row: Row) -> Row:
    part = current_part(row.part)
    return row if part == row.part else dataclasses.replace(row, part=part)

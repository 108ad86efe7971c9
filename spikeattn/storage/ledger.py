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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage import files
from spikeattn.storage.entries import KINDS, PRODUCT_OPS, Product, Synapse, Tensor, Uncounted

FORMAT = 1


@dataclass(frozen=True)
class Ledger:
    """The structure of one model at one input size: tensors, synapses, products, and what could not be counted.

    `structure` holds what the entries do not: token grid, heads, class tokens, channel ranges (`structure.Structure`).

    Raises:
        SpikeattnError: a name stands twice, a synapse receives a tensor that is not listed, or a field is out of range.
    """

    time_steps: int
    static_input: bool
    tensors: tuple[Tensor, ...]
    synapses: tuple[Synapse, ...]
    products: tuple[Product, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    warnings: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time_steps < 1:
            raise SpikeattnError(f"ledger: time_steps is {self.time_steps}, it must be at least 1")
        for what, entries in (("tensor", self.tensors), ("synapse", self.synapses), ("product", self.products)):
            twice = [name for name, times in Counter(entry.name for entry in entries).items() if times > 1]
            if twice:
                raise SpikeattnError(f"ledger: {what} {twice[0]!r} is listed twice, names must be unique")
        for tensor in self.tensors:
            if tensor.kind not in KINDS:
                raise unknown(f"kind of tensor {tensor.name}", tensor.kind, KINDS)
            if tensor.elements < 1:
                raise SpikeattnError(f"ledger: tensor {tensor.name!r} has {tensor.elements} elements, it needs one")
            for source in tensor.sources:
                self.tensor(source)
        for synapse in self.synapses:
            self.tensor(synapse.input)
            if synapse.dense_macs < 0 or (synapse.fan_out is not None and synapse.fan_out < 0):
                raise SpikeattnError(
                    f"ledger: synapse {synapse.name!r} has dense_macs {synapse.dense_macs} and fan_out "
                    f"{synapse.fan_out}, both must be >= 0"
                )
        for product in self.products:
            if product.op not in PRODUCT_OPS:
                raise unknown(f"op of product {product.name}", product.op, PRODUCT_OPS)
            if product.elements < 0:
                raise SpikeattnError(f"ledger: product {product.name!r} has {product.elements} elements, must be >= 0")
            for operand in product.operands:
                self.tensor(operand)

    @cached_property
    def _by_name(self) -> dict[str, dict[str, Any]]:
        groups = {"tensor": self.tensors, "synapse": self.synapses, "product": self.products}
        return {what: {entry.name: entry for entry in entries} for what, entries in groups.items()}

    def _lookup(self, what: str, name: str) -> Any:
        entries = self._by_name[what]
        if name not in entries:
            raise unknown(what, name, entries)
        return entries[name]

    def tensor(self, name: str) -> Tensor:
        """The tensor of this name; an unknown name is an error with the closest names."""
        return self._lookup("tensor", name)

    def synapse(self, name: str) -> Synapse:
        """The synapse of this name; an unknown name is an error with the closest names."""
        return self._lookup("synapse", name)

    def product(self, name: str) -> Product:
        """The product of this name; an unknown name is an error with the closest names."""
        return self._lookup("product", name)

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
        for key in ("tensors", "synapses", "products", "uncounted"):
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
        """The ledger of a `to_dict` record; `source` names its origin in errors."""
        if not isinstance(record, Mapping) or "format" not in record:
            raise SpikeattnError(f"{source}: not a spikeattn ledger (no 'format'); expected the model.json of a run")
        if record["format"] != FORMAT:
            raise SpikeattnError(
                f"{source}: ledger format {record['format']!r}, this version reads format {FORMAT}; profile again"
            )
        missing = [key for key in ("time_steps", "static_input", "tensors", "synapses") if key not in record]
        if missing:
            raise SpikeattnError(f"{source}: the ledger lacks {', '.join(missing)}; it is damaged or no model.json")
        try:
            return cls(
                time_steps=record["time_steps"],
                static_input=record["static_input"],
                tensors=_entries(Tensor, record["tensors"], source),
                synapses=_entries(Synapse, record["synapses"], source),
                products=_entries(Product, record.get("products", ()), source),
                uncounted=_entries(Uncounted, record.get("uncounted", ()), source),
                warnings=tuple(record.get("warnings", ())),
                model=dict(record.get("model", {})),
                provenance=dict(record.get("provenance", {})),
                structure=dict(record.get("structure", {})),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise SpikeattnError(
                f"{source}: an entry of the ledger has the wrong type ({error}); it is damaged or was edited"
            ) from error

    @classmethod
    def from_json(cls, text: str, source: str = "ledger") -> Ledger:
        """The ledger of a `to_json` text; `source` names its origin in errors."""
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpikeattnError(f"{source}: not valid JSON ({error}); expected the model.json of a run") from error
        return cls.from_dict(record, source)

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """Read a `model.json`; a missing, damaged or foreign file is one clear error."""
        path = Path(path)
        if not path.is_file():
            raise SpikeattnError(f"{path}: no such file; expected the model.json that a profile run writes")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SpikeattnError(f"{path}: not a text file; expected the model.json of a run") from error
        return cls.from_json(text, str(path))


def _entries(kind: type, records: Iterable[Mapping[str, Any]], source: str) -> tuple[Any, ...]:
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    needed = {name for name, entry in fields.items() if entry.default is dataclasses.MISSING}
    built = []
    for record in records:
        missing, extra = sorted(needed - set(record)), sorted(set(record) - set(fields))
        if missing or extra:
            what = f"lacks {', '.join(missing)}" if missing else f"has unknown entries {', '.join(extra)}"
            raise SpikeattnError(f"{source}: {kind.__name__.lower()} {record.get('name', '?')!r} {what}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        built.append(kind(**values))
    return tuple(built)

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
from math import prod
from pathlib import Path
from typing import Any

from spikeattn.errors import SpikeattnError, unknown

FORMAT = 1
KINDS = ("binary", "ternary", "integer", "real")
PRODUCT_OPS = ("token_sum", "mask", "matmul")


@dataclass(frozen=True)
class Tensor:
    """A tensor that is counted, named by the dotted path of the module that made it ("input" for the model's input).

    Attributes:
        shape: axes of one image at one time step, e.g. (C, H, W); `elements` is their product.
        maker: "input", "neuron", "pool", "mask" or "op".
        kind: "binary", "ternary", "integer" (spikes, counted by value) or "real".
        static: the same values at every time step (a still image).
        sources: the counted tensors it was pooled or masked from, e.g. the LIF before a max-pool; a convention that
            pairs a layer with the rate before the pool, and a published table without pooled rates, need it.
        neuron: SpikingJelly's class of the neurons that made it (or the user's own), None for other makers.
        unit: the values are whole multiples of this number, which folds into the weights behind (1/4 for levels k/4);
            counts, rates and `kind` are of value / unit.
        role, part, block, hook: the paper's names where the model has them; None elsewhere.
    """

    name: str
    shape: tuple[int, ...]
    elements: int
    maker: str = "neuron"
    kind: str = "binary"
    static: bool = False
    sources: tuple[str, ...] = ()
    role: str | None = None
    part: str | None = None
    block: int | None = None
    hook: str | None = None
    neuron: str | None = None
    unit: float = 1.0

    @property
    def spikes(self) -> bool:
        """Whether a synapse that receives this tensor adds weights instead of multiplying."""
        return self.kind != "real"


@dataclass(frozen=True)
class Synapse:
    """A layer with weights: `input` is the tensor it receives.

    Attributes:
        dense_macs: multiply-accumulates as usually quoted, k^2*h*w*c_in*c_out for a convolution: padding included, so
            the operations of a fully spiking input are a little fewer.
        fan_out: weights each input element meets, or None where it depends on the position (padding, stride).
        every_step: False where the layer runs once per image, because the model repeats its output over time.
        weights, biases: how many parameters; 0 weights in ledgers of versions that did not record them.
        out_channels, groups, kernel, stride: of a convolution; a linear layer has its output features as channels, and
            no kernel. A transposed convolution has stride 1 here: each of its inputs meets the whole kernel.
    """

    name: str
    op: str
    input: str
    dense_macs: int
    fan_out: int | None = None
    output_elements: int = 0
    every_step: bool = True
    role: str | None = None
    part: str | None = None
    block: int | None = None
    weights: int = 0
    biases: int = 0
    out_channels: int = 0
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    @property
    def kernel_fan_out(self) -> int:
        """Weights that an input element meets where the whole kernel passes over it: C_out / groups x kernel size."""
        return self.out_channels // self.groups * prod(self.kernel)


@dataclass(frozen=True)
class Product:
    """An operation without weights on counted tensors: "token_sum" (a sum over tokens), "mask" (AND) or "matmul".

    Attributes:
        elements: dense operations; an element of operand x takes part in `elements / x.elements` of them.
        every_step: False where it runs once per image, as behind a mean over time.
    """

    name: str
    op: str
    operands: tuple[str, ...]
    elements: int
    role: str | None = None
    part: str | None = None
    block: int | None = None
    every_step: bool = True


@dataclass(frozen=True)
class Uncounted:
    """An operation that the count table leaves out, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Ledger:
    """The structure of one model at one input size: tensors, synapses, products, and what could not be counted.

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
                [t.name, list(t.shape), t.elements, *([] if t.unit == 1 else [t.unit])] for t in self.tensors
            ],
            "synapses": [
                [s.name, s.op, s.input, s.dense_macs, s.fan_out, s.output_elements, s.every_step] for s in self.synapses
            ],
            "products": [
                [p.name, p.op, list(p.operands), p.elements, *([] if p.every_step else [False])] for p in self.products
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
        return record | {"warnings": list(self.warnings), "provenance": dict(self.provenance)}

    def to_json(self) -> str:
        """The text of `model.json`: UTF-8, two spaces, a final newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write `model.json` and return its path; the file appears whole or not at all."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        part.write_text(self.to_json(), encoding="utf-8")
        part.replace(path)
        return path

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

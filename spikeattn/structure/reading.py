"""From a network and an image to its structure, and from there into a ledger."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.boundary import arguments
from spikeattn.errors import FAILURES, SpikeattnError, failing, unknown
from spikeattn.storage.ledger import Ledger
from spikeattn.structure import families
from spikeattn.structure.cores import MATRIX
from spikeattn.structure.entry import OTHER, PRODUCTS, UNKNOWN, Entry, of_names
from spikeattn.structure.extents import composites, extents
from spikeattn.structure.graph import Graph
from spikeattn.structure.infer import Inference, infer
from spikeattn.structure.network_structure import Structure, named_ledger
from spikeattn.structure.shapes import without_values
from spikeattn.structure.tensor_roles import operation_readings, tensor_names, tensor_readings
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.batch_parts import call_of, parts_of, turned
from spikeattn.tracing.named_parts import Called
from spikeattn.tracing.network import check_module, paper_names_of
from spikeattn.tracing.state import state_kept

Forward = Callable[[nn.Module, Tensor], Any]


def structure(
    model: nn.Module,
    images: Tensor | Iterable[Any],
    forward: Forward | None = None,
    neuron_class: Any = None,
    names: str | Path | Mapping[str, Any] | None = None,
) -> Structure:
    """What every layer, product and tensor of a network is, from the way of the data through one forward pass.

    It works where `profile` refuses, too: on networks that mix the images of a batch, and without finite values.

    Args:
        images: a batch as the network takes it, a dict that names it, or a loader, whose first batch is taken; one
            image is enough. Where the labels of a batch say that it is [T, B, ...], the network is given that.
        forward: calls the model on a batch; default `model(images)`.
        neuron_class: class of the spiking neurons, its name, several of either, or a function of a module; default
            SpikingJelly's. Neurons are one step each; what is not known to be one is looked into.
        names: a names file, or a mapping as one holds it; its entries come before what is inferred.

    Raises:
        SpikeattnError: no module, no image, a model that fails on the image, a neuron class that the model lacks, a key
            of `names` that fits nothing.
    """
    check_module(model)
    model = nodes.unwrap(model)
    if forward is not None:
        arguments.function("forward", forward, "a function of the model and a batch")
    shown, time_first = _first(images, None if forward is not None else call_of(model))
    call = turned(forward or _call) if time_first else forward or _call
    found = structure_of(model, shown, call, neurons_of(model, neuron_class))
    return found.named(names)


def structure_of(model: nn.Module, images: Tensor, forward: Forward, neurons: dict[str, nn.Module]) -> Structure:
    """The structure from one image of a batch; of all of them where the model takes no single one.

    The pass needs shapes alone, so it computes no values where the model lets it (`shapes.without_values`); a model
    that looks at values gets them.
    """
    ways = ((images[:1], False), (images[:1], True), (images, True))[: 3 if len(images) > 1 else 2]
    for shown, values in ways:
        with (
            failing(_failed(model, shown))
            if (shown is images or len(images) == 1) and values
            else suppress(SpikeattnError, *FAILURES)
        ):
            found = _structure(infer(graph_of(model, shown, forward, neurons, values)))
            return _with_paper_names(found, paper_names_of(model))
    raise AssertionError("the last way returns or raises")


def _with_paper_names(found: Structure, names: Mapping[str, Any]) -> Structure:
    """The entries that a model names itself come before what is inferred."""
    entries = {
        kind: tuple(
            replace(e, part=names[e.name].part, block=names[e.name].block, known="family",
                    role=e.role if kind == "products" else names[e.name].role)
            if e.name in names else e
            for e in found.entries[kind]
        )
        for kind in found.entries
    }  # fmt: skip
    return replace(found, entries=entries)


def _failed(model: nn.Module, images: Tensor) -> str:
    return (
        f"{type(model).__name__} fails on images of shape {tuple(images.shape)} and type {images.dtype}, with which "
        "its structure is read"
    )


def graph_of(model: nn.Module, images: Tensor, forward: Forward, neurons: dict[str, nn.Module], values: bool) -> Graph:
    graph = Graph(model, neurons)
    with ExitStack() as stack:
        for context in (nodes.uncompiled(), state_kept(model), nodes.evaluating(model), torch.no_grad()):
            stack.enter_context(context)
        if not values:
            stack.enter_context(without_values(model))
        stack.enter_context(graph)
        shown = images.clone() if values else torch.empty_like(images, device="meta")
        graph.finish(forward(model, graph.show(shown)))
    if len(graph.nodes) < 2:
        raise SpikeattnError(
            f"nothing in {type(model).__name__} reads the images: forward(model, images) must call the model on them"
        )
    return graph


def _call(model: nn.Module, images: Tensor) -> Any:
    return model(images)


def _first(images: Any, called: Called | None) -> tuple[Tensor, bool]:
    """The images of a batch, or of the first one of a loader, and whether the network is given them as [T, B, ...]."""
    batch = images
    if not isinstance(images, Tensor | np.ndarray | Mapping):
        try:
            batch = next(iter(images), None)
        except TypeError:
            batch = None
    what = f"of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else arguments.shown(images)
    if batch is None or (isinstance(batch, Tensor) and (batch.dim() < 2 or len(batch) == 0)):
        raise SpikeattnError(f"images are {what}; give a batch such as [B, C, H, W] with an image, or a loader of such")
    parts = parts_of(batch, "the batch of images", called=called)
    return parts.images, bool(parts.time_first)


def neurons_of(model: nn.Module, neuron_class: Any) -> dict[str, nn.Module]:
    """The spiking neurons of a model, outermost only; empty where it has none of the table's."""
    predicate = _predicate(model, neuron_class)
    if not any(predicate(module) for module in model.modules()):
        return {}
    return nodes.find_neurons(model, predicate)


def _predicate(model: nn.Module, neuron_class: Any) -> Callable[[nn.Module], bool]:
    if neuron_class is None:
        return nodes.is_spiking_neuron
    several = neuron_class if isinstance(neuron_class, (list, tuple, set)) else (neuron_class,)
    if len(several) == 1 and callable(neuron_class) and not inspect.isclass(neuron_class):
        return neuron_class
    present = {c.__name__ for m in model.modules() for c in type(m).__mro__} - {"Module", "object"}
    for kind in several:
        if not isinstance(kind, str) and not inspect.isclass(kind):
            raise SpikeattnError(f"neuron_class is {arguments.shown(kind)}; give a class, its name, or several of them")
        name = kind if isinstance(kind, str) else kind.__name__
        if name not in present:
            raise unknown(f"neuron class of {type(model).__name__}", name, present)
    names = {kind for kind in several if isinstance(kind, str)}
    classes = tuple(kind for kind in several if inspect.isclass(kind))
    return lambda m: (
        isinstance(m, classes) or any(c.__name__ in names for c in type(m).__mro__) or nodes.is_spiking_neuron(m)
    )


def _structure(inference: Inference) -> Structure:
    """Entries in the order of execution, each site once."""
    tables: dict[str, dict[str, Entry]] = {"synapses": {}, "products": {}, "tensors": {}}
    for node in inference.flow.nodes:
        kind = {"synapse": "synapses", "product": "products"}.get(node.kind)
        if kind is not None:
            reading = inference.readings[node.number]
            role = reading.role if kind == "synapses" else ("matmul" if node.op in MATRIX else "mask")
            nearest = reading.nearest if reading.part == OTHER else None
            tables[kind].setdefault(
                node.name,
                Entry(node.name, reading.part, reading.block, role, reading.known, reading.ranges, nearest),
            )
        elif node.op in ("sum", "mean") and (block := _in_core(inference, node.number)):
            tables["products"].setdefault(node.site, Entry(node.site, PRODUCTS, block[0], "token_sum", "dataflow"))
    for name, reading in tensor_readings(inference).items():
        tables["tensors"].setdefault(name, Entry(name, reading.part, reading.block, reading.role, reading.known))
    found = Structure(
        {kind: tuple(table.values()) for kind, table in tables.items()}, inference.grids, inference.heads,
        inference.classes, attention=extents(inference), composites=composites(inference),
    )  # fmt: skip
    found, own = families.recognise(inference, found), set(tensor_names(inference).values())
    tensors, others = (
        tuple(e for e in found.entries["tensors"] if (e.name in own) is which) for which in (True, False)
    )
    operations = {
        name: Entry(name, r.part, r.block, r.role, r.known) for name, r in operation_readings(inference).items()
    }
    entries = {**found.entries, "tensors": tensors}
    return replace(found, entries=entries, modules=of_names(others), operations=operations)


def _in_core(inference: Inference, number: int) -> tuple[int | None, ...]:
    """The block of the attention whose products a sum stands between or behind; empty where it stands in none."""
    flow = inference.flow
    for core in inference.cores:
        before = any(flow.before(p.number, number) for p in core.products)
        operand = any(o.source.kind == "synapse" and flow.before(o.source.number, number) for o in core.operands)
        behind = any(flow.before(number, p.number) for p in core.products)
        if (before or operand) and behind:
            return (inference.readings[core.last.number].block,)
    return ()


# -------------------------------------------------------------------- into a ledger
Names = str | Path | Mapping[str, Any] | None


def with_structure(
    ledger: Ledger, model: nn.Module, images: Tensor, forward: Forward, predicate: Any, names: Names = None
) -> Ledger:
    """A ledger with the structure of its model; with a warning instead where a pass over one image fails.

    What the ledger's entries say already, by a model's paper names, stays; the entries of a names file come before it.
    """
    found = Structure({"synapses": (), "products": (), "tensors": ()})
    try:
        found = structure_of(model, images, forward, nodes.find_neurons(model, predicate))
    except SpikeattnError as error:
        ledger = replace(ledger, warnings=(*ledger.warnings, f"structure: nothing is known of it, since {error}"))
        record: dict[str, Any] = {}  # as of versions that inferred none: what is not known is not "none"
    else:
        record = found.record()
    known = {kind: of_names(entries) for kind, entries in found.entries.items()}
    known["tensors"] = {**found.modules, **known["tensors"]}
    known["products"] = {**found.operations, **known["products"]}
    known["uncounted"] = {**found.operations, **known["products"], **known["synapses"]}
    changed: dict[str, Any] = {
        kind: tuple(_labelled(own, known[kind], kind) for own in getattr(ledger, kind)) for kind in known
    }
    ledger = replace(ledger, structure=record, **changed)
    return ledger if names is None else named_ledger(ledger, names, also=found.entries)


def _labelled(own: Any, known: Mapping[str, Entry], kind: str) -> Any:
    if own.part is not None:
        return replace(own, known="family")
    entry = known.get(own.name) or known.get(own.name.partition("@")[0])
    if entry is None:
        return replace(own, known=UNKNOWN)
    more = {"role": entry.role} if kind in ("synapses", "tensors") else {}  # a product's role is its operation
    more |= {"hook": entry.hook} if kind == "tensors" else {}
    return replace(own, part=None if entry.part == OTHER else entry.part, block=entry.block, known=entry.known, **more)

"""What has run in a network, matched with the layers of its ledger: the multiply-accumulates of each, once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence

from spikeattn.compat.torch_modes import flop_formulas
from spikeattn.energy.dense_twin import twin_parts
from spikeattn.energy.torch_macs import Operation, softmax_macs
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Product, Synapse
from spikeattn.structure.network_structure import Structure

FUSED = re.compile("_(scaled_dot_product|flash|efficient)_.*attention")  # softmax attention as one operation of torch's
_REPEATED = re.compile(r"@(\d+)$")  # as `unique` tells apart what has one name
_OPERATION = re.compile(r"(?:(?P<path>.+)\.)?(?P<op>[^.]+)_(?P<number>\d+)")  # as `Event.site` names what is no layer

# What no twin counts, beside what torch tags as pointwise: softmax, norms, pooling, resizing, reductions.
_NOWHERE = re.compile(
    "_?(log_)?softmax|.*(batch|layer|group|instance|rms)_norm.*|.*pool[123]d.*|cum(sum|prod)|_?upsample_.*"
    "|sum|mean|prod|a?max|a?min|aminmax|var|std|var_mean|std_mean|logsumexp|.*vector_norm"
)

Place = tuple[str, str]  # path of a module, name of an operation that runs in it; "" is whatever it runs


def _site(name: str) -> str:
    """A name of the ledger without the @2, @3 ... that tell apart what has one name."""
    return _REPEATED.sub("", name)


def _order(layer: Synapse | Product) -> tuple[int, int]:
    """What sorts the layers of one place by when they run: the call of the module, the operation in it."""
    repeated, operation = _REPEATED.search(layer.name), _OPERATION.fullmatch(_site(layer.name))
    return int(repeated[1]) if repeated else 1, int(operation["number"]) if operation else 0


def place_of(name: str, modules: Container[str]) -> Place:
    """Where the operation of a name runs: a layer is a module, another operation is "path.op_3"."""
    site = _site(name)
    operation = _OPERATION.fullmatch(site)
    return (site, "") if site in modules or not operation else (operation["path"] or "", operation["op"])


def macs_of_twin(
    ledger: Ledger, operations: Sequence[Operation], modules: Container[str], neurons: Iterable[str]
) -> list[int]:
    """Multiply-accumulates of every row of `dense_twin`.

    Raises:
        SpikeattnError: for an operation that cannot be told once from T times, or whose FLOPs are unknown.
    """
    parts = twin_parts(ledger)
    if parts.sums:
        raise SpikeattnError(
            f"the run knows no size of the attention around {parts.sums[0].name}; profile again with this version"
        )
    heads = Structure.of_ledger(ledger).head_counts
    _check_uncounted(ledger, neurons)
    counted = _by_layer(ledger, operations, modules, neurons)
    return [
        *(counted["synapse", s.name] for s in parts.synapses),
        *(sum(softmax_macs(e, heads.get(block)) for e in several) for block, several in parts.attention.items()),
        *(counted["product", p.name] for p in parts.products),
    ]


def _by_layer(
    ledger: Ledger, operations: Sequence[Operation], modules: Container[str], neurons: Iterable[str]
) -> dict[tuple[str, str], int]:
    """Multiply-accumulates per time step of every synapse and matrix product of the ledger, from what has run."""
    layers = [s for s in ledger.synapses if not inside(s.name, neurons)]
    products = [p for p in ledger.products if p.op == "matmul"]
    in_twin = {*map(id, layers), *map(id, twin_parts(ledger).products)}
    ran: dict[Place, list[Operation]] = defaultdict(list)
    for operation in operations:
        ran[operation.module, operation.op].append(operation)
    places: dict[Place, list[Synapse | Product]] = defaultdict(list)
    multiplying: list[Synapse | Product] = [*layers, *products]
    for each in multiplying:
        places[place_of(each.name, modules)].append(each)
    counted = {("synapse", s.name): 0 for s in ledger.synapses}
    for place, there in places.items():
        run = _taken(ran, place)
        if not any(id(each) in in_twin for each in there):
            continue  # of spiking attention alone, in whose place softmax attention stands
        there.sort(key=_order)
        for each, macs in zip(there, _once(there, run, ledger.time_steps), strict=True):
            counted["synapse" if isinstance(each, Synapse) else "product", each.name] = macs
    _check_rest(ran, _fused(ledger))
    return counted


def inside(name: str, neurons: Iterable[str]) -> bool:
    """Whether a layer stands inside a neuron, with which it has gone."""
    return any(name == path or name.startswith(f"{path}.") for path in neurons)


def _taken(ran: dict[Place, list[Operation]], place: Place) -> list[Operation]:
    """What has run at a place, which is taken out."""
    path, op = place
    keys = [key for key in ran if key == place or (not op and key[0] == path)]
    return [operation for key in keys for operation in ran.pop(key)]


def _once(layers: Sequence[Synapse | Product], run: Sequence[Operation], T: int) -> list[int]:
    """Multiply-accumulates at one time step of layers that run at one place, from all that has run there.

    Raises:
        SpikeattnError: nothing has run whose FLOPs are known, or no whole number of time steps.
    """
    if not run:
        raise SpikeattnError(f"torch knows no FLOPs of what runs in {layers[0].name}")
    steps = [_steps(layer, T) for layer in layers]
    sums = [sum(operation.macs for operation in share) for share in _shares(layers, run, steps)]
    for layer, macs, count in zip(layers, sums, steps, strict=True):
        if macs % count:
            raise SpikeattnError(f"the {macs:,} MACs of {layer.name} are no multiple of its {count} time steps")
    return [macs // count for macs, count in zip(sums, steps, strict=True)]


def _shares(
    layers: Sequence[Synapse | Product], run: Sequence[Operation], steps: Sequence[int]
) -> list[Sequence[Operation]]:
    """Which of the operations at one place belong to which layer.

    The layers stand in the order that they run: each once, or all again and again in a loop over time, or some once
    and the others in a loop, all in one call of a module, where the number in a layer's name is its position.

    Raises:
        SpikeattnError: none of these fits.
    """
    rounds, rest = divmod(len(run), len(layers))
    if not rest and (rounds == 1 or len(set(steps)) == 1):
        return [run[i :: len(layers)] for i in range(len(layers))]
    alone = {_order(layer)[1]: layer for layer, count in zip(layers, steps, strict=True) if count == 1}
    loop = [layer for layer, count in zip(layers, steps, strict=True) if count > 1]
    others = [operation for i, operation in enumerate(run) if i not in alone]
    if not alone or not loop or max(alone) >= len(run) or len(others) != len(loop) * max(steps):
        raise SpikeattnError(
            f"{len(run)} operations run where the ledger lists {layers[0].name} and {len(layers) - 1} more, at "
            f"{min(steps)} to {max(steps)} time steps: which of them belong together is unknown"
        )
    shares = {id(layer): others[i :: len(loop)] for i, layer in enumerate(loop)}
    shares |= {id(layer): [run[i]] for i, layer in alone.items()}
    return [shares[id(layer)] for layer in layers]


def _steps(layer: Synapse | Product, T: int) -> int:
    """At how many time steps a layer or product runs."""
    if not layer.every_step:
        return 1
    return T if layer.runs is None else layer.runs


def _fused(ledger: Ledger) -> set[str]:
    """Modules in which softmax attention runs as one operation and is among those that are run apart."""
    blocks = twin_parts(ledger).attention
    return {_module(u.name) for u in ledger.uncounted if FUSED.match(u.op) and u.block in blocks}


def _module(name: str) -> str:
    """The path of the module in the name of an operation that is no layer."""
    return _site(name).rpartition(".")[0]


def _check_rest(ran: Mapping[Place, Sequence[Operation]], fused: Container[str]) -> None:
    """Refuse what the ledger does not list, but for softmax attention in one operation: it is run apart."""
    for (path, op), run in ran.items():
        macs = sum(operation.macs for operation in run)
        if macs and not (FUSED.match(op) and path in fused):
            raise SpikeattnError(
                f"{op} in {path or 'the network itself'} multiplies and is no layer of the ledger, so at how many time "
                f"steps its {macs:,} MACs run is unknown"
            )


def _check_uncounted(ledger: Ledger, neurons: Iterable[str]) -> None:
    """Refuse an operation that neither twin could count: quantised layers, kernels of one's own, recurrent layers."""
    import torch

    known, fused = {str(packet).rpartition(".")[2] for packet in flop_formulas()}, _fused(ledger)
    for each in ledger.uncounted:
        packet = getattr(torch.ops.aten, each.op, None)
        overloads = [] if packet is None else [getattr(packet, name) for name in packet.overloads()]
        tags = {tag for overload in overloads for tag in overload.tags}
        plain = overloads and (_NOWHERE.fullmatch(each.op) or torch.Tag.pointwise in tags)
        apart = FUSED.match(each.op) and _module(each.name) in fused
        if not (plain or apart or each.op in known or inside(each.name, neurons)):
            raise SpikeattnError(f"torch knows no FLOPs of {each.op} in {_module(each.name) or 'the network itself'}")

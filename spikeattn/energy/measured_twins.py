"""The ANN twin of any spiking network as a module that runs: its multiply-accumulates measured, not by hand.

A copy of the network with ReLUs in place of its neurons is run once on one image under torch's FlopCounterMode. What is
counted in a layer is divided by the time steps at which the ledger says that it runs. Softmax attention of the sizes of
the spiking ones is run apart, and replaces what the copy does in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spikeattn.energy.dense_twin import DenseTwin, dense_twin, twin_parts
from spikeattn.energy.layer_macs import inside, macs_of_twin, place_of
from spikeattn.energy.relu_copy_zeros import zeros_in_copy
from spikeattn.energy.torch_macs import operations_of
from spikeattn.errors import SpikeattnError, failing
from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikeattn.tracing.neurons import NeuronPredicate

NAMED = 3  # differences that a note names one by one; a note is one sentence in a report


def measured_twin(
    model: nn.Module,
    images: Tensor,
    ledger: Ledger,
    forward: Callable[[nn.Module, Tensor], Any] | None = None,
    neurons: NeuronPredicate | None = None,
) -> DenseTwin:
    """The twin of a profiled spiking network, built as a module, run once and counted.

    Where it cannot be built, `note` says why in one sentence, and the twin is `dense_twin`, by hand: a neuron for which
    a ReLU cannot stand, a network that cannot be copied or that fails with ReLUs, an operation whose FLOPs torch does
    not know or whose time steps the ledger does not.

    Args:
        model: the network of the run; it is left as it was.
        images: a batch of the run's input, of which the first image is run, and the first 64 for their zeros.
        ledger: of the run.
        forward: calls the network on a batch, as in the run; default `model(images)`.
        neurons: which modules are spiking neurons, as in the run; default SpikingJelly's.

    Returns:
        The layers of `dense_twin` with the multiply-accumulates measured; `note` names those that differ from it.
        `gamma` is the share of zeros that each receives in the copy on the first images, softmax attention apart;
        `gamma_from` says where it is not known.

    Raises:
        SpikeattnError: no neurons, images that are not the run's, a network that fails on them or is not the run's.
    """
    from spikeattn.models.relu_copy import check_like_relu, relu_copy
    from spikeattn.provenance import device_of
    from spikeattn.tracing.examine import call_model
    from spikeattn.tracing.network import check_module
    from spikeattn.tracing.neurons import find_neurons, is_spiking_neuron, unwrap

    forward, predicate = forward or call_model, neurons or is_spiking_neuron
    check_module(model)
    network = unwrap(model)
    spiking, image = find_neurons(network, predicate), _one_image(images, ledger).to(device_of(network))
    _check_network(network, ledger, spiking)
    by_hand = dense_twin(ledger)
    called = f"{type(network).__name__} fails on an image {tuple(image.shape)}"
    with failing(called, "; give `images` and `forward` of the run"):
        unlike = check_like_relu(network, spiking, lambda net: forward(net, image.clone()))
    try:
        if unlike:
            raise SpikeattnError(unlike)
        twin = relu_copy(network, predicate)
        with failing(f"{called} with ReLUs in place of its neurons"):
            operations = operations_of(twin, lambda net: forward(net, image.clone()))
        macs = macs_of_twin(ledger, operations, dict(twin.named_modules()), spiking)
    except SpikeattnError as why:
        note = f"by hand, since no twin could be built and measured ({why}): {by_hand.note}"
        return replace(by_hand, note=note)
    relus = "a ReLU in place of its neuron" if len(spiking) == 1 else f"ReLUs in place of its {len(spiking)} neurons"
    note = f"measured: {by_hand.name.removesuffix(' as an ANN')} was run once with {relus} and counted by torch, each "
    note += f"layer at one time step{_attentions(ledger)}; {_beside(by_hand, macs, spiking)}"
    measured = by_hand.layers.assign(macs=macs).astype({"macs": "int64"})
    sizes = by_hand.sizes and by_hand.sizes.measured(dict(zip(measured["layer"], macs, strict=True)))
    gamma, source = zeros_in_copy(twin, measured, images.to(image.device), forward)
    return DenseTwin(by_hand.name, measured, note, sizes=sizes, gamma=gamma, gamma_from=source)


def _one_image(images: Tensor, ledger: Ledger) -> Tensor:
    """The first image of a batch of the run's input."""
    from torch import Tensor

    if not isinstance(images, Tensor) or images.dim() < 2 or not len(images):
        raise SpikeattnError("images is no batch of images; give a tensor [B, ...] of the run's input")
    shape = ledger.settings.input
    if shape is not None and tuple(shape) != tuple(images.shape[1:]):
        raise SpikeattnError(
            f"images are {tuple(images.shape[1:])} each, and those of the run {tuple(shape)}; give a batch of its input"
        )
    return images[:1]


def _check_network(model: nn.Module, ledger: Ledger, neurons: Iterable[str]) -> None:
    """Refuse a network that is not the run's: other modules, or more or fewer parameters."""
    modules = {path for path, _ in model.named_modules()}
    names = [*(s.name for s in ledger.synapses), *(p.name for p in ledger.products if p.op == "matmul")]
    absent = [name for name in names if not inside(name, neurons) and place_of(name, modules)[0] not in modules]
    own, theirs = sum(p.numel() for p in model.parameters()), ledger.model.get("parameters")
    if absent or theirs not in (None, own):
        why = f"it has no module {absent[0]!r}" if absent else f"it has {own:,} parameters, and the run's {theirs:,}"
        raise SpikeattnError(f"{type(model).__name__} is not the network of the run: {why}; give the one of the run")


def _attentions(ledger: Ledger) -> str:
    count = sum(map(len, twin_parts(ledger).attention.values()))
    many = "a softmax attention of its size in place of the spiking one"
    if count > 1:
        many = f"{count} softmax attentions of their sizes in place of the spiking ones"
    return f", and {many}" if count else ""


def _beside(by_hand: DenseTwin, macs: Sequence[int], neurons: Iterable[str]) -> str:
    """How what was measured and the twin by hand differ, layer by layer."""
    rows = by_hand.layers.assign(measured=macs)
    rows = rows[rows["measured"] != rows["macs"]]
    if rows.empty:
        return "every layer has as many MACs as by hand"
    gone = [layer for layer in rows["layer"] if inside(layer, neurons)]
    named = [
        f"{row['layer']} {row['measured']:,} against {row['macs']:,}"
        + (" (its weights lie inside a neuron)" if row["layer"] in gone else "")
        for row in rows[:NAMED].to_dict("records")
    ]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"other than by hand: {', '.join(named)}{more}"

"""`sa.spike_penalty`: the synaptic operations of the last forward pass as a term of the loss.

Its value is the number that `sops` of the same images is, border-exact and with the pairs of spikes in products; its
gradient with respect to a spike is the number of additions that this spike causes, and goes on through the surrogate
function of the neuron that gave it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor

from spikeattn.boundary import arguments
from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.runs.recording import LastPass, Recording

if TYPE_CHECKING:
    from spikeattn.training.firing_rate import FiringRate

REDUCTIONS = ("mean", "sum", "none")


@overload
def spike_penalty(
    record: Recording | FiringRate,
    *,
    reduction: Literal["mean", "sum", "none"] = ...,
    relative: bool = ...,
    by: None = None,
) -> Tensor: ...


@overload
def spike_penalty(
    record: Recording | FiringRate,
    *,
    reduction: Literal["mean", "sum", "none"] = ...,
    relative: bool = ...,
    by: Literal["layer"],
) -> dict[str, Tensor]: ...


def spike_penalty(
    record: Recording | FiringRate, *, reduction: str = "mean", relative: bool = False, by: str | None = None
) -> Tensor | dict[str, Tensor]:
    """Synaptic operations (SOPs) of the last forward pass of a recording, as a term of the loss.

    >>> with sa.record(model) as rec:
    ...     for images, labels in loader:
    ...         loss = F.cross_entropy(model(images), labels) + 0.1 * sa.spike_penalty(rec, relative=True)
    ...         loss.backward()
    ...         ...
    ...         functional.reset_net(model)

    Open the recording once, around the loop: it traces the network at its first batch. Of several passes since the last
    step only the last one is penalised; call it after each, and add.

    The value is `operations()["sops"]` of the same images, exactly, in float64: every spike times the weights that it
    meets (fewer at the border of a padded convolution), integer spikes by their value, pairs of spikes in a product.
    Multiply-accumulates and other additions are not in it. Spikes count as they are before dropout. The gradient with
    respect to a spike is that number of weights, or of spikes that it meets; for negative spikes, of which |value|
    counts, its sign turns. Under `torch.no_grad()` it is the plain number.

    Args:
        record: an open `sa.record(model)`, or `sa.FiringRate`, after the forward pass.
        reduction: "mean" SOPs per image, "sum", or "none" for every image, [B].
        relative: divide by the additions if every element spiked once (`dense_macs` of the layers x T), so that a
            strength holds for networks of any size: 0 is silence, 1 is a dense network of 0/1 spikes.
        by: "layer" for a dict with the penalty of every layer and product of spikes, whose sum it is; `relative`
            divides each by its own dense number.

    Returns:
        A scalar, or [B], in float64 on the device of the network; by="layer" a dict of these.

    Raises:
        SpikeattnError: no open recording, or no forward pass in it; nothing in the network adds for spikes; or, while
            gradients are enabled, spikes from which none comes back: neurons without a surrogate function, a pass under
            `torch.no_grad()`, a frozen network, `checkpoint(use_reentrant=True)`.
    """
    record = getattr(record, "_following", record)  # of a FiringRate, which follows the network in the same way
    if not isinstance(record, Recording):
        raise SpikeattnError(f"record is {shown(record)}; give what `with sa.record(model) as record:` has opened")
    if reduction not in REDUCTIONS:
        raise unknown("reduction", str(reduction), REDUCTIONS)
    if by not in (None, "layer"):
        raise unknown("by", str(by), ["layer"])
    arguments.switch("relative", relative)
    last = record.last_pass()
    name = type(record.model).__name__
    if not last.terms:
        raise SpikeattnError(
            f"no layer of {name} receives spikes, and no product is one of spikes, so it has no additions to penalise; "
            "`neurons=` of sa.record says which modules spike"
        )
    _check_spikes(last)
    amounts = _amounts(last)
    if torch.is_grad_enabled():
        _check_gradients(name, last, amounts)
    dense = {term.name: term.dense for term in last.terms}
    if by is None:
        whole = sum(dense.values()) if relative else 1.0
        return _reduced(torch.stack(list(amounts.values())).sum(0) / whole, reduction)
    return {layer: _reduced(each / (dense[layer] if relative else 1.0), reduction) for layer, each in amounts.items()}


def _amounts(last: LastPass) -> dict[str, Tensor]:
    """SOPs of every image, [B], by layer or product."""
    graph = last.tally.graph
    assert graph is not None  # `last_pass` has seen to it
    totals: dict[tuple[object, bool], Tensor] = {}
    amounts = {}
    for term in last.terms:
        if (term.key, term.once) not in totals:
            column = last.tally.over_time(graph.parts[term.key])
            column = (column[:1] if term.once else column).sum(0)
            totals[term.key, term.once] = column[:1] if graph.alone else column
        amounts[term.name] = totals[term.key, term.once] * term.factor
    return amounts


def _reduced(per_image: Tensor, reduction: str) -> Tensor:
    return per_image if reduction == "none" else getattr(per_image, reduction)()


def _check_spikes(last: LastPass) -> None:
    """What has stopped to be whole spikes is multiplied, as the result of the recording will say."""
    for term in last.terms:
        for tensor in term.tensors:
            if last.tally.holds_numbers(tensor) and not last.ledger.tensor(tensor).number:
                raise SpikeattnError(
                    f"{tensor} holds values that are no whole multiples of {last.ledger.tensor(tensor).unit:g}, as its "
                    f"spikes were in the first batch, so {term.name} multiplies and has no SOPs now; where the size of "
                    "a spike is trained, open a new recording from time to time"
                )


def _check_gradients(name: str, last: LastPass, amounts: dict[str, Tensor]) -> None:
    graph = last.tally.graph
    assert graph is not None
    if graph.alone:
        raise SpikeattnError(
            "the last pass had one image, which PyTorch runs by other operations than several: it was counted again "
            "beside itself, without gradients. Leave such batches out of training (drop_last=True)"
        )
    if not graph.enabled:
        raise SpikeattnError(
            "the last forward pass ran without gradients (torch.no_grad() or inference_mode), so nothing can be "
            "trained on its spikes; run it with gradients, or ask for the plain number inside torch.no_grad()"
        )
    if graph.checkpointed:
        raise SpikeattnError(
            f"the spikes at {_few(graph.checkpointed)} were made inside checkpoint(use_reentrant=True), which hides "
            "them from gradients; use_reentrant=False counts and trains them"
        )
    if graph.stopped:
        raise SpikeattnError(
            f"no gradient comes back through the spikes of {_few(graph.stopped)}: their neurons have no surrogate "
            "function, so the penalty would leave them as they are; give them one (such as surrogate.ATan())"
        )
    if not any(amount.requires_grad for amount in amounts.values()):
        raise SpikeattnError(
            f"no spike that {name} adds for depends on a parameter that is trained (requires_grad=False on all before "
            "the neurons), so the penalty would change nothing; ask for the plain number inside torch.no_grad()"
        )


def _few(names: dict[str, None]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")

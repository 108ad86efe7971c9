"""Where and how to count: the taps of a forward pass, and the plan that a recorder follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.storage.ledger import TOKENS, Ledger
from spikeattn.tracing.layout import Axes


@dataclass(frozen=True)
class Fan:
    """A fan-out that depends on the position: `weights` [*space] for the synapse of this name."""

    synapse: str
    weights: Tensor


@dataclass(frozen=True)
class Tap:
    """Where a tensor appears in the forward pass and how to count it.

    Attributes:
        where: "output" or "argument" of a module, "operation" (operand number `operand`, -1 for the result) or "batch",
            what `forward=` is given.
        at: the calls of the module, with the position of the operation among those of its name in the call.
        by_call: the entries of `at` belong to a time step each, those of `steps`; else the tensor holds all, or none.
        index: which of the tensors that a module returns, or that the model is called with.
        binary: 0/1 by construction; checked in every batch.
        unit: what its values are whole multiples of.
        fans: fan-out-weighted counts to take from this tensor.
        columns: (axis, start, size) of the part of an operand that is counted; None for all of it.
        tensor: whether its non-zeros are counted here (else only the fans).
    """

    name: str
    where: str
    module: str
    at: tuple[tuple[int, int], ...]
    axes: Axes
    by_call: bool = False
    binary: bool = False
    unit: float = 1.0
    fans: tuple[Fan, ...] = ()
    tensor: bool = True
    op: str = ""
    operand: int = -1
    steps: tuple[int, ...] = ()
    index: int = 0
    columns: tuple[int, int, int] | None = None

    def step(self, place: int) -> int | None:
        """The time step of an entry of `at`, or None."""
        return self.steps[place] if self.by_call else None


@dataclass(frozen=True)
class Pairs:
    """A matrix product of two spike tensors: the pairs that meet are counted at this operation.

    Attributes:
        operands: positions of its two operands among the tensors that the operation is given.
        axes, units: of these.
        by_value: integer spikes count as many pairs as their values say, in a measure of its own.
    """

    name: str
    module: str
    at: tuple[tuple[int, int], ...]
    by_call: bool
    op: str
    operands: tuple[int, ...]
    axes: tuple[Axes, Axes]
    units: tuple[float, float]
    by_value: bool
    steps: tuple[int, ...] = ()

    def step(self, place: int) -> int | None:
        """The time step of an entry of `at`, or None."""
        return self.steps[place] if self.by_call else None


@dataclass(frozen=True)
class Plan:
    """What to count: the ledger, the taps, and what a forward pass like the first one looks like.

    Attributes:
        calls: calls of each watched module, and of each with weights, per forward pass; 0 where it stands unused.
        ordinals: runs of each watched operation, by (module, call, operation).
        called_by: (caller, module) of the modules that were called while others were at work.
        logits_from: the module whose outputs per step have the model's output as their mean or sum.
        logits_axes: of that module's output.
        output_form: what the model gives, in words.
        looks_up: the input picks rows of a table that the model holds, as token ids do.
        one_image: the network mixes the images of a batch, so that it is profiled image by image.
    """

    ledger: Ledger
    neurons: Mapping[str, nn.Module]
    taps: tuple[Tap, ...]
    pairs: tuple[Pairs, ...]
    calls: Mapping[str, int]
    ordinals: Mapping[tuple[str, int, str], int]
    called_by: Collection[tuple[str, str]]
    input_axes: Axes
    output_axes: Axes | None
    logits_from: str | None
    one_image: bool = False
    logits_axes: Axes | None = None
    output_form: str = ""
    looks_up: bool = False

    def facts(self) -> dict[str, Any]:
        """What the trace says of input and output, as entries of the provenance."""
        why = "the network looks its rows up in a table by them, which is no operation"
        input = {"input": {"kind": TOKENS, "why": why}} if self.looks_up else {}
        return {"output": self.output_form, **input}


def fans_ahead(plan: Plan) -> Mapping[str, Fan]:
    """By tensor, the fan-out of the first layer that receives it at every position alike but for the weights."""
    ahead: dict[str, Fan] = {}
    own = {tap.name: tap for tap in plan.taps if tap.tensor and not tap.fans}
    for tap in plan.taps:
        if not tap.tensor and len(tap.fans) == 1 and tap.name in own:
            one, other = (each.axes for each in (tap, own[tap.name]))
            alike = one.joined == other.joined and (one.steps == other.steps or plan.ledger.time_steps == 1)
            if alike and tap.by_call == own[tap.name].by_call:
                ahead.setdefault(tap.name, tap.fans[0])
    return ahead


def logits_of(calls: Sequence[Tensor], axes: Axes | None, batch: int) -> Tensor | None:
    """The logits of each time step, [T, B, classes], from what a layer gave call by call; None where they are none."""
    if len(calls) == 1 and axes is not None and axes.timed:
        return axes.split(calls[0], batch) if axes.steps == tuple(range(len(axes.steps))) else None
    if axes is None or axes.timed or axes.at != 0 or len({call.shape for call in calls}) > 1:
        return None
    return torch.stack(list(calls))

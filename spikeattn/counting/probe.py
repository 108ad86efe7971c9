"""Check on a network that spikeattn does not know: each image's counts must come from that image alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.counting.counted_pass import own_passes
from spikeattn.counting.recorder import Recorder
from spikeattn.errors import SpikeattnError, failing
from spikeattn.fast import count
from spikeattn.fast.seen_pass import SeenPass
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.storage.columns import Key
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import Forward, call_model, plan
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.state import State, changed, state_of
from spikeattn.tracing.taps import Plan, Tap

# Whole numbers, so that a sum is the same in every row of a batch; so many that other places seldom give the same.
_WEIGHTS = 1 << 19
_LIGHTER = 2  # bits by which they are less for integers, so that the kernels add a block of these in integers, too
_OWN = (SpikeDrivenTransformer,)  # known by their type to keep images apart; a class of the user's own is probed


@dataclass(frozen=True)
class _Pass:
    """What a pass gave, [T, B] by (measure, name) in the order of execution, and the state the model began with, where
    somebody asks for it."""

    counts: Mapping[Key, np.ndarray]
    state: State

    def first_difference(self, other: _Pass, rows: slice, theirs: slice | None = None) -> str | None:
        """The first tensor of which these images have other counts or spikes in the other pass, where they are `theirs`
        (by default in the same rows), or None."""
        for key, values in self.counts.items():
            if not np.array_equal(values[:, rows], other.counts[key][:, rows if theirs is None else theirs]):
                return f"{key[1]} ({key[0]})"
        return None


def probed_plan(
    model: nn.Module, images: Tensor, forward: Forward = call_model, seen: SeenPass | None = None, **options: Any
) -> Plan:
    """What to count in a network, and the certainty that its images are counted apart; see `plan` and `probe`.

    Args:
        seen: takes what a pass of the probe gives, where there is one and it is wanted.
        options: of `plan`.
    """
    with own_passes():
        made = plan(model, images, forward=forward, **options)
        if type(model) not in _OWN:
            probe(model, made, images, forward, seen)
    return made


def refuse_uncounted(made: Plan) -> None:
    """What `strict` asks for: an operation on spikes that cannot be counted is an error."""
    if made.ledger.uncounted:
        listed = ", ".join(f"{u.name} ({u.op})" for u in made.ledger.uncounted[:5])
        raise SpikeattnError(
            f"strict: {len(made.ledger.uncounted)} operations on spikes cannot be counted: {listed}; run without "
            "strict to have them listed in the result"
        )


def probe(model: nn.Module, plan: Plan, images: Tensor, forward: Forward, seen: SeenPass | None = None) -> None:
    """Run an image before another one, and behind a third one: its counts must not move.

    What one pass hands on to the next, what an image hands on to the one behind it or takes from it, and what depends
    on all of a batch move them. So do networks that are in order and not alike in every row, as those that draw random
    numbers from a seed; where they moved, four passes tell (`_probe_in_place`).

    Raises:
        SpikeattnError: state leaks from one pass into the next, or one image changes another one's counts (an axis
            taken for the wrong one, a neuron that runs over images, or a network that mixes its batch).
    """
    a, b = images[:1], images[-1:]
    third = None if plan.one_image else _another(b, images)
    with Recorder(model, plan) as recorder:
        if third is not None:
            before = _run(model, recorder, torch.cat([a, b]), forward, seen=seen)
            behind = _run(model, recorder, torch.cat([third, a]), forward)
            if before.first_difference(behind, slice(0, 1), slice(1, 2)) is None:
                return
        _probe_in_place(model, recorder, images, forward)


def _probe_in_place(model: nn.Module, recorder: Recorder, images: Tensor, forward: Forward) -> None:
    """Run two images, the same two again, and each beside another one, every image in its row of the batch."""
    a, b = images[:1], images[-1:]
    alone = recorder.plan.one_image
    pair = a if alone else torch.cat([a, b])
    other_a, other_b = (None, None) if alone else (_another(a, images), _another(b, images))
    usual, again = (_run(model, recorder, pair, forward, state_of) for _ in range(2))
    beside = usual if other_b is None else _run(model, recorder, torch.cat([a, other_b]), forward)
    behind = usual if other_a is None else _run(model, recorder, torch.cat([other_a, b]), forward)
    moved = usual.first_difference(again, slice(None))
    if moved is not None:
        state = changed(usual.state, again.state)
        where = f" (kept in {state})" if state else ""
        raise SpikeattnError(
            f"two passes over the same images after a reset give different counts, first at {moved}: the model keeps "
            f"state that spikingjelly's reset does not clear{where}, or draws random numbers in eval mode; clear it, "
            "or seed them with torch.manual_seed, in forward="
        )
    moved = usual.first_difference(beside, slice(0, 1)) or usual.first_difference(behind, slice(1, 2))
    if moved is not None:
        raise SpikeattnError(
            f"replacing one image of a batch changes the counts of another one, first at {moved}: either a neuron "
            "hands its state from image to image, as one that is given [T*B, ...] for [T, B, ...] does, or the network "
            "mixes the images of a batch in a way that its operations do not show (through .item(), a list or numpy)"
        )


def _another(image: Tensor, images: Tensor) -> Tensor | None:
    """Something else that the network may be given: the same values in other places, or another image of the batch.

    None where there is neither; values of our own might be outside its domain, as a token id that does not exist.
    """
    for other in (image.flip(-1).roll(1, -1), *images.split(1)):
        if not torch.equal(other, image):
            return other
    return None


def _run(
    model: nn.Module, recorder: Recorder, batch: Tensor, forward: Forward,
    state_before: Callable[[nn.Module], State] = lambda model: {}, seen: SeenPass | None = None,
) -> _Pass:  # fmt: skip
    nodes.reset(model)
    state = state_before(model)
    marks: dict[str, list[Tensor]] = {}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_marking(model, recorder, marks))
            if seen is not None and seen.wanted(recorder.plan):
                stack.enter_context(seen.watching(model, recorder.plan, batch, recorder.muting))
            tally = stack.enter_context(recorder.watching(len(batch)))
            recorder.show(batch)
            with failing(f"{type(model).__name__} fails when it is shown {len(batch)} images once more, to see that an "
                         "image's counts come from it alone"):  # fmt: skip
                output = forward(model, batch.clone())
            if seen is not None and seen.images is batch:
                seen.end(output)
            counts = tally.collect(output).counts
    finally:
        nodes.reset(model)
    found: dict[Key, np.ndarray] = {}
    for (measure, name), values in counts.items():
        found[measure, name] = values
        if name in marks:
            found.setdefault(("spikes", name), torch.cat(marks[name]).cpu().numpy())
    return _Pass(found, state)


@contextmanager
def _marking(model: nn.Module, recorder: Recorder, marks: dict[str, list[Tensor]]) -> Iterator[None]:
    """Note a checksum per image of the spikes of every neuron: as many spikes in other places are a change, too."""
    plan, weights = recorder.plan, dict[int, Tensor]()

    def mark(tap: Tap, module: nn.Module, args: Any, output: Any) -> None:
        with recorder.muting():  # the module at work may hold operations that are watched
            marks.setdefault(tap.name, []).append(checksum(tap, output))

    def checksum(tap: Tap, output: Any) -> Tensor:
        x = list(tensors_in(output))[tap.index].detach()
        x = tap.axes.split(x, 1 if plan.one_image else 2)
        x = x.reshape(*x.shape[:2], -1)
        if x.shape[2] not in weights:
            generator = torch.Generator().manual_seed(0)
            weights[x.shape[2]] = torch.randint(_WEIGHTS, x.shape[2:], dtype=torch.int32, generator=generator)
        unit = None if tap.binary and tap.unit == 1.0 else tap.unit
        counted = count.count(x, unit, weights[x.shape[2]] if unit is None else weights[x.shape[2]] >> _LIGHTER)
        if counted is not None and not (counted.fraction if unit else counted.not_binary):
            sums = counted.fan_sum if unit else counted.fan_nonzero
            assert sums is not None
            return sums
        return (x.double() * weights[x.shape[2]].to(x.device)).sum(2)

    modules = dict(model.named_modules())
    handles = [
        modules[tap.module].register_forward_hook(partial(mark, tap))
        for tap in plan.taps
        if tap.where == "output" and tap.module in plan.neurons and len(tap.at) == plan.calls[tap.module]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

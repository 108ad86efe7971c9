"""`sa.record`: a run whose batches the user feeds, in a loop of their own, in training or eval mode.

It traces, probes and counts as `sa.profile` does, and gives the same result; only the loop is not ours.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any
from weakref import WeakSet

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from spikeattn.boundary import arguments
from spikeattn.compat.lightning_names import runs_a_step
from spikeattn.counting.counted_pass import in_own_passes, own_passes
from spikeattn.counting.gradients import CountGraph
from spikeattn.counting.probe import probed_plan, refuse_uncounted
from spikeattn.counting.recorder import Recorder
from spikeattn.counting.tally import OtherPath, Tally
from spikeattn.counting.transfer import Sent
from spikeattn.energy import EnergyTable
from spikeattn.energy.spike_terms import SpikeTerm, spike_terms
from spikeattn.errors import SpikeattnError
from spikeattn.provenance import describe, device_of, provenance_of
from spikeattn.runs.dropout import FunctionalDropout, drops, is_dropout
from spikeattn.runs.firing_rates import RateTable
from spikeattn.runs.kept_passes import KeptPasses
from spikeattn.runs.result import Profile
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Uncounted
from spikeattn.structure.names_file import read as read_names
from spikeattn.structure.reading import Names, with_structure
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.batch_parts import turned
from spikeattn.tracing.examine import Forward, check_options
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.network import check_network
from spikeattn.tracing.stack import Hook
from spikeattn.tracing.state import state_kept
from spikeattn.tracing.taps import Plan

# Neurons with an open recording. Other parts do not tell two networks apart: neurons made with SpikingJelly's defaults
# share one surrogate function, which is a module.
_RECORDED: WeakSet[nn.Module] = WeakSet()


def _caller() -> FrameType | None:
    """The call that a hook of ours belongs to: the innermost frame of somebody else's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("spikeattn."):
        frame = frame.f_back
    return frame


def _runs(call: FrameType | None) -> bool:
    """Whether a call has not come to its end."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not call:
        frame = frame.f_back
    return frame is not None


@dataclass(frozen=True)
class LastPass:
    """The forward pass that a recording has seen last.

    Attributes:
        terms: what adds for spikes.
        tally: its counts, whose `graph` leads back to the spikes.
    """

    ledger: Ledger
    terms: tuple[SpikeTerm, ...]
    tally: Tally


class Recording:
    """The context of `record`: follows the model's own calls; see there."""

    def __init__(
        self, model: nn.Module, strict: bool = False, names: Names = None, layout: str | None = None, **options: Any
    ) -> None:
        self.model = nodes.unwrap(model)
        arguments.switch("strict", strict)
        checked = {name: options[name] for name in ("time_steps", "input", "spike_output", "levels")}
        check_options(**checked, layout=layout)
        check_network(self.model, options["neurons"])
        self._options, self._layout, self._strict = options, layout, strict
        self._names = None if names is None else read_names(names)[0]
        self._neurons = nodes.find_neurons(self.model, options["neurons"])
        self._recorder: Recorder | None = None
        self._plan: Plan | None = None
        self._inside: ExitStack | None = None
        self._open: ExitStack | None = None
        self._call: FrameType | None = None
        self._nested = 0
        self._functional: FunctionalDropout | None = None
        self._training = 0  # modules in training mode, in the pass that is followed
        self._no_dropout_in = -1  # modules in training mode, in a pass that has shown no function of dropout
        self._outside: BaseException | None = None
        self._axis = 0  # along which the images lie
        self._shown: tuple[int, Tensor, Forward] | None = None
        self._sent: tuple[Sent, int] | None = None
        self._terms: tuple[SpikeTerm, ...] = ()
        self._last: Tally | None = None
        self._passes = KeptPasses()
        self._unplanned: set[str] = set()
        self._dropped = False

    # ---------------------------------------------------------------- following the model
    def __enter__(self) -> Recording:
        if self._inside is not None:
            raise SpikeattnError("this recording is open already; leave its block first, or make another with record()")
        neurons = list(self._neurons.values())
        if any(neuron in _RECORDED for neuron in neurons):
            raise SpikeattnError(
                f"{type(self.model).__name__}, or a part of it, is being recorded already; use that recording, whose "
                "counts() tells the passes apart"
            )
        self._inside = ExitStack()
        for neuron in neurons:
            _RECORDED.add(neuron)
            self._inside.callback(_RECORDED.discard, neuron)
        self._inside.enter_context(nodes.uncompiled())
        for handle in (
            self.model.register_forward_pre_hook(Hook(self._begin), with_kwargs=True, prepend=True),
            self.model.register_forward_hook(Hook(self._end), always_call=True),
        ):
            self._inside.callback(handle.remove)
        self._inside.callback(self._abandon)
        return self

    def __exit__(self, *error: object) -> None:
        inside, self._inside, self._recorder, self._last = self._inside, None, None, None
        if inside is not None:
            inside.close()
        if error[0] is None:
            self._take()

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if in_own_passes() or torch._C._current_graph_task_id() != -1:  # of a trace, or of a backward pass that repeats
            return
        if runs_a_step(model):  # which calls the model in its turn
            return
        if self._open is not None and _runs(self._call):  # the model calls itself
            self._nested += 1
            return
        self._abandon()  # what an interruption has left
        self._last = None  # and with it the graph of the step before
        leaves, spec = tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        if len(places) != 1:
            named = [name for name, value in kwargs.items() if isinstance(value, Tensor)]
            some = f" ({', '.join(named)})" if len(named) == len(places) > 0 else ""
            raise SpikeattnError(
                f"{type(model).__name__} was called with {len(places)} tensors{some}; record() follows calls with one, "
                "whose rows are images: call it with these alone, without labels. For other calls use "
                "profile(model, loader, forward=lambda model, images: ...)"
            )
        x = leaves[places[0]].detach()
        if x.dim() < 2 or x.is_nested or x.is_quantized or x.layout != torch.strided:
            kind = "nested" if x.is_nested else "quantised" if x.is_quantized else str(x.layout).removeprefix("torch.")
            raise SpikeattnError(
                f"{type(model).__name__} was called with a {kind} tensor of {x.dim()} axes; record() follows "
                "calls with a plain one whose rows are images, [B, ...] or [T, B, ...]"
            )
        if x.numel() == 0:
            return

        def call(network: nn.Module, images: Tensor) -> Any:
            given = tree_unflatten([images if i == places[0] else leaf for i, leaf in enumerate(leaves)], spec)
            return network(*given[0], **given[1])

        first = self._recorder is None
        if self._plan is None:
            left = nodes.leftover_state(self._neurons)
            if left is not None:
                raise SpikeattnError(
                    f"neuron {left} holds the membrane potential of an earlier forward pass as recording begins; call "
                    "spikingjelly.activation_based.functional.reset_net(model) first"
                )
            self._plan = self._trace(x, call)
            self._terms = spike_terms(self._plan.ledger)
        if self._recorder is None:
            assert self._inside is not None  # the hook that calls this is there only inside the block
            self._recorder = self._inside.enter_context(self._recorder_of(self._plan))
            self._inside.callback(self._abandon)  # a pass that goes on is closed before its recorder
        batch = self._recorder.plan.input_axes.images_in(x.shape)
        opened = ExitStack()
        tally = opened.enter_context(self._recorder.watching(batch, (args, kwargs) if first else None))
        tally.graph = CountGraph(batch, frozenset(term.key for term in self._terms))
        self._training = sum(module.training for module in model.modules())
        watch = self._training and self._training != self._no_dropout_in  # it costs several percent of a small network
        self._functional = opened.enter_context(FunctionalDropout(self._recorder)) if watch else None
        if drops(self.model):
            tally.dropout = True
            for module in filter(is_dropout, model.modules()):
                opened.callback(module.register_forward_hook(Hook(self._note_dropout)).remove)
        self._open, self._outside, self._call = opened, sys.exc_info()[1], _caller()
        self._shown = (self._axis, x, call) if batch == 1 else None
        if first:  # the hooks just registered on the model itself act from its next call on
            with self._recorder.muting():
                tally.count(next(tap for tap in self._recorder.plan.taps if tap.name == "input"), x, None)

    def _end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        recorder = self._recorder
        if in_own_passes() or self._open is None or recorder is None or recorder.tally is None:
            return
        if self._nested:
            self._nested -= 1
            return
        failed = sys.exc_info()[1]
        if failed is not None and failed is not self._outside:
            self._abandon()
            return
        tally, opened, self._open, self._call = recorder.tally, self._open, None, None
        self._last, batch = tally, tally.batch
        try:
            with opened:
                sent = tally.send(output)
        except OtherPath:
            self._last = None
            if self._shown is None or recorder.plan.one_image:
                raise
            sent = self._twice(recorder, *self._shown)
        if self._functional is not None:
            self._no_dropout_in = -1 if self._functional.called else self._training
        self._dropped |= drops(self.model) or (self._functional is not None and self._functional.ran)
        self._take()
        self._sent = sent, batch
        if device_of(model).type == "cpu":  # nothing to wait for: an error belongs to the pass that made it
            self._take()

    def _twice(self, recorder: Recorder, axis: int, images: Tensor, call: Forward) -> Sent:
        """Count a single image again beside itself: PyTorch may run other operations on one image than on several."""
        if drops(self.model):
            raise SpikeattnError(
                "a batch of one image runs other operations than the first batch, and cannot be shown again while "
                "dropout is at work; leave it out (drop_last=True), or record in eval mode"
            )
        with own_passes(), torch.no_grad(), state_kept(self.model):
            nodes.reset(self.model)
            with recorder.watching(2, kept=1) as tally:
                tally.graph = CountGraph(2, frozenset(term.key for term in self._terms))
                tally.graph.alone = True
                output = call(self.model, torch.cat([images, images], axis))
                sent, self._last = tally.send(output), tally
                return sent

    def _note_dropout(self, module: nn.Module, args: Any, output: Any) -> None:
        before, after = next(tensors_in(args), None), next(tensors_in(output), None)
        if module.training and before is not None and after is not None and self._recorder is not None:
            self._recorder.note_dropout(before, after)

    def _abandon(self) -> None:
        """Close a pass that an exception cut short."""
        if self._open is not None:
            opened, self._open, self._call, self._nested = self._open, None, None, 0
            opened.close()

    # ---------------------------------------------------------------- the first batch
    def _trace(self, x: Tensor, call: Forward) -> Plan:
        """Trace and probe on the first batch, in eval mode: images may lie along its first axis or, with frames
        [T, B, ...], along its second; the one that keeps images apart is right."""
        orders = [0, 1] if x.dim() > 2 and not hasattr(self.model, "paper_names") else [0]
        if x.dim() == 5:
            orders.reverse()  # [T, B, C, H, W] is what SpikingJelly's networks take
        if self._layout is not None:
            orders = [self._said(x)]
        errors: dict[int, SpikeattnError] = {}
        plans: dict[int, Plan] = {}
        cuda = {device.index or 0 for device in (device_of(self.model), x.device) if device.type == "cuda"}
        with in_eval(self.model), state_kept(self.model), torch.random.fork_rng(devices=sorted(cuda)):
            for axis in orders:
                try:
                    plans[axis] = self._planned(x, axis, call)
                except SpikeattnError as error:
                    errors[axis] = error
                else:
                    if not plans[axis].one_image:  # else a single position passes, and its images mix: look further
                        break
            if not plans:
                raise errors[min(orders)]
            self._axis = next((axis for axis, made in plans.items() if not made.one_image), next(iter(plans)))
            made = plans[self._axis]
            if self._strict:
                refuse_uncounted(made)
            images, forward = x.transpose(0, self._axis), turned(call, self._axis)
            provenance = provenance_of(self.model, (), images) | made.facts()
            ledger = replace(made.ledger, model=describe(self.model), provenance=provenance)
            with own_passes():
                ledger = with_structure(ledger, self.model, images, forward, self._options["neurons"], self._names)
                self._look(ledger, images, forward)
            # Weights that autocast has cast in passes without gradients would have none in the pass that follows.
            torch.clear_autocast_cache()
            return replace(made, ledger=ledger)

    def _recorder_of(self, plan: Plan) -> Recorder:
        """What counts the passes."""
        return Recorder(self.model, plan, self._unplanned)

    def _look(self, ledger: Ledger, images: Tensor, forward: Forward) -> None:
        """What else is to be known of the network before it is counted: nothing here."""

    def _said(self, x: Tensor) -> int:
        """The axis of the images that the user says."""
        if self._layout == "TB" and x.dim() < 3:
            raise SpikeattnError(
                f'layout="TB" says that {type(self.model).__name__} is called with [T, B, ...], and it was called with '
                f"a tensor of shape {tuple(x.shape)}; leave layout out where images come first"
            )
        return int(self._layout == "TB")

    def _planned(self, x: Tensor, axis: int, call: Forward) -> Plan:
        """The plan for input whose images lie along `axis`."""
        return probed_plan(self.model, x.transpose(0, axis), turned(call, axis), **self._options)

    # ---------------------------------------------------------------- the counts so far
    def _take(self) -> None:
        """Take the counts of the last pass from the device; a GPU works on the next one meanwhile."""
        if self._sent is None or self._plan is None:
            return
        (sent, size), self._sent = self._sent, None
        self._keep(self._plan, sent, size)

    def _keep(self, plan: Plan, sent: Sent, size: int) -> None:
        """Keep the counts of a pass over `size` images: one row each here."""
        self._passes.add(plan.ledger, sent, size)

    def last_pass(self) -> LastPass:
        """The additions of the last forward pass, with the way back to its spikes (`sa.spike_penalty`).

        Raises:
            SpikeattnError: no pass has ended in this block, or its counts are not usable.
        """
        if self._inside is None:
            raise SpikeattnError(
                "this recording is closed, and the graph of its last forward pass let go; ask inside the block: "
                "`with sa.record(model) as rec: output = model(x); loss = ... + sa.spike_penalty(rec)`"
            )
        if self._last is None or self._last.graph is None or self._plan is None:
            raise SpikeattnError(
                f"{type(self.model).__name__} has run no forward pass in this recording, or none since its reset(); "
                "call it first, inside the block"
            )
        return LastPass(self._plan.ledger, self._terms, self._last)

    def profile(self) -> Profile:
        """The result of every forward pass since the start or the last `reset`, as that of `sa.profile`.

        Its images are numbered in the order they came and have no labels.

        Raises:
            SpikeattnError: nothing has been recorded.
        """
        self._take()
        if self._plan is None or not self._passes.sizes:
            raise SpikeattnError("nothing recorded yet: call the model inside `with record(model) as rec:` first")
        return self._passes.profile(self._ledger(self._plan))

    def _ledger(self, plan: Plan) -> Ledger:
        """The ledger of a plan with what the passes so far have shown of the network."""
        ledger = plan.ledger
        listed = [
            Uncounted(path, "layer", "runs in training mode only; the network was traced in eval mode")
            for path in sorted(self._unplanned)
        ]
        warnings = ["dropout: counts stand before dropout, which was at work"] if self._dropped else []
        return replace(ledger, uncounted=(*ledger.uncounted, *listed), warnings=(*ledger.warnings, *warnings))

    def counts(self) -> pd.DataFrame:
        """Counts of every forward pass so far, one row per image, tensor and time step.

        Columns: forward (number of the pass), image (position in its batch), tensor, t (1..T), nonzero, abs_sum,
        elements. Rates are nonzero / elements.
        """
        return self._passes.frame(self.profile())

    def rates(self) -> RateTable:
        """Firing rates so far; see `Profile.rates`."""
        return self.profile().rates()

    def energy(self, *args: Any, **kwargs: Any) -> EnergyTable:
        """Energy per image so far, with its interval; see `Profile.energy` for the arguments."""
        return self.profile().energy(*args, **kwargs)

    def reset(self) -> None:
        """Forget the counts so far, as at the start of an epoch; what the network is made of stays known."""
        self._sent, self._passes, self._last = None, KeptPasses(), None
        self._unplanned.clear()
        self._dropped = False

    def __repr__(self) -> str:
        sizes = self._passes.sizes
        return f"<Recording of {type(self.model).__name__}: {sum(sizes)} images, {len(sizes)} passes>"


def record(
    model: nn.Module,
    *,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str | None = None,
    input: str | None = None,
    spike_output: int | None = None,
    levels: int | None = None,
    strict: bool = False,
    names: Names = None,
) -> Recording:
    """Count the spikes of every forward pass inside a `with` block; the model itself is not changed.

    >>> with sa.record(model) as rec:
    ...     model(images)
    >>> rec.energy()

    It is `sa.profile` around a loop of the user's own, in training or eval mode: at the first batch the network is
    traced and probed, in eval mode and without gradients, then the model's own calls are counted. The mode, the weights
    and torch's random numbers are as they would be without it. In training mode counts stand before dropout, and layers
    that run in training alone are listed as uncounted.

    Args:
        model: any module with SpikingJelly neurons, called with one tensor whose rows are images, [B, ...] or
            [T, B, ...]; other arguments may stand beside it.
        layout: "TB" or "BT", the order of time and images in what the model is called with; by default that in which
            the network keeps its images apart.
        neurons, time_steps, input, spike_output, levels, strict, names: see `sa.profile`.

    Returns:
        A context. `counts()` has a row per forward pass, image, tensor and time step; `rates()`, `energy()` and
        `profile()` are those of a `Profile`; `reset()` forgets what was counted. Memory stays flat: beyond 64 MB the
        counts lie in a temporary folder.

    Raises:
        SpikeattnError: no neurons; a forward pass without `reset_net` before it; NaN; batches of another shape; a
            network whose images influence each other, or whose state outlives a reset.
    """
    options = {"neurons": neurons, "time_steps": time_steps}
    return Recording(model, strict, names, layout, input=input, spike_output=spike_output, levels=levels, **options)

"""What goes into the model and what its neurons and other modules hand out, as events with origins and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.event_log import EventLog
from spikeattn.tracing.labels import IMAGE, TIME, Label
from spikeattn.tracing.neuron_kind import ARGUMENT
from spikeattn.tracing.origins import Origin, View
from spikeattn.tracing.pass_events import INPUT, NEURON, SUMS, Event
from spikeattn.tracing.stack import Frame

_LOGITS = 1 << 18  # outputs of layers with more elements than this are no logits


class ModuleEvents:
    """Notes the calls of the model, of its neurons and of its other modules.

    Args:
        names: paths that hand their name on to the tensor that they give.
        spikes: which of the tensors that a neuron returns are its spikes, where not the first.

    Attributes:
        inputs: what went into the model, once per call of it.
        layers: what small layers with weights gave, call by call, by path: candidates for logits.
        ordinals: how often each operation ran in each call, by (path, call).
    """

    def __init__(self, log: EventLog, names: Collection[str], spikes: Mapping[str, int]) -> None:
        self.inputs: list[Tensor] = []
        self.layers: dict[str, list[tuple[Tensor, View]]] = defaultdict(list)
        self.ordinals: dict[tuple[str, int], dict[str, int]] = {}
        self._log, self._names, self._spikes = log, names, spikes
        self._book, self._labeller = log.book, log.labeller

    def model_entered(self, frame: Frame, x: Tensor, place: int) -> None:
        """The model was called with its input at this place among the tensors in its arguments."""
        known = self._book.origin(x)
        view = self._log.view(x)
        origin = Origin(
            INPUT, frame.call, stateless=True, recipe=known.made_as, steady=known.steady and not known.unknown,
            apart=known.apart, of_input=True, varies=True, maker=INPUT, view=view,
        )  # fmt: skip
        self._book.put(x, origin, view.label)
        self._log.origins.append(origin)
        self._book.observe(x)
        self.inputs.append(x)
        self._log.events.append(
            Event(INPUT, "", frame.call, INPUT, 0, (origin,), (view,), origin, view, (place,), alone=True)
        )

    def neuron_left(self, path: str, frame: Frame, tensors: Sequence[Tensor], module: nn.Module) -> None:
        """A neuron has handed out its spikes."""
        known = nodes.is_known(module)
        if not tensors:
            return
        place = min(self._spikes.get(path, 0), len(tensors) - 1)
        spikes, x = tensors[place], frame.argument
        self._log.take([] if x is None else [x])
        with self._book.muting():
            label = self._behind_neuron(path, module, x, spikes, known)
        for kept in (*tensors, *nodes.memories(module)) if known else tensors:
            if kept is not spikes:
                self._left_beside(kept, spikes, label)
                if nodes.state_spikes(module):
                    self._book.set_origin(kept, Origin(unit=1.0, varies=True, parents=(self._book.origin(kept),)))
        unit, view = self._log.units.get(path, 1.0), View(tuple(spikes.shape), label)
        parents = () if x is None else (self._book.origin(x),)
        origin = Origin(path, frame.call, unit=unit, maker=NEURON, varies=True, view=view, parents=parents)
        self._book.put(spikes, origin, label)
        self._log.origins.append(origin)
        self._book.observe(spikes)
        self._log.events.append(
            Event(NEURON, path, frame.call, NEURON, 0, (origin,), (view,), origin, view, (place,), alone=True)
        )

    def _behind_neuron(self, path: str, module: nn.Module, x: Tensor | None, out: Tensor, known: bool) -> Label:
        if x is not None and known:
            self._book.origin(x)
        if known and x is not None and nodes.runs_over_time(module):
            return self._labeller.multi_step(path, x, out)
        if not known:
            self._labeller.settle_by_evidence(path, x)
            own = self._labeller.label(out)
            if own.get(TIME) is not None and own.fields[TIME].numel() > 1:
                return own
            if self._labeller.T is not None and self._labeller.time is not None and own.get(TIME) is not None:
                return own
            return self._labeller.single_step(path, x, out, own)
        # A cell whose weights join what it is called with has labels of its own.
        joined = any(synapse.meets == ARGUMENT for synapse in nodes.inner_synapses(module))
        joint = self._labeller.label(out) if joined else None
        if joint is not None and joint.get(IMAGE) is None and x is not None:
            # It fires at its first step whatever the input: its rows are those of what it is called with.
            image = self._labeller.label(x).get(IMAGE)
            if image is not None and image.dim() == out.dim() and image.shape[-1] == 1:
                joint = joint.with_field(IMAGE, image)
        return self._labeller.single_step(path, x, out, joint)

    def _left_beside(self, kept: Tensor, spikes: Tensor, label: Label) -> None:
        """What a neuron hands out or keeps beside its spikes: a membrane potential, of the last step."""
        if kept.dim() == 0 or self._book.label(kept).fields:
            return
        fields = {}
        for name, values in label.fields.items():
            if kept.dim() == values.dim() and kept.shape == spikes.shape:
                fields[name] = values
            elif kept.shape == spikes.shape[1:]:
                last = values[-1]
                fields[name] = last if name == TIME else (values.amax(0) if values.shape[0] > 1 else values[0])
        self._book.put(kept, Origin(varies=True, parents=(self._book.origin(spikes),)), Label(fields, label.joined))

    def module_left(self, path: str, frame: Frame, tensors: Sequence[Tensor]) -> None:
        """A module has handed out tensors; the first one bears its name."""
        self.ordinals[path, frame.call] = dict(frame.ordinals)
        if not tensors:
            return
        first = tensors[0]
        origin = self._book.origin(first)
        if path and not origin.weight and (origin.name is None or path in self._names):
            origin.name, origin.call, origin.view = path, frame.call, self._log.view(first)
        last = next((e for e in reversed(self._log.events) if e.what not in ("unknown", "mask", *SUMS)), None)
        if last is not None and last.module == path and last.what == "linear" and first.numel() <= _LOGITS:
            self.layers[path].append((first.detach(), self._log.view(first)))

"""Labels of the tensors of one forward pass: from the batch that is shown, through every operation and neuron.

Which axis is time is found on the way: the axis along which a multi-step neuron runs, or along which the body of a
user's own neuron joins one row after another, names the candidate (see `births`) that it is. Neurons that
are called step by step number the steps themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.tracing import labels
from spikeattn.tracing.births import births
from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_joins import pointwise
from spikeattn.tracing.label_rules import BLANKS, SHAPE_ALONE, picks_by_value, rule_of
from spikeattn.tracing.label_views import reshape
from spikeattn.tracing.labels import ANY, IMAGE, MIXED, NOTHING, TIME, Label
from spikeattn.tracing.layout import TimeAxis
from spikeattn.tracing.poke import poke

_CANDIDATES = 48  # an operation costs as much again for each; networks have a handful


class Labeller:
    """Labels a pass; see the module's docstring.

    Args:
        book: of the tensors.
        user_steps: T as the user says it, or None.
        totals: how often each neuron is called, known from an earlier pass; then calls are numbered by it.
        expected: the axis of time, known from an earlier pass.
        steps: T, where an earlier pass has seen more steps than the neurons' calls suggest.

    Attributes:
        time: which field is time; None until it is known.
        T: time steps, where an axis has told them.
        alike: candidates along which the network repeats the same data.
        calls: neuron -> values of the candidates at each of its calls, for neurons called step by step.
        guessed: operations whose labels were found by trying (`poke`).
        hidden: operations that read a number out of data of several images.
        frames: how many frames are handed to a neuron one by one, where that is how it gets them.
        latest: the largest number that a neuron called step by step has given its call.
        early: whether a neuron numbered its calls before the axis of time was found, from another number.
        over_images: the neuron that runs along the axis of the images itself, if one does.
    """

    def __init__(
        self, book: TensorBook, user_steps: int | None, totals: Mapping[str, int] | None = None,
        expected: TimeAxis | None = None, steps: int | None = None,
    ) -> None:  # fmt: skip
        self.book, self.user_steps, self.totals, self.expected, self.steps = (
            book,
            user_steps,
            totals or {},
            expected,
            steps,
        )
        self.time: TimeAxis | None = None
        self.T: int | None = None
        self.alike: dict[str, bool] = {}
        self.evidence: dict[str, int] = defaultdict(int)
        self.calls: dict[str, list[dict[str, int]]] = defaultdict(list)
        self.guessed: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self.over_images: str | None = None
        self.early = False
        self.latest = 0
        self.frames: int | None = None
        self._last: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._parents: dict[str, tuple[str, tuple[int, ...]]] = {}

    # ---------------------------------------------------------------------------------------------------- candidates
    def batch(self, images: Tensor) -> Label:
        """The label of the batch that is shown: images along axis 0, any other axis may be time."""
        label = NOTHING.with_field(IMAGE, labels.arange(len(images), 0, images.dim()))
        for axis in range(1, images.dim()):
            if (size := images.shape[axis]) > 1:
                label = label.with_field(self._candidate(size, alike=False), labels.arange(size, axis, images.dim()))
        return label

    def _candidate(self, size: int, alike: bool) -> str:
        name = f"axis {len(self.alike):03d}"
        self.alike[name], self._sizes[name] = alike, size
        return name

    def label(self, tensor: Tensor) -> Label:
        """The label of a tensor; once time is known, its candidate is the time and the others are gone."""
        label = self.book.label(tensor)
        if self.time is None or not any(name in self.alike for name in label.fields):
            return label
        steps = self.time.steps(label)
        label = label.without(set(self.alike))
        return label if steps is None else label.with_field(TIME, steps)

    @property
    def repeats(self) -> bool:
        """Whether time is an axis along which the network repeats its input."""
        return self.time is None or self.alike.get(self.time.name, True)

    # ---------------------------------------------------------------------------------------------------- operations
    def observe(self, call: Call, where: str, in_neuron: bool = False) -> list[Label]:
        """The labels of the results of an operation; `where` names it in errors."""
        if call.name in BLANKS and call.out and call.given and call.out[0].shape == call.given[0].shape:
            image = self.label(call.given[0]).get(IMAGE)  # a row of zeros stands for the image whose row it is like
            return [NOTHING if image is None else NOTHING.with_field(IMAGE, image)]
        if call.name in SHAPE_ALONE or not call.given:
            return [NOTHING] * len(call.out)
        known = [self.label(x) for x in call.given]
        if call.name == "_local_scalar_dense" and known[0].joined.get(IMAGE):
            self.hidden[where] = known[0].joined[IMAGE]
        if not call.out:
            return []
        names = dict.fromkeys(name for label in known for name in label.fields)
        joined: dict[str, str] = {}
        for label in known:
            joined = {**label.joined, **joined}
        loose = next((label.loose for label in known if label.loose), None)
        if picks_by_value(call) and any(self.book.origin(x).varies for x in call.given):
            loose = loose or f"{where} picks rows by their values"
        fields: list[dict[str, Tensor]] = [{} for _ in call.out]
        by_id = {id(x): label for x, label in zip(call.given, known, strict=True)}
        rule = rule_of(call.func, call.name)
        for name in names:
            call.of = _field_of(name, by_id)
            call.image, call.joins = name == IMAGE, False
            for place, found in enumerate(self._apply(call, rule, where, loose)):
                if found is not None and place < len(fields):
                    fields[place][name] = found
            if call.joins and (name == IMAGE or rule is not pointwise):
                joined.setdefault(name, f"{where} joins them")
            if call.joins and in_neuron and rule is pointwise and name in self.alike:
                self.evidence[name] += 1
        if self.time is None and IMAGE in names and len(self.alike) < _CANDIDATES:
            call.of = _field_of(IMAGE, by_id)
            for birth in births(call):
                line = birth.values
                fields[0][self._candidate(int(line.max()) + 1, birth.alike)] = line
            if rule is reshape:
                fields[0] |= self._taken_apart(known[0], fields[0], call.out[0].shape)
        kept = {name: why for name, why in joined.items() if name in names}
        return [Label(found, kept if found else {}, loose) for found in fields]

    def _taken_apart(self, before: Label, after: dict[str, Tensor], shape: Sequence[int]) -> dict[str, Tensor]:
        """A candidate axis that a view takes apart, [B, T*C] as [B, T, C]: each part of it is a candidate."""
        found: dict[str, Tensor] = {}
        for name in [n for n in after if n in self.alike]:
            values = after[name]
            axes = [axis for axis, size in enumerate(values.shape) if size > 1]
            if len(axes) < 2 or sum(size > 1 for size in before.fields[name].shape) != 1:
                continue
            for axis in axes:
                line = labels.arange(shape[axis], axis, len(shape))
                table = [ANY] * self._sizes[name]
                places = line.expand(values.shape).flatten().tolist()
                for value, place in zip(values.flatten().tolist(), places, strict=True):
                    if 0 <= value < len(table):
                        table[value] = place
                child = self._candidate(shape[axis], self.alike[name])
                self._parents[child] = (name, tuple(table))
                found[child] = line
        return found

    def _tables(self, name: str, table: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The step of each value of a candidate, and of those that it was split off."""
        found = {name: tuple(table)}
        while name in self._parents:
            name, places = self._parents[name]
            found[name] = table = tuple(table[place] if place >= 0 else 0 for place in places)
        return found

    def _apply(self, call: Call, rule: Any, where: str, loose: str | None) -> Sequence[Tensor | None]:
        """The label of each result in one field."""
        n = len(call.out)
        try:
            if loose is not None:
                return [None] * n
            if rule is None:
                self.guessed[where] = call.name
                found = poke(call)
                if call.name.startswith("linear_dynamic") and call.image:  # one scale for the batch; rows stay rows
                    call.joins = False
                    return [self._rows_of(call, o) for o in call.out]
                return found
            out = rule(call)
        except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
            return self._failed(call, where, error)
        listed = list(out) if isinstance(out, list) else [out] * n
        listed += [None] * (n - len(listed))
        fits = zip(listed, call.out, strict=False)
        return [found if found is not None and found.dim() == o.dim() else None for found, o in fits]

    def _rows_of(self, call: Call, out: Tensor) -> Tensor | None:
        own = next((call.of(x) for x in call.given if call.of(x) is not None), None)
        if own is None or own.dim() != out.dim():
            return None
        return labels.join_along(own, [own.dim() - 1])

    def _failed(self, call: Call, where: str, error: Exception) -> Sequence[Tensor | None]:
        """A rule that does not fit this call: try the operation itself; what that does not tell has no label."""
        try:
            self.guessed[where] = call.name
            return poke(call)
        except Exception:  # a third party's operator may raise anything
            return [None] * len(call.out)

    # ------------------------------------------------------------------------------------------------------- neurons
    def multi_step(self, path: str, x: Tensor, out: Tensor) -> Label:
        """The label behind a neuron that runs along axis 0."""
        before, n, rank = self.book.label(x), out.shape[0], out.dim()
        if self.time is None:
            self._settle(path, before, n)
        label = self.label(x)
        steps, joined = label.get(TIME), dict(label.joined)
        image = label.get(IMAGE)
        if image is not None and image.shape[0] > 1:
            rows = list(image.unbind(0))
            for i in range(1, len(rows)):
                rows[i] = labels.strict(rows[i - 1], rows[i])
            image = torch.stack(rows)
            if bool((image == MIXED).any()):
                if labels.along(label.fields[IMAGE], 0) == list(range(n)):
                    self.over_images = self.over_images or path
                joined.setdefault(IMAGE, f"neuron {path} runs along axis 0 of {tuple(x.shape)}, where the images lie")
        if self.T is None:
            self.T = n
        if steps is None or steps.shape[0] == 1:
            if n != self.T and IMAGE not in joined:
                raise SpikeattnError(
                    f"neuron {path} sees {n} time steps where {self.T} are expected; all neurons must share one T; "
                    "check time_steps="
                )
            if n == self.T and (steps is None or bool((steps == MIXED).any()) or n == 1):
                steps = labels.arange(n, 0, rank) if steps is None else labels.arange(n, 0, rank)
        elif n == self.T and bool((steps == MIXED).any()):  # joined over windows of time, one for each step
            steps = labels.arange(n, 0, rank)
        else:
            steps = steps.cummax(0).values.to(torch.int32)
        if out.dim() != x.dim():
            more = [1] * (rank - x.dim())  # gates that broadcast add axes behind that of time
            fits = image is not None and rank > x.dim()
            image = image.reshape(image.shape[0], *more, *image.shape[1:]) if fits and image is not None else None
        fields = {} if steps is None or steps.dim() != rank else {TIME: steps}
        if image is not None:
            fields[IMAGE] = image
        return Label(fields, {k: v for k, v in joined.items() if k == IMAGE}, label.loose)

    def single_step(self, path: str, x: Tensor | None, out: Tensor, label: Label | None = None) -> Label:
        """The label behind a neuron that is called once per step.

        Args:
            label: of the result, where the neuron's own operations have told it; else that of its input.
        """
        before = NOTHING if x is None else self.book.label(x)
        number = len(self.calls[path])
        self.calls[path].append({n: int(v.flatten()[0]) for n, v in before.fields.items() if v.numel() == 1})
        known = NOTHING if x is None else self.label(x)
        base = known if label is None else label
        steps = known.get(TIME)
        if steps is not None and steps.numel() > 1:
            return base if base.get(TIME) is not None else base.with_field(TIME, steps)
        own = None if steps is None or int(steps.flatten()[0]) in (ANY, MIXED) else int(steps.flatten()[0])
        told = None if self.expected is None or own is not None else self.expected.steps(before)
        if self.T is not None and own is not None:
            step = own
        elif told is not None and told.numel() == 1 and int(told.flatten()[0]) not in (ANY, MIXED):
            step = int(told.flatten()[0])
        elif not self.totals or self.totals.get(path) == self._known_steps():
            step = number
        else:
            step = own if own is not None else self._last.get(path, -1) + 1
        self._last[path] = step
        self.latest = max(self.latest, step)
        return base.without(set(self.alike)).with_field(TIME, labels.constant(step, out.dim()))

    def _known_steps(self) -> int:
        """T as the user says it, or as an earlier pass has found it."""
        return self.user_steps or self.steps or steps_of_calls(list(self.totals.values()))

    def own_axes(self, x: Tensor) -> None:
        """Before a user's own neuron whose input may hold time: each of its axes is a candidate of its own."""
        label = self.book.label(x)
        image = label.get(IMAGE)
        if self.time is not None or image is None or len(self.alike) >= _CANDIDATES:
            return
        for axis, size in enumerate(x.shape[:2]):
            if size > 1 and image.shape[axis] == 1:
                label = label.with_field(self._candidate(size, alike=False), labels.arange(size, axis, x.dim()))
        self.book.put(x, self.book.origin(x), label)

    def settle_by_evidence(self, path: str, x: Tensor | None) -> None:
        """After a user's own neuron: the candidate along which its body joined one row after another is time."""
        if self.time is not None:
            self.evidence.clear()
            return
        told = sorted(self.evidence)
        self.evidence.clear()
        once = bool(self.totals) and all(calls == 1 for calls in self.totals.values())
        if not told and once and self.user_steps is not None and self.user_steps > 1 and x is not None:
            # Neurons without a state, called once on all steps: the user's T says which axis these are.
            fitting = [n for n in sorted(self.book.label(x).fields) if self._sizes.get(n) == self.user_steps]
            told = [n for n in fitting if self.alike[n]] or fitting
        if told:
            size = self._sizes[told[0]]
            self.time, self.T = TimeAxis(told[0], self._tables(told[0], range(size))), size
            first = [calls[0].get(told[0], 0) for calls in self.calls.values() if calls]
            self.early = any(value not in (0, ANY, MIXED) for value in first)

    def _settle(self, path: str, label: Label, n: int) -> None:
        """Time is the first candidate whose values tell the rows of axis 0 apart, in order; else it begins here."""
        mixes = (image := label.get(IMAGE)) is not None and image.shape[0] > 1
        for name in sorted(label.fields):
            table = self._table(label.fields[name], n) if name in self.alike and n > 1 else None
            if table is not None:
                # Rows that are single values are steps of the whole axis, of which this neuron may see a part.
                alone = label.fields[name].numel() == n
                size = self._sizes[name] if alone else n
                table = tuple(range(size)) if alone else table
                self.time, self.T = TimeAxis(name, self._tables(name, table)), None if mixes else size
                return
        if not mixes:
            self._expect(path, n)
            self.time, self.T = TimeAxis(), n

    def _expect(self, path: str, n: int) -> None:
        if self.user_steps is not None and n != self.user_steps:
            raise SpikeattnError(
                f"neuron {path} sees {n} time steps where {self.user_steps} are expected; all neurons must share one "
                "T; check time_steps="
            )

    @staticmethod
    def _table(values: Tensor, n: int) -> tuple[int, ...] | None:
        """Value -> row of axis 0, where every value stands in one row alone and the rows are in order."""
        if values.shape[0] != n or bool((values == MIXED).any()) or bool((values == ANY).any()):
            return None
        rows = [values[i].unique().tolist() for i in range(n)]
        flat = [value for row in rows for value in row]
        if len(set(flat)) != len(flat) or flat != sorted(flat):
            return None
        table = [0] * (max(flat) + 1)
        for step, row in enumerate(rows):
            for value in row:
                table[value] = step
        return tuple(table)

    def number_steps(self, spikes: Sequence[Label], path: str) -> None:
        """After the pass: T counts the steps that neurons have seen; frames that none of them sees are no steps.

        Raises:
            SpikeattnError: the user says another T; `path` is the first neuron.
        """
        if self.time is None or self.T is None:
            return
        seen = set()
        for label in spikes:
            steps = label.get(TIME)
            seen |= set() if steps is None else set(labels.values_of(steps))
        if seen and seen != set(range(self.T)) and max(seen) < self.T:
            numbers = {step: i for i, step in enumerate(sorted(seen))}
            order = tuple(numbers.get(step, MIXED) for step in range(self.T))
            self.time, self.T = replace(self.time, order=order), len(seen)
        self._expect(path, self.T)

    def settle_by_calls(self) -> None:
        """After the pass: frames that are handed to neurons one by one are steps, in the order of the calls."""
        if self.time is not None:
            return
        for calls in self.calls.values():
            for name in sorted(set.intersection(*(set(found) for found in calls))) if len(calls) > 1 else ():
                values = [found[name] for found in calls]
                distinct = sorted(set(values))
                rising = values[0] >= 0 and distinct[-1] < MIXED and values == sorted(values) and len(distinct) > 1
                if name in self.alike and rising and len({values.count(value) for value in distinct}) == 1:
                    self.frames = len(distinct)  # a neuron may run several times on one frame
                    table = [0] * (max(values[-1], self._sizes[name] - 1) + 1)
                    for step, value in enumerate(distinct):
                        table[value] = step
                    self.time = TimeAxis(name, self._tables(name, table))
                    return
        self.time = TimeAxis()


def _field_of(name: str, by_id: Mapping[int, Label]) -> Callable[[Tensor], Tensor | None]:
    """A field of the label of a tensor, by the tensor."""
    return lambda x: by_id[id(x)].get(name) if id(x) in by_id else None


def steps_of_calls(totals: Sequence[int]) -> int:
    """T from how often single-step neurons are called: the smallest number that divides all larger ones.

    A neuron that several layers share is called several times per step, one behind a delay a few times less often.
    """
    numbers = sorted(set(totals))
    fitting = [n for n in numbers if all(m % n == 0 for m in numbers if m > n)]
    return fitting[0] if fitting else 1

"""The additions of a plan: how many take place at a time step, at how many steps, and to which layer they belong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from spikeattn.storage.ledger_rows import Addition, Uncounted
from spikeattn.tracing.branches import Branches
from spikeattn.tracing.labels import IMAGE
from spikeattn.tracing.layout import LayoutReader
from spikeattn.tracing.pass_events import Event
from spikeattn.tracing.plan_tensors import Tensors, unique
from spikeattn.tracing.step_matching import Line, lines_of, main_view

Steps = tuple[bool, int, int | None]


class PlanAdditions:
    """Collects the additions of one pass, once its layers are planned.

    Args:
        steps: of a line that joins time steps or not: whether it runs at every step, how many steps one event covers,
            and at how many it runs (None: all); None where its images cannot be told apart.
        taken: names of synapses and products.
    """

    def __init__(
        self, reader: LayoutReader, tensors: Tensors, branches: Branches, joins: Callable[[Line], bool],
        steps: Callable[[Line, bool], Steps | None], taken: Collection[str],
    ) -> None:  # fmt: skip
        self._reader, self._tensors, self._branches = reader, tensors, branches
        self._joins, self._steps, self._taken = joins, steps, taken
        self.rows: dict[str, Addition] = {}
        self.uncounted: dict[tuple[str, str], Uncounted] = {}

    def build(self, events: Sequence[Event]) -> None:
        """Enter the additions of a pass."""
        lines = lines_of(events, self._reader)
        self._branches.sums(event.out for event in events if event.reason == "add")
        for line in lines:
            self._enter(line)

    def _enter(self, line: Line) -> None:
        a, joined = line.first, self._joins(line)
        if IMAGE in a.out_view.label.joined:
            return  # over the images of the batch: bookkeeping, or the network would have been refused
        steps = self._steps(line, joined)
        if steps is None:
            view = main_view(line.labelled)
            reason = self._reader.unreadable(view.shape, view.label)
            self.uncounted.setdefault((a.site(), a.op), Uncounted(a.site(), a.op, reason))
            return
        every_step, covered, runs = steps
        static = self._static(line)
        elements, operand = a.macs // self._reader.batch // covered, None
        if a.reason == "average" and a.origins[0].spiky and a.fan_out is not None:
            tensor = self._tensors.operand(line, 0, joined)
            if tensor is not None and tensor.spikes:
                operand, elements = tensor.name, tensor.elements * a.fan_out
        if a.reason == "add":
            layer = self._branches.of_sum(a.origins)
        else:
            layer = self._branches.of_average(a.origins[0], a.out)
        name = unique(a.site(), dict.fromkeys((*self._taken, *self.rows)))
        row = Addition(name, a.reason, elements, operand, layer, every_step=every_step, runs=runs)
        if static and self._reader.time_steps > 1:
            row = replace(row, every_step=False, runs=None)
        self._join(row)

    def _static(self, line: Line) -> bool:
        """Whether everything that is added is the same at every time step: a still image that is repeated."""
        axes = self._tensors.read(main_view(line.labelled))
        return axes is not None and all(self._tensors.is_static(line, i, axes) for i in range(len(line.first.origins)))

    def _join(self, row: Addition) -> None:
        """Enter a row; one after another as a loop over time steps adds them up, they are runs of one row."""
        if row.every_step or row.operand is not None:
            self.rows[row.name] = row
            return
        site = row.name.rpartition("_")[0]
        for name, other in self.rows.items():
            same = (other.op, other.elements, other.layer, other.operand) == (row.op, row.elements, row.layer, None)
            if same and name.rpartition("_")[0] == site and (not other.every_step or other.runs is not None):
                self.rows[name] = replace(other, every_step=True, runs=(other.runs or 1) + 1)
                return
        self.rows[row.name] = row

"""Count one forward pass: tensor by tensor on the device, as the hooks of a recorder see them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor

from spikeattn.counting import on_cpu, pairs_on_cpu, sums
from spikeattn.counting.findings import Findings
from spikeattn.counting.gradients import CountGraph
from spikeattn.counting.transfer import Sent
from spikeattn.counting.weighed_ahead import weighed
from spikeattn.errors import SpikeattnError
from spikeattn.fast.count import Left, Read, Reader, Slots, lies
from spikeattn.storage.columns import Key
from spikeattn.storage.counts import BatchCounts
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.kinds import value_flags, whole
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.nested_tensors import logits_in, numbers_of
from spikeattn.tracing.outputs import scores_in
from spikeattn.tracing.taps import Fan, Pairs, Plan, Tap, logits_of

_NOTHING: Mapping[str, Tensor] = {}
_SAME = "every batch must have the same image size, channels and time steps"


class OtherPath(SpikeattnError):
    """A forward pass ran other operations than the first one."""


class Tally:
    """Accumulates one forward pass of a batch of `batch` images under `plan`.

    Attributes:
        dropout: it is at work, so that spikes behind it may be others.
        partial: not every module reports its calls (see `fast`).
        calls, ran: calls of modules and runs of operations so far, kept by the recorder.
        logits: what the layer `plan.logits_from` gave, call by call.
        memory: what the recorder keeps from pass to pass.
        apart: neurons whose spikes are counted at every place of their output too, over all images.
        kept: so many images of the batch are wanted, the first ones; None for all.
        late: counts of what an operation has made, taken when autograd knows it: before the next operation.
        graph: takes what is counted, with the way back to the spikes; None where nobody asks for gradients.

    Nothing waits for the device until the counts are asked for.
    """

    def __init__(
        self, plan: Plan, batch: int, calls: Mapping[str, int], unplanned: set[str] | None = None
    ) -> None:  # fmt: skip
        self.plan, self.batch = plan, batch
        self.calls, self._unplanned = calls, unplanned
        self._other: OtherPath | None = None
        self.ran: Mapping[tuple[str, int, str], int] = {}
        self.logits: list[Tensor] = []
        self.partial = False
        self.dropout = False
        self.memory = on_cpu.Kept()
        self.apart: Container[str] = ()
        self.kept: int | None = None
        self._by_neuron: dict[str, Tensor] = {}
        self.late: list[Callable[[], None]] = []
        self.graph: CountGraph | None = None
        self._found = Findings()
        self._nonfinite: dict[str, Tensor] = {}

    # ---------------------------------------------------------------- while the pass runs
    def count(self, tap: Tap, x: Tensor, t: int | None, left: Left = _NOTHING) -> None:
        """Count a tensor seen at `tap`; `t` is the time step where the calls are the steps.

        Args:
            left: counts of it that its module has left, which are taken instead (see `fast`).
        """
        self._count(tap, x, t, left)
        if self.graph is not None and self._other is None:
            self.graph.tap(tap, x, t, self._latest)

    def reader_of(self, tap: Tap, x: Tensor) -> tuple[Reader, Slots] | None:
        """What counts a tensor like `x` at `tap`, and where to; None where several do, or where it takes more."""
        if self._other is not None or self.graph is not None or (tap.tensor and tap.name in self.apart):
            return None
        reader = on_cpu.only_reader(tap, x, self.memory, self.batch)
        return None if reader is None else (reader, self.memory.slots)

    def count_again(self, tap: Tap, x: Tensor, t: int | None, left: Left) -> bool:
        """As `count`, for a tensor like one before; False, with nothing noted, where that is not enough.

        No operation of torch runs, but in `memory.muting`.
        """
        if self._other is not None or self.graph is not None or (tap.tensor and tap.name in self.apart):
            return False
        if left and self._take(tap, x, t, left):
            return True
        return on_cpu.count_again(self._found, tap, x, t, self.memory, self.batch, self.dropout)

    @torch.no_grad()
    def _count(self, tap: Tap, x: Tensor, t: int | None, left: Left) -> None:
        if self._other is not None or (left and self._take(tap, x, t, left)):
            return
        apart = tap.tensor and tap.name in self.apart
        if not apart and on_cpu.count_again(self._found, tap, x, t, self.memory, self.batch, self.dropout):
            return
        parted = self._split(tap, x.detach())
        if parted is None or not all(self._fits(fan, parted) for fan in tap.fans):
            return
        number = self.plan.ledger.tensor(tap.name).number
        if not apart and on_cpu.count_tap(self._found, tap, x, parted, t, self.memory, number, self.dropout):
            return
        x = whole(parted, tap.unit)
        if apart:
            self._count_by_neuron(tap, x)
        if tap.binary and x.is_cuda and not self.dropout and self._count_at_once(tap, x, t):
            return
        if tap.tensor:
            self._count_tensor(tap, x, t)
        if tap.binary and tap.fans and not tap.tensor and self.dropout:
            self._found.add_broken(tap.name, sums.not_binary(x))
        for fan in tap.fans:
            spatial = fan.weights.dim()
            nonzero = x if tap.binary else (x != 0).float()
            additions = sums.weigh(sums.sum_channels(nonzero, spatial), fan.weights)
            self._found.add("fan_nnz", fan.synapse, t, additions, tap.axes)
            if not tap.binary:
                values = sums.sum_channels(sums.magnitude(x), spatial)
                self._found.add("fan_abs", fan.synapse, t, sums.weigh(values, fan.weights), tap.axes)

    def _fits(self, fan: Fan, x: Tensor) -> bool:
        """Whether a tensor has the positions that a fan-out is known of; else the pass ran another way."""
        seen = x.shape[x.dim() - fan.weights.dim() :]
        if seen != fan.weights.shape and self._other is None:
            self._other = OtherPath(
                f"layer {fan.synapse} receives maps of {tuple(seen)} and received maps of {tuple(fan.weights.shape)} "
                f"in the first batch; {_SAME}"
            )
        return seen == fan.weights.shape

    def _take(self, tap: Tap, x: Tensor, t: int | None, left: Left) -> bool:
        """Take what a module has left of everything that is to be counted at `tap`; False where that is not all."""
        if isinstance(left, Read):
            return on_cpu.count_again(self._found, tap, x, t, self.memory, self.batch, self.dropout, left)
        fans = [fan.synapse for fan in tap.fans]
        if (tap.tensor and "nnz" not in left) or (fans and "fan_nnz" not in left):
            return False
        if tap.tensor:
            self._found.add("nnz", tap.name, None, left["nnz"], tap.axes)
        for synapse in fans:
            self._found.add("fan_nnz", synapse, None, left["fan_nnz"], tap.axes)
        if "weights" in left and not tap.fans:
            counts = left["fan_nnz"], None
            place = x.data_ptr(), *lies(x)
            self._found.weighed[tap.name] = weighed(x, place, None, left["weights"], lambda: counts)
        if "nonfinite" in left:
            self._nonfinite[tap.name] = left["nonfinite"]
        return True

    def count_pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None) -> None:
        """Count the spike pairs of the matrix product a @ b."""
        self._count_pairs(pairs, a, b, t)
        if self.graph is not None and self._other is None:
            self.graph.pairs(pairs, a, b, t, self._latest)

    @torch.no_grad()
    def _count_pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None) -> None:
        if pairs_on_cpu.count_pairs_again(self._found, pairs, a, b, t, self.memory, self.batch, self.dropout):
            return
        operands = a.detach(), b.detach()
        try:
            parted = [axes.split(x, self.batch) for x, axes in zip(operands, pairs.axes, strict=True)]
        except (RuntimeError, IndexError):
            self._other = OtherPath(
                f"product {pairs.name} has operands {tuple(a.shape)} and {tuple(b.shape)} in a batch of {self.batch}, "
                f"unlike in the first; {_SAME}"
            )
            return
        if pairs_on_cpu.count_pairs(self._found, pairs, operands, parted, t, self.memory, self.dropout):
            return
        axes = pairs.axes[0] if pairs.axes[0].timed else pairs.axes[1]
        left, right = (whole(x, unit) for x, unit in zip(parted, pairs.units, strict=True))
        if self.dropout and not pairs.by_value:
            self._found.add_broken(pairs.name, sums.not_binary(left) | sums.not_binary(right))
        self._found.add("pairs", pairs.name, t, sums.spike_pairs(left, right), axes)
        if pairs.by_value:
            self._found.add("pairs_abs", pairs.name, t, sums.spike_pairs(left, right, by_value=True).round(), axes)

    def _split(self, tap: Tap, x: Tensor) -> Tensor | None:
        """[T, B, ...] of a tapped tensor; a batch unlike the first one is an error, once the pass has ended: a single
        image, on which PyTorch may run other operations, can then be shown again."""
        shape = tuple(x.shape)
        try:
            x = tap.axes.split(x, self.batch)
        except (RuntimeError, IndexError):
            x = x.new_empty(0)
        elements, steps = self.plan.ledger.tensor(tap.name).elements, tap.axes.steps
        held = len(steps) // len(set(steps)) if steps else 1  # positions of one step
        if x.dim() < 2 or x.shape[:2] != (len(steps) or 1, self.batch) or held * x[0, 0].numel() != elements:
            self._other = OtherPath(
                f"tensor {tap.name} has shape {shape} in a batch of {self.batch}, where the first batch had {elements} "
                f"elements per image and time step; {_SAME}"
            )
            return None
        return x if x.dim() > 2 else x.unsqueeze(-1)

    def _count_tensor(self, tap: Tap, x: Tensor, t: int | None) -> None:
        if tap.binary:
            ones = sums.count_binary(x)
            self._found.add_broken(tap.name, sums.not_binary(x))
            self._found.add("nnz", tap.name, t, ones, tap.axes)
            return
        flags = value_flags(x)
        if tap.name == "input":
            flags = torch.cat([flags, (x != x[:1]).any().reshape(1)])
        if not self.plan.ledger.tensor(tap.name).number and x.numel():
            self._found.add_extremes(tap.name, torch.stack(torch.aminmax(x.float())))
        self._found.add_flags(tap.name, flags)
        self._found.add("nnz", tap.name, t, sums.count_nonzero(x), tap.axes)
        self._found.add("abs", tap.name, t, sums.sum_abs(x), tap.axes)

    def _count_by_neuron(self, tap: Tap, x: Tensor) -> None:
        """Add up what every place of a tensor holds; x is [P, B, ...]."""
        x = x if self.kept is None else x[:, : self.kept]
        ones = sums.count_by_neuron(x if tap.binary else x != 0)
        known = self._by_neuron.get(tap.name)
        self._by_neuron[tap.name] = ones if known is None else known + ones

    def _count_at_once(self, tap: Tap, x: Tensor, t: int | None) -> bool:
        """Count a 0/1 tensor on CUDA in one pass over its memory; False where that cannot be done."""
        kernels = sums.cuda_kernels()
        weights = [fan.weights for fan in tap.fans]
        if kernels is None or len(weights) > 1 or any(w.dim() != x.dim() - 3 for w in weights):
            return False
        if not kernels.countable(x):
            return False
        ones, broken, fans = kernels.count(x, *(self._on_device(w, x.device) for w in weights))
        self._found.add_broken(tap.name, broken != 0)
        if tap.tensor:
            self._found.add("nnz", tap.name, t, ones, tap.axes)
        for fan in tap.fans:
            self._found.add("fan_nnz", fan.synapse, t, fans, tap.axes)
        return True

    def _on_device(self, weights: Tensor, device: torch.device) -> Tensor:
        """Fan-outs as whole numbers on the device, copied once."""
        key = id(weights), str(device)
        if key not in self.memory.fans:
            self.memory.fans[key] = weights.to(device, torch.int64)
        return self.memory.fans[key]

    def holds_numbers(self, name: str) -> bool:
        """Whether a tensor that may hold any values holds some that are no whole multiples of its unit."""
        self._found.settle()
        return name in self._found.flags and bool(self._found.flags[name][0])

    def count_late(self) -> None:
        """Take the counts that wait."""
        while self.late:
            self.late.pop(0)()

    def _latest(self, key: Key) -> Tensor:
        self._found.settle()
        return self._found.sums[key][-1][2]

    # ---------------------------------------------------------------- when it has ended
    def collect(self, output: Any) -> BatchCounts:
        """Everything of this pass on the host, checked.

        Raises:
            SpikeattnError: NaN or infinite values, spikes that are not 0/1, or a tensor that never appeared.
        """
        return self.send(output).result()

    @torch.no_grad()
    def send(self, output: Any, kept: int | None = None) -> Sent:
        """Have everything of this pass on its way to the host, in one copy; the next pass can start meanwhile.

        Call it before the neurons are reset.

        Args:
            output: what the forward pass gave.
            kept: so many images of the batch are wanted, the first ones; None for those of the attribute.

        Raises:
            SpikeattnError: a tensor that never appeared, or appeared too often.
        """
        self.count_late()
        self._found.settle()
        if self._other is not None:
            raise self._other
        self._check_path()
        columns = {key: self.over_time(parts) for key, parts in self._found.sums.items()}
        unread = {name: neuron for name, neuron in self.plan.neurons.items() if name not in self._nonfinite}
        nonfinite = {name: ~torch.isfinite(v) for name, v in nodes.membrane_sums(unread).items()}
        nonfinite |= {name: bad != 0 for name, bad in self._nonfinite.items()}
        first = logits_in(output)
        numbers = None if first is None else numbers_of(first.detach())
        if numbers is not None:
            nonfinite["the model's output"] = ~torch.isfinite(numbers).all()
        predictions = self._predictions(scores_in(output))
        kept = self.kept if kept is None else kept
        if kept is not None and kept < self.batch:
            columns = {key: column[:, :kept] for key, column in columns.items()}
            predictions = None if predictions is None else predictions[:, :kept]
        found, images = self._found, self.batch if kept is None else kept
        return Sent(images, columns, found.broken, nonfinite, found.flags, predictions, found.extremes, self.dropout,
                    self._by_neuron)  # fmt: skip

    def _check_path(self) -> None:
        """Every tensor appeared as often as in the first batch, and nothing watched ran more or less often."""
        rule = "a model whose path depends on its input cannot be profiled as one network"
        for tap in self.plan.taps:
            seen = len(self._found.sums.get(("nnz", tap.name) if tap.tensor else ("fan_nnz", tap.fans[0].synapse), ()))
            if seen != len(tap.at):
                raise OtherPath(
                    f"tensor {tap.name} appeared {seen} times in this forward pass and {len(tap.at)} times in the "
                    f"first; {rule}"
                )
        for path, expected in self.plan.calls.items():
            seen = self.calls.get(path, expected if self.partial else 0)
            if seen and not expected and self._unplanned is not None:
                self._unplanned.add(path)
            elif seen != expected:
                raise OtherPath(
                    f"module {path} was called {seen} times in this forward pass and {expected} times in "
                    f"the first; {rule}"
                )
        for place, expected in self.plan.ordinals.items():
            if self.ran.get(place, 0) != expected:
                raise OtherPath(
                    f"operation {place[2]} of module {place[0] or 'itself, the whole model,'} ran "
                    f"{self.ran.get(place, 0)} times in this forward pass and {expected} times in the first; {rule}"
                )

    def over_time(self, parts: list[tuple[int | None, Axes, Tensor]]) -> Tensor:
        """[T, B], or [1, B] of what has no split over time steps; a still image counts at every step."""
        T = self.plan.ledger.time_steps
        t, axes, first = parts[0]
        if t is None and axes.steps in ((), tuple(range(T))):
            column = torch.stack([part for *_, part in parts]).sum(0) if len(parts) > 1 else first
            return column.expand(T, self.batch) if len(column) == 1 < T and not axes.joined else column
        column = torch.zeros((T, self.batch), dtype=torch.float64, device=first.device)
        for t, axes, part in parts:
            steps = torch.tensor(axes.steps if t is None else [t], device=part.device)
            column.index_add_(0, steps, part.double())
        return column

    def _predictions(self, output: Tensor | None) -> Tensor | None:
        axes = self.plan.output_axes
        steps: Tensor | None = None
        if self.logits:
            steps = logits_of(self.logits, self.plan.logits_axes, self.batch)
        elif output is not None and _is_ordered(output) and axes is not None and axes.outer == axes.inner == 1:
            try:
                steps = axes.split(output.detach(), self.batch)
            except (RuntimeError, IndexError):
                return None
            steps = steps if steps.dim() == 3 and axes.steps == tuple(range(len(axes.steps))) else None
        if steps is None or steps.shape[1] != self.batch:
            return None
        count = torch.arange(1, len(steps) + 1, device=steps.device).view(-1, 1, 1)
        mean = steps.float().cumsum(0) / count
        return mean.argmax(-1) if mean.shape[-1] > 1 else mean[..., 0] > 0  # one logit says yes or no by its sign


def _is_ordered(output: Tensor) -> bool:
    """Whether an output may hold logits, the largest of which is the prediction."""
    return output is numbers_of(output) and output.dtype != torch.bool

"""The counts of one forward pass: filled tensor by tensor on the device, copied to the host once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.recording import counting
from spikeattn.recording import neurons as nodes
from spikeattn.recording.taps import Pairs, Plan, Tap

Key = tuple[str, str]  # (measure, name)
_SAME = "every batch must have the same image size, channels and time steps"


@dataclass(frozen=True)
class BatchCounts:
    """What one forward pass gave.

    Attributes:
        counts: [T, B] float64 by (measure, name); all but "abs" of real tensors are whole numbers.
        predictions: [T, B] class after steps 1..t; [1, B] where the model gives no logits per step; [0, B] where its
            output is no [B, classes].
        flags: value flags by tensor (see counting.value_flags); a fourth one on the input: it varies over time.
        batch: number of images B.
    """

    counts: dict[Key, np.ndarray]
    predictions: np.ndarray
    flags: dict[str, tuple[bool, ...]]
    batch: int


class Tally:
    """Accumulates one forward pass of a batch of `batch` images under `plan`."""

    def __init__(self, plan: Plan, batch: int) -> None:
        self.plan, self.batch = plan, batch
        self.logits: Tensor | None = None
        self._sums: dict[Key, list[tuple[int | None, Tensor]]] = defaultdict(list)
        self._flags: dict[str, Tensor] = {}
        self._broken: dict[str, Tensor] = {}

    # ---------------------------------------------------------------- while the pass runs
    @torch.no_grad()
    def count(self, tap: Tap, x: Tensor, t: int | None) -> None:
        """Count a tensor seen at `tap`; `t` is the time step of a single-step network."""
        x = self._split(tap, x.detach())
        if tap.tensor:
            self._count_tensor(tap, x, t)
        for fan in tap.fans:
            spatial = fan.weights.dim()
            nonzero = x if tap.binary else (x != 0).float()
            self._add("fan_nnz", fan.synapse, t, counting.weigh(counting.sum_channels(nonzero, spatial), fan.weights))
            if not tap.binary:
                values = counting.sum_channels(x.double().abs(), spatial)
                self._add("fan_abs", fan.synapse, t, counting.weigh(values, fan.weights))

    @torch.no_grad()
    def count_pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None) -> None:
        """Count the spike pairs of the matrix product a @ b."""
        left, right = (pairs.axes.split(x.detach(), self.plan.ledger.time_steps, self.batch) for x in (a, b))
        self._add("pairs", pairs.name, t, counting.spike_pairs(left, right))

    def _split(self, tap: Tap, x: Tensor) -> Tensor:
        """[T, B, ...] of a tapped tensor; a batch unlike the first one is an error."""
        shape = tuple(x.shape)
        try:
            x = tap.axes.split(x, self.plan.ledger.time_steps, self.batch)
        except RuntimeError:
            x = x.new_empty(0)
        elements = self.plan.ledger.tensor(tap.name).elements
        if x.dim() < 2 or x.shape[1] != self.batch or x[0, 0].numel() != elements:
            raise SpikeattnError(
                f"tensor {tap.name} has shape {shape} in a batch of {self.batch}, where the first batch had {elements} "
                f"elements per image and time step; {_SAME}"
            )
        return x if x.dim() > 2 else x.unsqueeze(-1)

    def _count_tensor(self, tap: Tap, x: Tensor, t: int | None) -> None:
        if tap.binary:
            ones = counting.count_binary(x)
            broken = counting.not_binary(x)
            self._broken[tap.name] = broken | self._broken[tap.name] if tap.name in self._broken else broken
            self._add("nnz", tap.name, t, ones)
            return
        flags = counting.value_flags(x)
        if tap.name == "input":
            flags = torch.cat([flags, (x != x[:1]).any().reshape(1)])
        self._flags[tap.name] = flags | self._flags[tap.name] if tap.name in self._flags else flags
        self._add("nnz", tap.name, t, counting.count_nonzero(x))
        self._add("abs", tap.name, t, counting.sum_abs(x))

    def _add(self, measure: str, name: str, t: int | None, value: Tensor) -> None:
        self._sums[measure, name].append((t, value))

    # ---------------------------------------------------------------- when it has ended
    def collect(self, output: Any) -> BatchCounts:
        """Everything of this pass on the host, checked.

        Raises:
            SpikeattnError: NaN or infinite values, spikes that are not 0/1, or a tensor that never appeared.
        """
        for tap in self.plan.taps:
            if tap.tensor and ("nnz", tap.name) not in self._sums:
                raise SpikeattnError(
                    f"tensor {tap.name} did not appear in this forward pass, although it did in the first; a model "
                    "whose path depends on its input cannot be profiled as one network"
                )
        columns = {key: self._over_time(parts) for key, parts in self._sums.items()}
        packed = torch.stack(list(columns.values())).cpu().numpy()
        self._check_binary()
        self._check_finite(columns, packed, output)
        flags = {name: tuple(value.cpu().tolist()) for name, value in self._flags.items()}
        return BatchCounts(dict(zip(columns, packed, strict=True)), self._predictions(output), flags, self.batch)

    def _over_time(self, parts: list[tuple[int | None, Tensor]]) -> Tensor:
        T = self.plan.ledger.time_steps
        if parts[0][0] is None:
            column = torch.stack([p for _, p in parts]).sum(0) if len(parts) > 1 else parts[0][1]
        else:
            column = torch.zeros((T, self.batch), dtype=torch.float64, device=parts[0][1].device)
            for t, part in parts:
                column[t] += part[0]
        return column.expand(T, self.batch) if len(column) == 1 else column

    def _check_binary(self) -> None:
        if not self._broken:
            return
        broken = torch.stack(list(self._broken.values())).cpu().tolist()
        for name, bad in zip(self._broken, broken, strict=True):
            if bad:
                raise SpikeattnError(
                    f"tensor {name} should hold only 0 and 1 but holds other values in this batch; a hook, or a "
                    "surrogate function with spiking=False, changes the spikes"
                )

    def _check_finite(self, columns: dict[Key, Tensor], packed: np.ndarray, output: Any) -> None:
        potentials = nodes.membrane_sums(self.plan.neurons)
        finite = torch.isfinite(torch.stack(list(potentials.values()))).cpu().tolist() if potentials else []
        sick = [name for name, good in zip(potentials, finite, strict=True) if not good]
        sick += [name for (_, name), column in zip(columns, packed, strict=True) if not np.isfinite(column).all()]
        if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            sick.append("the model's output")
        if sick:
            raise SpikeattnError(
                f"NaN or infinite values reached {sick[0]} in this batch: check the input images and the weights for "
                "NaN, and the precision for overflow; a NaN never reaches a threshold and would be counted as silence"
            )

    def _predictions(self, output: Any) -> np.ndarray:
        axes = self.plan.output_axes
        steps: Tensor | None = self.logits
        if steps is None and isinstance(output, Tensor) and axes is not None:
            if axes.layout in ("TB", "BT") and output.dim() == 3:
                steps = axes.split(output.detach(), self.plan.ledger.time_steps, self.batch)
            elif output.dim() == 2 and (axes.layout == "B" or self.plan.ledger.time_steps == 1):
                steps = output.detach().unsqueeze(0)
        if steps is None:
            return np.zeros((0, self.batch), dtype=np.int64)
        count = torch.arange(1, len(steps) + 1, device=steps.device).view(-1, 1, 1)
        return (steps.float().cumsum(0) / count).argmax(-1).cpu().numpy()

"""What a metric needs of torchmetrics' base class, for where torchmetrics is not installed.

States are tensors that add up (or keep the least or the most), so that batches, epochs and ranks are merged by the same
rule. Names and meaning are those of `torchmetrics.Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stacked: stacked.sum(0),
    "min": lambda stacked: stacked.amin(0),
    "max": lambda stacked: stacked.amax(0),
}


class PlainMetric:
    """States, `reset`, `sync` over ranks, and a `compute` that is merged over ranks.

    Args:
        process_group: the ranks that merge; default all.
        sync_on_compute: whether `compute` merges the ranks.
    """

    def __init__(self, *, process_group: Any = None, sync_on_compute: bool = True) -> None:
        self.process_group, self.sync_on_compute = process_group, sync_on_compute
        self.device = torch.device("cpu")
        self._defaults: dict[str, Tensor] = {}
        self._reductions: dict[str, str] = {}
        self._own: dict[str, Tensor] | None = None  # the states of this rank, while those of all stand in their place

    def __init_subclass__(cls, **options: Any) -> None:
        """Have `compute` of a subclass merge the ranks, as torchmetrics has it."""
        super().__init_subclass__(**options)
        own = vars(cls).get("compute")
        if own is not None:

            @wraps(own)
            def merged(self: PlainMetric, *args: Any, **kwargs: Any) -> Any:
                with self.sync_context(should_sync=self.sync_on_compute):
                    return own(self, *args, **kwargs)

            cls.compute = merged  # type: ignore[method-assign]

    def add_state(self, name: str, default: Tensor, dist_reduce_fx: str) -> None:
        """Declare a state: an attribute of this name, its value after a reset, and how ranks are merged."""
        self._defaults[name], self._reductions[name] = default, dist_reduce_fx
        setattr(self, name, default.clone())

    def _states(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self._defaults}

    def _set(self, states: dict[str, Tensor]) -> None:
        for name, value in states.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """Every state as it was declared."""
        self._set({name: value.clone().to(self.device) for name, value in self._defaults.items()})

    def to(self, device: torch.device | str) -> PlainMetric:
        """The states on another device."""
        self.device = torch.device(device)
        self._set({name: value.to(self.device) for name, value in self._states().items()})
        return self

    def clone(self) -> PlainMetric:
        """A copy with states of its own."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """`update`, and what `compute` gives for this batch alone, on this rank alone."""
        before, merging = self._states(), self.sync_on_compute
        self.reset()
        self.sync_on_compute = False
        try:
            self.update(*args, **kwargs)
            value = self.compute()
        finally:
            self.sync_on_compute = merging
            self._set({name: self._joined(name, [before[name], now]) for name, now in self._states().items()})
        return value

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take a batch; of a subclass."""
        raise NotImplementedError

    def compute(self) -> Any:
        """The value of all batches so far; of a subclass, whose states are those of all ranks meanwhile."""
        raise NotImplementedError

    # ---------------------------------------------------------------- over ranks
    def sync(self, should_sync: bool = True) -> None:
        """The states of all ranks in the place of this rank's, until `unsync`; every rank must call it."""
        if not (should_sync and dist.is_available() and dist.is_initialized()) or self._own is not None:
            return
        own = self._states()
        size = dist.get_world_size(self.process_group)
        merged = {}
        for name, value in own.items():
            value = value.contiguous()
            gathered = [torch.empty_like(value) for _ in range(size)]
            dist.all_gather(gathered, value, group=self.process_group)
            merged[name] = self._joined(name, gathered)
        self._own = own
        self._set(merged)

    def unsync(self) -> None:
        """The states of this rank again."""
        if self._own is not None:
            own, self._own = self._own, None
            self._set(own)

    @contextmanager
    def sync_context(self, should_sync: bool = True) -> Iterator[None]:
        """Inside, the states are those of all ranks; every rank must enter it."""
        synced = self._own is not None
        self.sync(should_sync=should_sync)
        try:
            yield
        finally:
            if not synced:
                self.unsync()

    def _joined(self, name: str, values: list[Tensor]) -> Tensor:
        return _REDUCTIONS[self._reductions[name]](torch.stack(torch.broadcast_tensors(*values)))

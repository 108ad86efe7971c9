"""The forward pass that is counted now: its tally, what of all that runs is part of it, what dropout has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.compat.torch_modes import top_mode
from spikeattn.counting.tally import Tally

counting_now: ContextVar[bool] = ContextVar("counting_now", default=False)  # of any recorder, for all of them
_own_passes: ContextVar[int] = ContextVar("own_passes", default=0)


@contextmanager
def own_passes() -> Iterator[None]:
    """Passes inside are spikeattn's own: recordings of the user's, which are open around them, do not count them."""
    token = _own_passes.set(_own_passes.get() + 1)
    try:
        yield
    finally:
        _own_passes.reset(token)


def in_own_passes() -> bool:
    """Whether the pass that runs is one of spikeattn's own."""
    return _own_passes.get() > 0


class CountedPass:
    """What a recorder and the mode that watches operations for it share.

    Attributes:
        tally: of the pass that is counted; None between passes.
        mode: what watches operations; None where none are counted.
    """

    def __init__(self) -> None:
        self.tally: Tally | None = None
        self.mode: TorchDispatchMode | None = None
        self._depth = 0
        self._dropped: dict[int, tuple[Tensor, Tensor]] = {}

    def _end(self) -> None:
        self.tally = None
        self._dropped.clear()

    def _begin(self, tally: Tally) -> None:
        self.tally, self._depth = tally, _own_passes.get()

    @property
    def counts(self) -> bool:
        """Whether what runs is part of the pass that is counted."""
        return self.tally is not None and self._depth == _own_passes.get()

    @property
    def counting(self) -> Tally:
        """The tally of the pass that is counted."""
        assert self.tally is not None
        return self.tally

    @contextmanager
    def muting(self) -> Iterator[None]:
        """What runs inside is counting, and no operation of the model.

        The mode that watches operations is left meanwhile: to be asked about each of them costs more than they do.
        """
        token, mode = counting_now.set(True), self.mode
        graph = self.tally is not None and self.tally.graph is not None  # where gradients are wanted, autograd needs it
        apart = mode is not None and not graph and top_mode() is mode
        if mode is not None and apart:
            mode.__exit__(None, None, None)
        try:
            yield
        finally:
            if mode is not None and apart:
                mode.__enter__()
            counting_now.reset(token)

    def note_dropout(self, before: Tensor, after: Tensor) -> None:
        """Spikes that dropout has changed: what receives them is counted as if it had not."""
        if after is not before and before.shape == after.shape:
            self._dropped[id(after)] = (after, before)

    def before_dropout(self, x: Tensor) -> Tensor:
        """A tensor as it would be without the dropout that it, or what it is a view of, has gone through."""
        while self._dropped:
            if id(x) in self._dropped:
                x = self._dropped[id(x)][1]
                continue
            after, before = self._dropped.get(id(x._base), (None, None))
            if after is None or before is None or after.stride() != before.stride():
                break
            offset = x.storage_offset() - after.storage_offset() + before.storage_offset()
            x = before.as_strided(x.size(), x.stride(), offset)
        return x

"""The counts of the passes of a recording: rows in memory up to a size, beyond it in a temporary folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.counting.transfer import Sent
from spikeattn.runs.assembly import in_memory, on_disk
from spikeattn.runs.result import Profile
from spikeattn.storage import parts
from spikeattn.storage.counts import batch_table
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part

SPILL = 1 << 26  # bytes of counts that stay in memory; 64 MB are some 10,000 images of a large network


class KeptPasses:
    """One row per image, in the order they came.

    Attributes:
        sizes: images of each pass.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._waiting: list[Part] = []
        self._folder: TemporaryDirectory[str] | None = None

    def add(self, ledger: Ledger, sent: Sent, size: int) -> None:
        """Keep the counts of a pass over `size` images."""
        counts, number, start = sent.result(), len(self.sizes), sum(self.sizes)
        self.sizes.append(size)
        index = range(start, start + counts.batch)
        table = batch_table(counts, index, [str(i) for i in index], [-1] * counts.batch)
        made_of = parts.origin(ledger)
        self._waiting.append(Part((number,), counts.flags, (), table, extremes=counts.extremes, **made_of))
        if sum(part.table.nbytes for part in self._waiting if part.table is not None) >= SPILL:
            self._spill(made_of)

    def _spill(self, made_of: Mapping[str, Any]) -> None:
        """Bring the counts in memory to a temporary folder, which goes with this object."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="spikeattn-")
        parts.save(replace(parts.join(self._waiting), **made_of), Path(self._folder.name))
        self._waiting = []

    def profile(self, ledger: Ledger) -> Profile:
        """All of them as one result."""
        if self._folder is None:
            return in_memory(self._waiting, ledger)
        written = [parts.load(path) for path in sorted(Path(self._folder.name).glob("*.arrow"))]
        return on_disk([*written, *self._waiting], ledger, self._folder)

    def frame(self, profile: Profile) -> pd.DataFrame:
        """A row per pass, image, tensor and time step of that result; see `Recording.counts`."""
        forward = np.repeat(np.arange(len(self.sizes)), self.sizes)
        image = np.concatenate([np.arange(size) for size in self.sizes])
        frames = []
        for tensor in profile.ledger.tensors:
            nonzero = profile.counts.column("nnz", tensor.name)
            N, T = nonzero.shape
            frames.append(
                pd.DataFrame(
                    {
                        "forward": np.repeat(forward, T),
                        "image": np.repeat(image, T),
                        "tensor": tensor.name,
                        "t": np.tile(np.arange(1, T + 1), N),
                        "nonzero": nonzero.ravel(),
                        "abs_sum": profile.counts.column("abs", tensor.name).ravel(),
                        "elements": tensor.elements,
                    }
                )
            )
        table = pd.concat(frames, ignore_index=True)
        return table.sort_values(["forward"], kind="stable", ignore_index=True)

"""The tables of `SpuriousEnergy`: energies by token summed by synapse, part, layer and head, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.energy.amounts import OPS
from spikeattn.spurious.attribution import Attribution
from spikeattn.spurious.join import Join
from spikeattn.spurious.replicate_noise import ReplicateNoise, shares_of, widened
from spikeattn.spurious.token_energy import Cell, Head, TokenEnergy, over
from spikeattn.stats.intervals import Floats, Interval, mean_intervals


class Tables:
    """Everything that is formed from one attribution and the significance of its tokens.

    Attributes:
        energy: of the attended blocks by token.
        maps, spurious: mJ of every token [image, layer, token], and the spurious part of it.
        noise: of the replicates, for the chosen specification; None leaves intervals over images alone.
    """

    def __init__(
        self, spread: Attribution, joined: Join, prices: Floats, per_image: Floats, settings: dict[str, Any]
    ) -> None:
        self.joined, self.prices, self.per_image, self.settings = joined, prices, per_image, settings
        self.n = len(joined.rows)
        self.energy = TokenEnergy(joined.layers)
        self.noise: ReplicateNoise | None = None
        self.rows: list[dict[str, Any]] = []
        shape = (self.n, len(joined.layers), joined.tokens.grid[0] * joined.tokens.grid[1])
        self.maps, self.spurious = np.zeros(shape), np.zeros(shape)
        self.cells: dict[Cell, Floats] = {}  # [image, (energy, spurious, below)]
        self.by_head: dict[Head, Floats] = {}  # the same by layer and head
        self.left: dict[tuple[str, str, str], Floats] = {}
        self._enter(spread)

    def _enter(self, spread: Attribution) -> None:
        for inside in spread.inside:
            mj = inside.amounts * self.prices[OPS.index(inside.term.op)]  # [image, head, token]
            if inside.layer not in self.joined.layers:
                reason = f"block {inside.layer} was not attended"
                self._leave(inside.part, inside.term.name, reason, mj.sum((1, 2)))
                continue
            self._add(inside.term.name, inside.part, inside.layer, mj)
        for left in spread.outside:
            self._leave(left.part, left.term.name, left.reason, left.amounts * self.prices[OPS.index(left.term.op)])

    @property
    def everything(self) -> Floats:
        """Energy, spurious and below the null of the attended blocks, [image, 3]."""
        return np.sum([*self.cells.values()], axis=0) if self.cells else np.zeros((self.n, 3))

    @property
    def frame(self) -> pd.DataFrame:
        frames = [pd.DataFrame(rows) for rows in self.rows]
        return pd.concat(frames, ignore_index=True).astype({"head": "Int64"})

    def shares(self, whole: Floats) -> Interval:
        """All that is spurious over energies of the same images [image]."""
        moved = None if self.noise is None else self.noise.cells.sum(axis=2, keepdims=True)
        return shares_of(self.everything[:, 1:2], whole[:, None], moved, self.settings)[0]

    def spurious_mj(self) -> Interval:
        """mJ per image."""
        found = mean_intervals(self.everything[:, 1:2], **self.settings)
        if self.noise is not None:
            found = widened(found, self.noise.cells.sum(axis=2, keepdims=True))
        return found[0]

    def parts(self) -> pd.DataFrame:
        """A row per layer and part, per layer, per part and for all together."""
        names = list(dict.fromkeys(part for _, part in self.cells))
        entries: list[tuple[Any, str, list[Cell]]] = []
        for layer in self.joined.layers:
            of_layer = [cell for cell in self.cells if cell[0] == layer]
            entries += [(layer, part, [(layer, part)]) for _, part in of_layer]
            entries.append((layer, "all", of_layer))
        entries += [("all", part, [cell for cell in self.cells if cell[1] == part]) for part in names]
        entries.append(("all", "all", list(self.cells)))
        moved = None if self.noise is None else (self.noise.cells, self.energy.cells)
        return self._rows_of(["layer", "part"], entries, self.cells, moved)

    def heads(self) -> pd.DataFrame:
        """A row per layer and head."""
        moved = None if self.noise is None else (self.noise.heads, self.energy.heads)
        return self._rows_of(["layer", "head"], [(*key, [key]) for key in self.by_head], self.by_head, moved)

    def outside(self) -> pd.DataFrame:
        """What has no tokens or no attention, with its share of the network's energy."""
        columns = ["part", "synapse", "reason", "energy_mj", "share"]
        whole = self.per_image.mean()
        rows = [(*key, mj.mean(), mj.mean() / whole if whole > 0 else np.nan) for key, mj in self.left.items()]
        return pd.DataFrame(rows, columns=columns)

    def _add(self, name: str, part: str, layer: int, mj: Floats) -> None:
        """Enter the energies [image, head, token] of a synapse or product of one layer."""
        place = self.joined.layers.index(layer)
        weight, below = self.joined.weights(place, mj.shape[1])  # [image, head, token]
        columns = [mj, mj * weight, mj * below]
        self.energy.add((layer, part), mj)
        self.maps[:, place] += mj.sum(1)
        self.spurious[:, place] += columns[1].sum(1)
        sums = np.stack([x.sum(2) for x in columns], axis=2)  # [image, head, 3]
        self.cells[layer, part] = self.cells.get((layer, part), 0) + sums.sum(1)
        heads = range(mj.shape[1]) if mj.shape[1] > 1 else [None]
        for head, of_head in zip(heads, sums.swapaxes(0, 1), strict=True):
            energy, spurious, under = of_head.T
            if head is not None:
                self.by_head[layer, head] = self.by_head.get((layer, head), 0) + of_head
            self.rows.append(
                {
                    "image": self.joined.tokens.images, "id": self.joined.ids, "layer": layer, "head": head,
                    "part": part, "synapse": name, "energy_mj": energy, "spurious_mj": spurious, "below_mj": under,
                    "share": over(spurious, energy),
                }
            )  # fmt: skip

    def _leave(self, part: str, name: str, reason: str, mj: Floats) -> None:
        key = (part, name, reason)
        self.left[key] = self.left.get(key, 0) + mj

    def _rows_of(
        self,
        names: list[str],
        entries: Sequence[tuple[Any, Any, list[Any]]],
        table: dict[Any, Floats],
        moved: tuple[Floats, list[Any]] | None,
    ) -> pd.DataFrame:
        """Means and shares of sums of columns, one row per entry.

        Args:
            entries: two names of a row, and the keys of the columns that it sums.
            table: energies [image, (energy, spurious, below)] by key.
            moved: differences of the spurious energy [half, image, column], and the keys of the columns.
        """
        columns = [*names, "energy_mj", "spurious_mj", "share", "ci_low", "ci_high", "interval", "below_share"]
        if not entries:
            return pd.DataFrame(columns=columns)
        stacked = np.stack([np.sum([table[key] for key in keys], axis=0) for _, _, keys in entries], axis=1)
        sums = None
        if moved is not None:
            differences, order = moved
            places = [[order.index(key) for key in keys] for _, _, keys in entries]
            sums = np.stack([differences[..., each].sum(axis=-1) for each in places], axis=-1)
        shares = shares_of(stacked[:, :, 1], stacked[:, :, 0], sums, self.settings)
        means = stacked.mean(0)
        values = [
            pd.Series([first for first, _, _ in entries], dtype=object),
            [second for _, second, _ in entries],
            means[:, 0],
            means[:, 1],
            shares.value,
            shares.low,
            shares.high,
            shares.method,
            over(means[:, 2], means[:, 0]),
        ]
        return pd.DataFrame(dict(zip(columns, values, strict=True)))

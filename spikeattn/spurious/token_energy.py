"""Energy of the attended blocks by token, layer and part: what a rule's spurious shares are multiplied with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.stats.intervals import Floats

Cell = tuple[int, str]  # layer and part
Head = tuple[int, int]  # layer and head


@dataclass(eq=False)
class TokenEnergy:
    """Sums of mJ over the synapses and products of a layer and part.

    Attributes:
        layers: numbers of the layers, the second axis of the shares.
        whole: of what belongs to no head, [image, token].
        split: of what belongs to heads, [image, head, token].
    """

    layers: tuple[int, ...]
    whole: dict[Cell, Floats] = field(default_factory=dict)
    split: dict[Cell, Floats] = field(default_factory=dict)

    def add(self, cell: Cell, mj: Floats) -> None:
        """Enter energies [image, head, token] of one synapse or product; of one head where it has none."""
        if mj.shape[1] == 1:
            self.whole[cell] = self.whole.get(cell, 0) + mj[:, 0]
        else:
            self.split[cell] = self.split.get(cell, 0) + mj

    @property
    def cells(self) -> list[Cell]:
        """Layers and parts, in the order of the layers."""
        known = dict.fromkeys([*self.whole, *self.split])
        return sorted(known, key=lambda cell: self.layers.index(cell[0]))

    @property
    def heads(self) -> list[Head]:
        """Layers and heads; none where the attention was assessed as a whole."""
        sizes = {layer: mj.shape[1] for (layer, _), mj in self.split.items()}
        return [(layer, head) for layer in self.layers for head in range(sizes.get(layer, 0))]

    @property
    def spent(self) -> Floats:
        """mJ of all cells together, [image]."""
        total: Floats = sum(mj.reshape(len(mj), -1).sum(axis=1) for mj in (*self.whole.values(), *self.split.values()))
        return total

    def of_cells(self, shares: Floats, rows: Any = slice(None)) -> Floats:
        """mJ [image, cell] at shares [image, layer, head, token]; what has no head goes by the smallest of its heads.

        Args:
            rows: of the images that the shares are of.
        """
        return np.stack([self._of(cell, shares, rows) for cell in self.cells], axis=1)

    def of_heads(self, shares: Floats, rows: Any = slice(None)) -> Floats:
        """mJ [image, head] at shares [image, layer, head, token], in the order of `heads`."""
        sums = [
            sum(
                np.einsum("it,it->i", mj[rows][:, head], shares[:, self.layers.index(layer), head])
                for (of, _), mj in self.split.items()
                if of == layer
            )
            for layer, head in self.heads
        ]
        return np.stack(sums, axis=1) if sums else np.zeros((len(shares), 0))

    def _of(self, cell: Cell, shares: Floats, rows: Any) -> NDArray[np.float64]:
        at = shares[:, self.layers.index(cell[0])]  # [image, head, token]
        total = np.zeros(len(shares))
        if cell in self.whole:
            total += np.einsum("it,it->i", self.whole[cell][rows], at.min(axis=1))
        if cell in self.split:
            total += np.einsum("iht,iht->i", self.split[cell][rows], at)
        return total


def over(part: Floats, whole: Floats | float) -> Floats:
    """part / whole, NaN over 0."""
    whole = np.broadcast_to(whole, np.shape(part))
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)

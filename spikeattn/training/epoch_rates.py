"""What an epoch of passes came to: rates, dead and saturated neurons, operations and energy, from sums alone.

Means over images are those of `sa.profile` on the same images but for rounding; sums have no intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import CountedActivity
from spikeattn.energy.amounts import COLUMNS, OPS, amounts_by
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import price
from spikeattn.errors import SpikeattnError
from spikeattn.runs.assembly import settled
from spikeattn.runs.firing_rates import mean_rates, rates
from spikeattn.storage.columns import Key
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part
from spikeattn.training.sum_layout import Layer, Layout

_LARGEST = 1 << 53  # float64 holds every whole number below
_LIMITS = ["ci_low", "ci_high", "interval"]  # which sums do not have


@dataclass(frozen=True, eq=False)
class Sums:
    """The states of a metric on the host; `sum_layout.Layout` says what their entries are."""

    images: int
    passes: int
    counts: NDArray[np.float64]
    flags: NDArray[np.int64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    places: NDArray[np.int64]


class MeanCounts:
    """A count table of one row, the mean over the images of an epoch; see `energy.activity.CountTable`."""

    n_images = 1

    def __init__(self, ledger: Ledger, columns: dict[Key, NDArray[Any]]) -> None:
        self.ledger, self._columns, self.time_steps = ledger, columns, ledger.time_steps

    def column(self, measure: str, name: str) -> NDArray[Any]:
        """[1, T], or [1, 1] of what has no split over time steps."""
        key = (measure, name)
        if key not in self._columns:  # 0/1 tensors have one number for both
            key = ({"abs": "nnz", "fan_abs": "fan_nnz", "pairs_abs": "pairs"}.get(measure, measure), name)
        if key not in self._columns:
            raise SpikeattnError(f"{measure!r} of {name!r} was not counted in these passes")
        return self._columns[key]

    def fan(self, synapse: str, by: str = "abs") -> NDArray[Any]:
        """Additions [1, T] at the weights of a synapse."""
        entry = self.ledger.synapse(synapse)
        if entry.fan_out is None:
            return self.column(f"fan_{by}", synapse)
        return self.column(by, entry.input) * entry.fan_out


@dataclass(frozen=True, eq=False)
class EpochRates:
    """Everything that the passes of an epoch have shown; what `FiringRate.epoch` gives.

    Attributes:
        ledger: what was counted, with warnings.
        layout, sums: what it rests on.
        costs, convention: of `scalars`.
    """

    ledger: Ledger
    layout: Layout
    sums: Sums
    costs: str | Path | CostTable = DEFAULT_COSTS
    convention: str | Convention = DEFAULT_CONVENTION

    @classmethod
    def of(cls, layout: Layout, sums: Sums, ledger: Ledger, costs: Any, convention: Any) -> EpochRates:
        """The result with the kinds of all tensors settled by what the epoch has shown.

        Raises:
            SpikeattnError: counts that float64 cannot hold; see `runs.assembly.settled`.
        """
        if sums.counts.size and sums.counts.max() >= _LARGEST:
            raise SpikeattnError(
                "a count of this epoch is 2**53 or more, beyond which whole numbers are not exact here; call reset() "
                "more often"
            )
        seen, flags = 0, {}
        for name, size in layout.flags:
            flags[name] = tuple(bool(n) for n in sums.flags[seen : seen + size])
            seen += size
        extremes = {n: (float(a), float(b)) for n, a, b in zip(layout.extremes, sums.lowest, sums.highest, strict=True)}
        return cls(settled(ledger, [Part((), flags, extremes=extremes)]), layout, sums, costs, convention)

    @property
    def n_images(self) -> int:
        """Images counted, on all ranks."""
        return self.sums.images

    @property
    def time_steps(self) -> int:
        """T."""
        return self.ledger.time_steps

    @property
    def warnings(self) -> tuple[Note, ...]:
        """What a reader must know, one sentence each."""
        return tuple(map(Note.read, self.ledger.warnings))

    @cached_property
    def counts(self) -> MeanCounts:
        """Means over the images."""
        columns, seen = {}, 0
        for key, size in self.layout.columns:
            columns[key] = self.sums.counts[None, seen : seen + size] / self.n_images
            seen += size
        return MeanCounts(self.ledger, columns)

    @cached_property
    def _activity(self) -> CountedActivity:
        return CountedActivity(self.ledger, self.counts)

    # ---------------------------------------------------------------- tables
    def rates(self) -> pd.DataFrame:
        """Firing rate of every tensor at every time step: the columns of `Profile.rates`, without an interval."""
        table = pd.DataFrame(rates(self.ledger, self.counts)).drop(columns=_LIMITS)
        table.attrs = {"time_steps": self.time_steps}
        return table.assign(n_images=self.n_images)

    def layers(self) -> pd.DataFrame:
        """Dead and saturated neurons, one row per spiking layer.

        A neuron is dead where it has fired on no image and at no time step, and saturated where it has fired on every
        image at every time step; a channel is where all of its neurons are.

        Returns:
            Columns tensor, part, block, channels, dead_channels, saturated_channels, neurons, dead_neurons,
            saturated_neurons, n_images. The counts are missing (NA) where the channels of a layer are not known, and
            where its neurons are too many to be counted one by one.
        """
        rows = []
        for layer in self.layout.layers:
            tensor = self.ledger.tensor(layer.name)
            row: dict[str, Any] = {"tensor": layer.name, "part": tensor.part, "block": tensor.block}
            row |= {"channels": layer.channels or None, "neurons": layer.neurons}
            for what in ("channels", "neurons"):
                found = self._fired(layer, what)
                if found is not None:
                    fired, most = found
                    row |= {f"dead_{what}": int((fired == 0).sum()), f"saturated_{what}": int((fired == most).sum())}
            rows.append(row)
        counted = [f"{state}{what}" for what in ("channels", "neurons") for state in ("", "dead_", "saturated_")]
        table = pd.DataFrame(rows, columns=["tensor", "part", "block", *counted])
        return table.astype({column: "Int64" for column in ("block", *counted)}).assign(n_images=self.n_images)

    def channels(self) -> pd.DataFrame:
        """Every channel of every spiking layer: columns tensor, channel, nonzero_rate, dead, saturated."""
        frames = []
        for layer in self.layout.layers:
            found = self._fired(layer, "channels")
            if found is not None:
                fired, most = found
                columns = {"tensor": layer.name, "channel": np.arange(layer.channels), "nonzero_rate": fired / most}
                frames.append(pd.DataFrame(columns | {"dead": fired == 0, "saturated": fired == most}))
        if not frames:
            return pd.DataFrame(columns=["tensor", "channel", "nonzero_rate", "dead", "saturated"])
        return pd.concat(frames, ignore_index=True)

    def _fired(self, layer: Layer, what: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """How often each channel, or each neuron, has fired and could have; None where that was not counted."""
        own, asked = self.sums.places[layer.start : layer.start + layer.size], self.n_images * layer.positions
        if what == "neurons":
            return (own, np.full(layer.neurons, asked)) if layer.single else None
        if layer.channel is None:
            return None
        channel = layer.channel.numpy()
        neurons = np.bincount(channel, minlength=layer.channels)
        if layer.single:
            summed = np.zeros(layer.channels, np.int64)
            np.add.at(summed, channel, own)
            own = summed
        return own, neurons * asked

    def operations(self) -> pd.DataFrame:
        """Operations per image of every layer and product, under the convention: synapse, part, block, sops, macs,
        acs, mask_ops."""
        amounts = amounts_by(lambda t: (t.name, t.part, t.block), self._activity, get_convention(self.convention))
        named = [dict(zip(("synapse", "part", "block"), key, strict=True)) for key in amounts.keys]
        found = [
            row | {COLUMNS[op]: float(n) for op, n in zip(OPS, each, strict=True)}
            for row, each in zip(named, amounts.per_image[0], strict=True)
        ]
        columns = ["synapse", "part", "block", "sops", "macs", "acs", "mask_ops"]
        return pd.DataFrame(found, columns=columns).astype({"block": "Int64"})

    def energy(
        self, costs: str | Path | CostTable | None = None, convention: str | Convention | None = None
    ) -> pd.DataFrame:
        """Energy per image of every part and in total, in mJ: the columns of `Profile.energy`, without an interval.

        Args:
            costs, convention: default those of the metric.
        """
        table = price(
            self._activity,
            get_costs(self.costs if costs is None else costs),
            get_convention(self.convention if convention is None else convention),
        )
        plain = pd.DataFrame(table).drop(columns=_LIMITS)
        notes = [note for note in table.notes if note.code not in ("single-image", "few-spiking-images")]
        plain.attrs = {
            "costs": table.costs.name, "convention": table.convention.name, "n_images": self.n_images, "notes": notes
        }  # fmt: skip
        return plain

    # ---------------------------------------------------------------- numbers of a log
    def scalars(self, per_layer: bool = False) -> dict[str, float]:
        """The numbers that a log of a training shows, by name.

        mean_rate (non-zero outputs of all neurons / neurons x time steps), sops_per_image, macs_per_image, energy_mj
        (per image), n_images; dead_channel_share and saturated_channel_share, of the channels of all layers that are
        told apart; dead_neuron_share and saturated_neuron_share, where all neurons are counted one by one.

        Args:
            per_layer: also "mean_rate/LAYER", "dead_channel_share/LAYER" ... of every spiking layer and
                "sops_per_image/SYNAPSE" of every layer with weights and product.
        """
        total = self.energy().iloc[-1]
        found = {
            "mean_rate": float(mean_rates(self.ledger, self.counts).mean()),
            "sops_per_image": float(total["sops"]),
            "macs_per_image": float(total["macs"]),
            "energy_mj": float(total["energy_mj"]),
            "n_images": float(self.n_images),
        }
        table = self.layers()
        found |= dict(_shares(table))
        if per_layer:
            for number, layer in enumerate(self.layout.layers):
                rate = self.counts.column("nnz", layer.name).mean() / self.ledger.tensor(layer.name).elements
                found[f"mean_rate/{layer.name}"] = float(rate)
                for name, share in _shares(table.iloc[[number]]):
                    found[f"{name}/{layer.name}"] = share
            counted = {s.name for s in self.ledger.synapses} | {p.name for p in self.ledger.products}
            for row in self.operations().to_dict("records"):
                if row["synapse"] in counted:
                    found[f"sops_per_image/{row['synapse']}"] = float(row["sops"])
        return found


def _shares(table: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Shares of the channels, and of the neurons, of these layers."""
    for what in ("channels", "neurons"):
        rows = table[table[f"dead_{what}"].notna()]
        if rows.empty or (what == "neurons" and len(rows) < len(table)):
            continue  # too many to be counted one by one: their share is not known
        for state in ("dead", "saturated"):
            yield f"{state}_{what[:-1]}_share", float(rows[f"{state}_{what}"].sum() / rows[what].sum())

"""Energy from a published table of firing rates (`rate_tables`): no images, no forward pass, no interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Constant, Count, Source
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import EnergyTable, price
from spikeattn.energy.rate_tables import read_rates
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import nn


@dataclass
class PublishedActivity:
    """Rates of a published table as the activity of one nameless average image.

    A tensor that the table lacks gets the rate of what it comes from, where that is a bound: a max-pooled tensor
    that of the neurons before the pool (never higher), a mask the smaller rate of its two operands (never lower). Every
    such stand-in is listed in `stand_ins`, by its reason.
    """

    ledger: Ledger
    rates: Mapping[str, Floats]
    stand_ins: dict[str, list[str]] = field(default_factory=dict)
    n_images: int = 1

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, [1]."""
        if isinstance(source, Constant):
            return np.array([float(source.times)])
        if isinstance(source, Count):
            raise SpikeattnError(
                f"a table of rates does not hold the exact count ({source.measure}) of {source.name!r}; price it with "
                "convention 'sdt-paper' or 'input-rate', or profile the model for 'exact'"
            )
        steps = slice(1 if source.once else None)
        rates = [self.rate(name)[steps].sum() for name in source.tensors]
        return np.array([min(rates) if source.least else sum(rates)])

    def rate(self, name: str) -> Floats:
        """Rate of a tensor at each time step, [T]."""
        if name in self.rates:
            return self.rates[name]
        tensor = self.ledger.tensor(name)
        if tensor.maker == "pool" and len(tensor.sources) == 1:
            self._note("the rate before the pool", name)
            return self.rate(tensor.sources[0])
        if tensor.maker == "mask" and tensor.sources:
            self._note("the smaller rate of the two masked tensors, an upper bound", name)
            return np.min([self.rate(operand) for operand in tensor.sources], axis=0)
        label = f" ({tensor.role}, block {tensor.block})" if tensor.role else ""
        raise SpikeattnError(f"the rate table has no row for tensor {name!r}{label}, which the convention needs")

    def _note(self, reason: str, name: str) -> None:
        names = self.stand_ins.setdefault(reason, [])
        if name not in names:
            names.append(name)


def energy_from_rates(
    rates: pd.DataFrame | str | Path,
    model: Ledger | nn.Module | str,
    convention: str | Convention = "sdt-paper",
    costs: str | Path | CostTable = DEFAULT_COSTS,
    first_conv: str | None = None,
) -> EnergyTable:
    """Energy per image in mJ from a table of firing rates in the layout of Table S1.

    Args:
        rates: the table, the path of its csv file, or the name of one in the package (`list_rate_tables`); T1..Tn as
            many as the model has time steps, or `average` alone.
        model: a ledger, a model, or the name of an entry point ("sdt_8_512").
        convention, costs: as of `energy`.
        first_conv: "once" or "every-step" in place of the convention's own choice.

    Returns:
        As `energy`, but with limits NaN, since a published table has no images to resample.

    Raises:
        SpikeattnError: a row that is no tensor of the model, a tensor without a row, a rate outside [0, 1] or NaN.
    """
    switches = {} if first_conv is None else {"first_conv": first_conv}
    prices, rules = get_costs(costs), get_convention(convention, **switches)
    activity = activity_from_rates(rates, model)
    table = price(activity, prices, rules)
    table.notes = [note for note in table.notes if note.code != "single-image"]
    table.notes += [
        Note.plain("stand-in", f"not in the rate table, {why} used: {', '.join(names)}")
        for why, names in activity.stand_ins.items()
    ]
    table.notes.append(Note("rates-only", "a table of rates has no images, so no interval"))
    table.provenance |= {"n_images": None, "replicates": None, "seed": None}
    return table


def activity_from_rates(rates: pd.DataFrame | str | Path, model: Ledger | nn.Module | str) -> PublishedActivity:
    """A table of rates in place of a profile, for `waterfall`, `sweep` and `compare`; arguments as of
    `energy_from_rates`."""
    ledger = ledger_for(model)
    return PublishedActivity(ledger, read_rates(rates, ledger))


@lru_cache(maxsize=8)
def entry_ledger(name: str) -> Ledger:
    """The ledger of an entry point ("sdt_8_512") with its published arguments, from its geometry.

    A still image is the same at every step and the ledger counts per step, so one step is traced.
    """
    from spikeattn.models import create_model
    from spikeattn.tracing.examine import ledger_of  # a ledger needs no torch; only a model does

    model = create_model(name)
    steps = model.time_steps
    if model.in_chans == 2:  # event frames differ from step to step
        return ledger_of(model)
    model.time_steps = 1
    return replace(ledger_of(model), time_steps=steps)


def ledger_for(model: Ledger | nn.Module | str) -> Ledger:
    """The ledger of a model, of an entry point by its name, or itself."""
    if isinstance(model, Ledger):
        return model
    if isinstance(model, str):
        return entry_ledger(model)
    if not hasattr(model, "forward"):
        raise SpikeattnError(f"model is a {type(model).__name__}; give a model, the name of one, or a Ledger")
    from spikeattn.tracing.examine import ledger_of

    return _own_ledger(model) if "code" in getattr(model, "provenance", {}) else ledger_of(model)


def _own_ledger(model: nn.Module) -> Ledger:
    """The ledger of a network of the user's own, traced on seeded random input of the size that it states."""
    import torch

    from spikeattn.data.dataset import ModelInput
    from spikeattn.provenance import describe, device_of
    from spikeattn.tracing.examine import plan

    wants = ModelInput.of(model)
    if wants.size is None:
        raise SpikeattnError(
            f"{describe(model)['name']} does not state its input size, by img_size or default_cfg or an argument of "
            "its factory; profile it on real input instead"
        )
    generator = torch.Generator().manual_seed(0)
    shape = (2, wants.channels or 3, *wants.size)
    images = torch.randn(shape, generator=generator)
    if shape[1] == 2:  # event counts, one frame per time step
        steps = wants.time_steps or 1
        images = torch.rand((2, steps, *shape[1:]), generator=generator).mul(1.3).floor()
    return plan(model, images.to(device_of(model))).ledger

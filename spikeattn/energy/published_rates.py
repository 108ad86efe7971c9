"""Energy from a published table of firing rates: no images, no forward pass, no interval.

The layout is that of Table S1 of the Spike-driven Transformer paper (arXiv 2307.01694): columns part ("SPS", "Block1"
... or "Head"), module, tensor (the paper's name), T1..Tn and average; every rate is a share in [0, 1]. Table S1 itself
comes with the package, as `table_s1_sdt_8_512`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary import arguments
from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Constant, Count, Source
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import EnergyTable, price
from spikeattn.energy.rules import roles_of
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.stats.intervals import Floats
from spikeattn.storage import csv_text
from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import nn

_DIGITS = 6  # of a block or a time step; no network has a million of either
_STEP = rf"T\d{{1,{_DIGITS}}}"


@dataclass
class PublishedActivity:
    """Rates of a published table as the activity of one nameless average image.

    A tensor that the table lacks gets the rate of what it was made from, where that is a bound: a max-pooled tensor
    that of the neurons before the pool (never higher), a mask the smaller rate of its two operands (never lower). Every
    such stand-in is kept in `stand_ins`, by its reason.
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
    ledger = _ledger(model)
    return PublishedActivity(ledger, read_rates(rates, ledger))


def read_rates(rates: pd.DataFrame | str | Path, ledger: Ledger) -> dict[str, Floats]:
    """Rates [T] by tensor name from a table in the layout of Table S1, checked row by row against the ledger."""
    where, frame = _frame(rates)
    steps = sorted((column for column in frame.columns if re.fullmatch(_STEP, str(column))), key=lambda c: int(c[1:]))
    T = ledger.time_steps
    if steps and steps != [f"T{t}" for t in range(1, T + 1)]:
        raise SpikeattnError(f"{where} has time steps {', '.join(steps)}, the model has {T} (T1..T{T})")
    roles = roles_of(ledger)
    found: dict[str, Floats] = {}
    unfit = []
    for row in frame.to_dict("records"):
        if row["part"] == "Input":  # the images, which our own export of rates lists too
            continue
        label = f"{row['part']} {row['tensor']}"
        tensor = roles.get((_block(row["part"]), str(row["tensor"])))
        if tensor is None:
            unfit.append(label)
            continue
        if tensor.name in found:
            raise SpikeattnError(f"{where}: the row {label!r} stands twice")
        values = pd.to_numeric(pd.Series([row[step] for step in steps or ["average"] * T]), errors="coerce").to_numpy()
        if not ((values >= 0) & (values <= 1)).all():
            given = ", ".join(str(row[step]) for step in steps or ["average"])
            raise SpikeattnError(f"{where}: the rates of {label!r} are {given}; a rate is a number from 0 to 1")
        found[tensor.name] = values.astype(np.float64)
    if unfit:
        known = ", ".join(f"{_part(block)} {role}" for block, role in list(roles)[:6])
        raise SpikeattnError(
            f"{where}: {len(unfit)} of {len(frame)} rows are no tensor of this model, the first is {unfit[0]!r}; "
            + (f"its tensors are {known}, ..." if roles else "the tensors of this model carry no paper names")
        )
    return found


def list_rate_tables() -> tuple[str, ...]:
    """Names of the published rate tables that come with the package."""
    return tuple(sorted(name for name in _csv_files() if name.startswith("table_")))


def packaged_table(name: str) -> pd.DataFrame:
    """A csv file of the package as text columns, digits as printed; `name` is without its suffix."""
    if name not in _csv_files():
        raise unknown("published table", name, _csv_files())
    with (resources.files("spikeattn.energy") / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return csv_text.read(file, dtype=str, keep_default_na=False)


def _csv_files() -> list[str]:
    folder = resources.files("spikeattn.energy") / "tables"
    return [file.name.removesuffix(".csv") for file in folder.iterdir() if file.name.endswith(".csv")]


def _frame(rates: pd.DataFrame | str | Path) -> tuple[str, pd.DataFrame]:
    where = "the rate table"
    if not isinstance(rates, pd.DataFrame):
        rates = arguments.path("rates", rates) if not isinstance(rates, str) else rates
        where = f"rate table {rates}"
        if not Path(rates).is_file() and str(rates).removesuffix(".csv") in list_rate_tables():
            return where, packaged_table(str(rates).removesuffix(".csv"))
        if not Path(rates).is_file():
            raise SpikeattnError(
                f"{where}: no such file; expected a csv with columns part, tensor, T1..Tn, average, or the name of a "
                f"table of the package: {', '.join(list_rate_tables())}"
            )
        try:
            with open(rates, "rb") as file:  # not a path: pandas takes those such as http:x for addresses
                content = file.read()
            names = csv_text.read(io.BytesIO(content), header=None, nrows=1, dtype=str).iloc[0].tolist()
            rates = csv_text.read(io.BytesIO(content))  # where a column stands twice, pandas renames the second
        except OSError as error:
            raise SpikeattnError(f"{where}: cannot be read ({error.strerror})") from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise SpikeattnError(f"{where}: not a csv file in UTF-8 ({' '.join(str(error).split())})") from error
        if twice := [name for name in names if names.count(name) > 1]:
            raise SpikeattnError(f"{where} has the column {twice[0]!r} twice; leave one")
    missing = [column for column in ("part", "tensor") if column not in rates.columns]
    if not missing and "average" not in rates.columns and "T1" not in rates.columns:
        missing = ["T1..Tn or average"]
    if missing:
        raise SpikeattnError(f"{where} lacks {', '.join(missing)}; it has {', '.join(map(str, rates.columns))}")
    if rates.empty:
        raise SpikeattnError(f"{where} has no rows")
    return where, rates


def _block(part: Any) -> int | None:
    match = re.fullmatch(r"[Bb]lock\s*(\d+)", str(part))
    if match is None:
        return None
    return int(match.group(1)) - 1 if len(match.group(1)) <= _DIGITS else -1  # no model has that one


def _part(block: int | None) -> str:
    return "SPS/Head" if block is None else f"Block{block + 1}"


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


def _ledger(model: Ledger | nn.Module | str) -> Ledger:
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
    from spikeattn.provenance import device_of
    from spikeattn.tracing.examine import plan

    wants = ModelInput.of(model)
    if wants.size is None:
        raise SpikeattnError(
            f"{model.provenance['name']} does not state its input size, by img_size or default_cfg or an argument of "  # type: ignore[index]
            "its factory; profile it on real input instead"
        )
    generator = torch.Generator().manual_seed(0)
    shape = (2, wants.channels or 3, *wants.size)
    images = torch.randn(shape, generator=generator)
    if shape[1] == 2:  # event counts, one frame per time step
        steps = wants.time_steps or 1
        images = torch.rand((2, steps, *shape[1:]), generator=generator).mul(1.3).floor()
    return plan(model, images.to(device_of(model))).ledger

"""What the page computes beyond the run's own tables: the ANN beside it, waterfalls, energy models, the sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from spikeattn.energy.by_model import ModelTable, by_model
from spikeattn.energy.comparison import compare
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.convention_switches import waterfall
from spikeattn.energy.conventions import DEFAULT, Convention, list_conventions
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.energy.quantised_ann import QUANTISED
from spikeattn.energy.scope_line import SCOPES, ScopeLine, missing_line
from spikeattn.energy.what_if import COSTS, sweep
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

Made = TypeVar("Made")
NO_MAC = "the cost table {} has no price for a multiply-accumulate, so it cannot price an ANN"


@dataclass(frozen=True, eq=False)
class Analyses:
    """The analyses of one run; what cannot be computed is None, or left out, and `missing` says why.

    Attributes:
        comparison: the run beside its ANN twin.
        waterfalls: from the convention `exact` to every other one, by name.
        sweep: energy against time steps, under the report's costs and the default ones.
        missing: sentences, by "comparison", "models", "sweep" or the name of a convention.
        models: the run under every energy model.
    """

    comparison: Comparison | None
    waterfalls: dict[str, pd.DataFrame]
    sweep: pd.DataFrame | None
    missing: dict[str, str]
    models: ModelTable | None = None

    def lines(self, name: str) -> tuple[ScopeLine, ...]:
        """Both lines of the comparison; without one each says why it has no numbers.

        Args:
            name: of the network.
        """
        if self.comparison is not None:
            return self.comparison.lines
        why = self.missing.get("comparison", "nothing was compared")
        return tuple(missing_line(scope, name, "", why, "") for scope in SCOPES)

    def tables(self) -> dict[str, pd.DataFrame]:
        """What there is, by the name of its csv."""
        found = {}
        if self.comparison is not None:
            found["comparison"] = self.comparison.parts
        if self.waterfalls:
            every = [frame.assign(convention=name) for name, frame in self.waterfalls.items()]
            found["waterfall"] = pd.concat(every, ignore_index=True)
        if self.models is not None:
            found["models"] = self.models
        if self.sweep is not None:
            found["sweep"] = self.sweep
        return found


def analyse(profile: Profile, costs: CostTable, convention: Convention, twin: DenseTwin | None = None) -> Analyses:
    """All analyses of a run under the costs and the convention of its report, beside a twin or that of `compare`."""
    missing: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], Made]) -> Made | None:
        try:
            return make()
        except SpikeattnError as error:  # an analysis that this network or table has no formula for is said, not fatal
            missing[name] = str(error)
            return None

    comparison = swept = None
    if costs.has("mac"):
        beside = list({table.name: table for table in (costs, get_costs(QUANTISED))}.values())
        comparison = attempt("comparison", lambda: compare(profile, twin, beside, convention))
        tables = list({table.name: table for table in (costs, *map(get_costs, COSTS))}.values())
        swept = attempt("sweep", lambda: sweep(profile, tables, (1.0,), convention))
    else:
        missing |= dict.fromkeys(("comparison", "sweep"), NO_MAC.format(costs.name))
    models = attempt("models", lambda: by_model(profile, costs=costs, first_conv=convention.first_conv))
    ends = list(dict.fromkeys((*list_conventions(), convention.name)))
    chosen = {name: convention if name == convention.name else name for name in ends if name != DEFAULT}
    falls = {name: attempt(name, partial(waterfall, profile, end, costs)) for name, end in chosen.items()}
    drawn = {name: fall for name, fall in falls.items() if fall is not None}
    return Analyses(comparison, drawn, swept, missing, models)


def lines_of(profile: Profile) -> tuple[ScopeLine, ...]:
    """Both lines of a run beside its ANN under the default prices; without an ANN each says why it has no numbers."""
    name = str(profile.ledger.model.get("name") or "model")
    try:
        return compare(profile, costs=DEFAULT_COSTS).lines
    except SpikeattnError as why:  # as of a model.json that builds no twin
        return Analyses(None, {}, None, {"comparison": str(why)}).lines(name)

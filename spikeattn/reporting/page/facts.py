"""What the page says: the numbers of its first screen, its warnings, its limits and where everything comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    amount,
    known,
    percent,
    rate,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, WEIGHTED_RATE, WEIGHTED_RATE_IS
from spikeattn.energy.accumulators import accumulators
from spikeattn.energy.estimate import EnergyTable
from spikeattn.reporting.figures.drawing import colour_of
from spikeattn.reporting.page.bars import beside_ann, steps
from spikeattn.reporting.page.cards import cards
from spikeattn.reporting.page.cautions import cautions, remarks
from spikeattn.reporting.page.contents import leads_to
from spikeattn.reporting.page.gallery import Gallery
from spikeattn.reporting.page.glossary import listed
from spikeattn.reporting.page.stages import about_attention
from spikeattn.reporting.tables.analyses import Analyses
from spikeattn.reporting.tables.run_tables import PAPERS_OWN, data_name
from spikeattn.reporting.tables.sheets import sheet_of

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

FIGURES = {
    "firing_rates": "Heat map of the firing rate of every tensor at every time step; the numbers are in the table of "
    "firing rates.",
    "energy_by_part": "Bars of the energy per image of every part with its interval; the numbers are in the table of "
    "energies.",
    "sweep": "Energy beside the ANN against time steps, break-even rate against time steps, and energy against the "
    "rate weighted by operations, with the crossings; the numbers are in the table beside it.",
    "models": "Energy per image of the spiking network and of the ANN beside it under every energy model, on a "
    "logarithmic axis; the numbers are in the table beside it.",
    "over_time": "Accuracy and mean firing rate if the network had stopped after each time step; the numbers are in "
    "the table beside it.",
    "images": "Histograms of energy and of synaptic operations per image, and where images have labels a row of images "
    "for every class; the numbers are in images.csv.",
    "accuracy_energy": "Accuracy against energy per image, one point per number of time steps; the numbers are in the "
    "table below.",
}
TABLES = {
    "operations": "Operations per image",
    "time": "Accuracy and mean firing rate if stopped after t steps",
    "comparison": "Energy per image beside the ANN, part by part",
    "waterfall": "From the convention exact to others, one switch at a time,",
    "models": "Energy per image under every energy model",
    "sweep": "Energy against the number of time steps",
    "prices": "Prices of the cost table for the energy",
    "switches": "Switches of the convention for the energy",
    "structure": "Part, block and role of every layer",
    "attention": "Attention that is more than noise, per image,",
}
NAMES = (
    "V_S is q_lif in the code, Q_S and K_S are k_lif and v_lif. The paper masks V_S with what Q_S and K_S have in "
    "common; its published code masks q with k and v. So the tensor that is masked is V_S in the paper and q in the "
    "code, and the table prints both names."
)
_WEIGHTS = {True: "trained", False: "UNTRAINED", None: "not stated"}


def page(
    profile: Profile,
    summary: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    analyses: Analyses,
    rates: pd.DataFrame,
    gallery: Gallery | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Everything the template prints except figures and downloads.

    Args:
        summary: `profile.summary()` under the report's costs and convention.
        tables: "rates" (of `rate_table`), "energy", "operations", "time", and those of the analyses.
        rates: of `profile.rates()`.
        command: that writes this report.
    """
    energy = tables["energy"]
    assert isinstance(energy, EnergyTable)
    return {
        "title": str(summary["model"] or "model"),
        "untrained": profile.untrained,
        "facts": facts_of(profile),
        "cards": cards(profile, summary, energy),
        "lines": [str(line) for line in analyses.lines(str(summary["model"] or "model"))],
        "warnings": [(name, text, leads_to(name)) for name, text in cautions(profile, energy, rates)],
        "remarks": remarks(analyses.comparison),
        "glossary": listed(),
        "footnote": NAMES if tables["rates"]["tensor"].eq(PAPERS_OWN).any() else "",
        "strip": strip(energy),
        "sheets": {name: sheet_of(table) for name, table in tables.items()},
        "limits": [*_limits(profile, summary, energy), _two_rates(summary, analyses)],
        "uncounted": profile.ledger.uncounted,
        "notes": list(energy.notes),
        "costs": energy.costs,
        "convention": energy.convention,
        "provenance": _provenance(profile, energy) + _attention(gallery),
        "commands": _commands(profile, gallery, command),
        "missing": analyses.missing,
        "pricings": [] if analyses.comparison is None else beside_ann(analyses.comparison),
        "comparison_notes": () if analyses.comparison is None else analyses.comparison.notes,
        "falls": {name: steps(fall) for name, fall in analyses.waterfalls.items()},
        "chosen_fall": _chosen(analyses, energy),
        "sweep_notes": [] if analyses.sweep is None else analyses.sweep.attrs["notes"],
        "model_notes": () if analyses.models is None else analyses.models.notes,
        "model_records": () if analyses.models is None else analyses.models.records,
        "model_verdicts": () if analyses.models is None else analyses.models.verdicts(),
        "gallery": gallery,
        "structure_lead": _structure(profile),
        "about_attention": about_attention(profile.structure, _not_inferred(profile)),
    }


def weights(profile: Profile) -> str:
    """ "trained", "UNTRAINED", or "not stated" where the model does not say."""
    return _WEIGHTS.get(profile.ledger.model.get("trained"), "not stated")


def finite(value: Any) -> Any:
    """The record with None in place of NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def facts_of(profile: Profile) -> list[tuple[str, str]]:
    """What was run: name and value."""
    model, settings = profile.ledger.model, profile.provenance.get("settings") or {}
    shape = settings.get("input")
    facts = [
        ("Data", data_name(profile) or "not stated"),
        ("Images", f"{profile.n_images:,}"),
        ("Time steps", f"T = {profile.time_steps}"),
        ("Parameters", amount(model.get("parameters"))),
        ("Input", " × ".join(map(str, shape)) if shape else MISSING),
        ("Weights", weights(profile)),
    ]
    return facts


def _not_inferred(profile: Profile) -> str:
    """Why a run holds no structure; "" where it holds one."""
    if profile.ledger.structure:
        return ""
    said = (warning.text for warning in profile.warnings if warning.code == "structure")
    return next(said, "the run is of a version that inferred no structure; profile again")


def _structure(profile: Profile) -> str:
    """In a sentence, how what the layers are is known."""
    structure = profile.structure
    synapses = structure.entries["synapses"]
    unknown = sum(e.known == "unknown" for e in synapses)
    family = f" It is recognised as a {structure.family}." if structure.family else ""
    rest = f" What {unknown} of them are nobody knows; a names file says it." if unknown else ""
    return (
        f"Stem, blocks, q, k and v, read from the way of the data through {len(synapses)} layers, not from their names."
        f"{family}{rest}"
    )


def strip(energy: EnergyTable) -> list[dict[str, Any]]:
    """Shares of the total, part by part, for the bar of the first screen."""
    found = []
    for i, row in enumerate(energy[energy["part"] != "total"].to_dict("records")):
        if known(row["share"]):
            part, share = row["part"], float(row["share"])
            found.append({"part": part, "share": share, "text": percent(share), "colour": colour_of(part, i)})
    return found


def _limits(profile: Profile, summary: dict[str, Any], energy: EnergyTable) -> list[str]:
    """What the numbers are not."""
    limits = [
        "The energies are no measurement of a chip: operations × a price per operation. Memory, data movement and "
        "membrane updates are in the line “memory” at the top alone, control and idle power nowhere; on real hardware "
        "these can dominate.",
        "An interval says how much a mean would move with another sample of images from the same source. It does not "
        "cover another training run, another data set or the cost table.",
        f"The ANN beside it is {summary['ann']}, priced with the same cost table. The ratio compares two counts; it is "
        "not a speed-up, and that ANN has not been trained.",
        "Rates are shares of non-zero elements. A layer's operations depend on the tensor it receives, after pooling, "
        "and on the border of the image, so rate × FLOPs is not the number of operations.",
    ]
    costs, T = energy.costs, profile.time_steps
    if costs.has("mac") and costs.has("ac") and costs.price("ac") > 0:
        rate_needed = costs.price("mac") / (costs.price("ac") * T)
        widths = accumulators(costs)
        if widths and all(each.price("mac") >= each.price("ac") * T for each in widths):
            limits.append(
                f"Under these prices a layer of binary spikes costs as much as its ANN counterpart at a rate of "
                f"{rate_needed:.2f} (T = {T}). No rate exceeds 1, so such a layer cannot lose this comparison unless "
                "the ANN skips its zeros."
            )
    if profile.untrained:
        limits.insert(0, "The weights are random. Nothing on this page describes a network that solves a task.")
    return limits


def _two_rates(summary: dict[str, Any], analyses: Analyses) -> str:
    """What the two rates of the network are, with their values, so that neither passes for the other."""
    weighted = ""
    if analyses.sweep is not None and len(analyses.sweep):
        weighted = f" ({rate(float(analyses.sweep['rate'].iloc[summary['time_steps'] - 1]))})"
    return (
        f"Two rates are printed. The {MEAN_RATE} ({rate(summary['mean_rate'])}): {MEAN_RATE_IS}. The {WEIGHTED_RATE}"
        f"{weighted}: {WEIGHTED_RATE_IS}; energies and break-even rates go with this one."
    )


def _provenance(profile: Profile, energy: EnergyTable) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (setting, value): model, data, run, energy."""
    record = profile.provenance
    settings = dict(record.get("settings") or {})
    model = dict(profile.ledger.model) | dict(settings.pop("model", None) or {})
    data = settings.pop("data", None) or {}
    rest = {key: value for key, value in record.items() if key not in ("settings", "command", "inputs")}
    groups = {"Model": model, "Data": data, "Run": settings | rest, "Energy": energy.provenance}
    return [(name, list(_flat(group))) for name, group in groups.items() if group]


def _commands(profile: Profile, gallery: Gallery | None, command: str | None) -> list[str]:
    """What makes run, attention and report again, in this order, each once."""
    found = (profile.provenance.get("command"), gallery.summary.get("command") if gallery else None, command)
    return list(dict.fromkeys(each for each in found if each))


def _attention(gallery: Gallery | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything but the rows per image that the folder of `spikeattn attend` says."""
    if gallery is None:
        return []
    rows = ("images", "files", "agreement", "evaluation")
    record = {key: value for key, value in gallery.summary.items() if key not in rows}
    record["notes"] = (record.pop("energy", None) or {}).get("notes")
    networks = {f"network {i + 1}": network for i, network in enumerate(record.pop("networks"))}
    return [("Attention", list(_flat(record | networks)))]


def _chosen(analyses: Analyses, energy: EnergyTable) -> str:
    """The waterfall that is open at first: to the convention of the report, or to that of the SDT paper."""
    wanted = (energy.convention.name, "sdt-paper", *analyses.waterfalls)
    return next((name for name in wanted if name in analyses.waterfalls), "")


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        elif value is None or value == [] or value == {}:
            yield name, MISSING
        else:
            plain = isinstance(value, str | int | float)
            yield name, str(value) if plain else json.dumps(finite(value), ensure_ascii=False, default=str)

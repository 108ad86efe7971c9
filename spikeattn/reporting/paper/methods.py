"""The methods paragraph of a paper, from what the run says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikeattn.boundary.number_format import amount
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable
from spikeattn.reporting.paper.own_entry import KEY
from spikeattn.reporting.paper.references import keys_in, keys_of_data
from spikeattn.reporting.paper.sentences import Cite, Code, Piece, Sentence
from spikeattn.reporting.tables.run_tables import INTERVAL_METHODS, data_name
from spikeattn.stats.intervals import STUDENTISED_BELOW

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.runs.result import Profile

NAMED = 3  # of what was skipped or not counted, so many are named and the rest are numbered
NOT_MEASURED = (
    "No joule was measured: data movement, memory, membrane updates, control, leakage currents and idle power are "
    "not in these energies, and on hardware they can dominate."
)


def methods(
    profile: Profile, rates: pd.DataFrame, energy: EnergyTable, comparison: Comparison | None = None
) -> list[Sentence]:
    """What was run, averaged, resampled, counted and priced, and what was left out, one sentence each.

    Args:
        rates: of `profile.rates()`.
        energy: of `profile.energy()`.
        comparison: the run beside its ANN, where the paper prints one.
    """
    found = [_model(profile), *_untrained(profile), _averaged(profile), _tools(profile)]
    found += [_intervals(profile, rates, energy), _prices(energy), _convention(energy), (NOT_MEASURED,)]
    found += _beside(comparison)
    found += [_skipped(profile), _uncounted(profile)]
    found += [(f"Note: {_ended(note)}",) for note in (*_other_warnings(profile), *energy.notes)]
    return found


def _model(profile: Profile) -> Sentence:
    model, settings = profile.ledger.model, profile.provenance.get("settings") or {}
    parameters = f" ({amount(model['parameters'])} parameters)" if model.get("parameters") else ""
    weights: list[Piece] = [", whose weights are not stated to be trained,"]
    if model.get("trained") is not None:
        weights = [" with random weights"] if profile.untrained else [" with trained weights"]
    record = settings.get("model") or {}
    if record.get("checkpoint"):
        digest = f", SHA-256 {str(record['sha256'])[:12]}" if record.get("sha256") else ""
        weights += [" (", Code(str(record["checkpoint"])), f"{digest})"]
    shape = settings.get("input")
    size = f", input {' × '.join(map(str, shape))}" if shape else ""
    name = Code(str(model.get("name") or "model"))
    cited = Cite(("yao2023",)) if "spike_driven" in str(model.get("class")) else Cite(())
    return ("We ran ", name, cited, parameters, *weights, f" for T = {profile.time_steps} time steps{size}.")


def _untrained(profile: Profile) -> list[Sentence]:
    return [("UNTRAINED: no number here describes a network that solves a task.",)] if profile.untrained else []


def _averaged(profile: Profile) -> Sentence:
    data, n = data_name(profile), profile.n_images
    short = str(((profile.provenance.get("settings") or {}).get("data") or {}).get("name") or "")
    images = f"{n:,} image{'s' if n != 1 else ''}"
    of = f" of {data}" if data else ", whose source the loader did not state"
    return (
        f"Rates were averaged over {images}{of}",
        Cite(tuple(keys_of_data(short))),
        ", every image with the same weight; the rate of a tensor is the share of its non-zero elements",
        Cite(("yao2023",)),
        ".",
    )


def _tools(profile: Profile) -> Sentence:
    settings = profile.provenance.get("settings") or {}

    def version(name: str) -> str:
        value = settings.get(name)
        return f" {value}" if isinstance(value, str) and value != "unknown" else ""

    numbers = f" in {settings['dtype']}" if settings.get("dtype") else ""
    device = settings.get("device_name") or settings.get("device")
    # A record without an entry is of the first edition, which always had SpikingJelly.
    absent = settings.get("spikingjelly", "") is None
    theirs = (f" with SpikingJelly{version('spikingjelly')}", Cite(("fang2023",)))
    neurons = (" with its own neurons",) if absent else theirs
    return (
        f"Spikes and operations were counted by spikeattn{version('spikeattn')}", Cite((KEY,)), *neurons,
        f", timm{version('timm')}", Cite(("wightman2019",)),
        f" and PyTorch{version('torch')}{numbers}", *([f" on {device}"] if device else []), ".",
    )  # fmt: skip


def _intervals(profile: Profile, rates: pd.DataFrame, energy: EnergyTable) -> Sentence:
    means = rates[rates["t"] == "mean"]["interval"]
    used = [method for method in dict.fromkeys([*energy["interval"], *means]) if method in INTERVAL_METHODS]
    if not used:
        reason = "one image has none" if profile.n_images == 1 else "none could be formed"
        return (f"No interval is given: {reason}.",)
    rests = energy.provenance
    bootstrap = f", {rests['replicates']:,} resamples of whole images, joint over tensors, steps and parts"
    resampled = set(used) & {"percentile", "studentised", "two-part"}
    names = ", ".join(INTERVAL_METHODS[method] + _because(method) for method in used)
    return (
        f"Intervals of rates and energies cover {rests['confidence'] * 100:g} % and come from images: {names}"
        f"{bootstrap if resampled else ''}; that of the accuracy is Wilson's. They cover the choice of images, "
        "and neither another training seed nor another data set nor the prices.",
    )


def _because(method: str) -> str:
    if method == "studentised":
        return f" (fewer than {STUDENTISED_BELOW} images)"
    return f" ({STUDENTISED_BELOW} images or more)" if method == "percentile" else ""


def _prices(energy: EnergyTable) -> Sentence:
    costs = energy.costs
    priced = [f"{op.upper()} {costs.entries[op].pj:g} pJ" for op in ("mac", "ac", "sop") if op in costs.entries]
    sources = " ".join([costs.source, *(str(entry.source) for entry in costs.entries.values())])
    return ("Energies price counted operations with ", Code(costs.name), Cite(tuple(keys_in(sources))),
            f" ({', '.join(priced)}).")  # fmt: skip


def _convention(energy: EnergyTable) -> Sentence:
    convention = energy.convention
    cited = Cite(tuple(keys_in(convention.source)))
    said = f" ({convention.source}; evidence: {convention.evidence})."
    return ("Which operations count follows convention ", Code(convention.name), cited, said)


def _beside(comparison: Comparison | None) -> list[Sentence]:
    if comparison is None:
        return []
    notes = [note.text for note in comparison.notes if note.code == "twin"]
    if notes:
        return [(f"The ANN is priced with the same table: {notes[0]}.",)]
    return [("The ANN beside it is ", Code(comparison.against), ", priced with the same table.")]


def _skipped(profile: Profile) -> Sentence:
    skipped = profile.provenance.get("skipped") or []
    if not skipped:
        return ("No image was skipped.",)
    named = [_named(entry) for entry in skipped[:NAMED]]
    counted = "1 image was skipped and is" if len(skipped) == 1 else f"{len(skipped)} images were skipped and are"
    return (f"{counted} in no number: ", *_listed(named, len(skipped)), ".")


def _named(entry: Any) -> list[Piece]:
    return [Code(str(entry.get("id"))), f" ({entry.get('reason')})"] if isinstance(entry, dict) else [Code(str(entry))]


def _uncounted(profile: Profile) -> Sentence:
    uncounted = profile.ledger.uncounted
    if not uncounted:
        return ("Every operation that was found is counted.",)
    named: list[list[Piece]] = [[Code(f"{entry.name} ({entry.op})")] for entry in uncounted[:NAMED]]
    found = (
        "1 operation was found and not" if len(uncounted) == 1 else f"{len(uncounted)} operations were found and not"
    )
    said = f"{found} counted, so the energies are too small by an unknown amount: "
    return (said, *_listed(named, len(uncounted)), ".")


def _listed(named: list[list[Piece]], total: int) -> list[Piece]:
    pieces = [piece for i, each in enumerate(named) for piece in ([", ", *each] if i else each)]
    return [*pieces, f" and {total - len(named)} more"] if total > len(named) else pieces


def _other_warnings(profile: Profile) -> list[str]:
    return [str(warning) for warning in profile.warnings if warning.code not in ("untrained", "uncounted", "skipped")]


def _ended(text: str) -> str:
    return text if text.endswith(".") else f"{text}."

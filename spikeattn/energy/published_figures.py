"""Published energy figures beside what this package computes for them, row by row.

Every row of the published tables appears: computed where an entry point has the geometry and the rates (or the counts
of operations) were published, and otherwise with the reason why not. A residual is computed - printed; it says how far
two ways of counting are apart, not which one is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pandas as pd

from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import PJ_TO_MJ, get_costs
from spikeattn.energy.estimate import part_energies
from spikeattn.energy.printed_formulas import DENSE, dense_macs, tokens_and_channels
from spikeattn.energy.published_rates import PublishedActivity, activity_from_rates, entry_ledger
from spikeattn.energy.rate_tables import packaged_table
from spikeattn.storage.ledger import Ledger

RATES = "table_s1_sdt_8_512"
COSTS = "horowitz-45nm-fp32"  # the prices of all these papers: E_MAC 4.6 pJ, E_AC 0.9 pJ
ENTRY_POINTS = {name: f"sdt_{name.replace('-', '_')}" for name in ("8-384", "6-512", "8-512", "10-512", "8-768")}
REFERENCE = "8-512"  # the only model whose rates were published


@dataclass(frozen=True)
class Row:
    """One printed figure and ours.

    Attributes:
        quantity: what is compared, with its unit.
        convention: how ours was computed; "" where it could not be.
        computed, printed: None where there is none.
        as_printed: the printed figure with its digits.
        residual: computed - printed.
        same_digits: whether ours, rounded to the printed digits, is the printed figure.
        evidence: how sure the convention is, one of `conventions.EVIDENCE`.
        source: where the printed figure stands.
        note: what went in, or why there is no figure of ours.
    """

    model: str
    quantity: str
    convention: str
    computed: float | None
    printed: float | None
    as_printed: str
    residual: float | None
    same_digits: bool | None
    evidence: str
    source: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        return asdict(self)


def reproduce() -> list[Row]:
    """Published energies of spiking transformers, every printed figure beside what this package computes for it.

    Returns:
        `Row`s: parameters in millions, operations in 10^9 and energies in mJ per image, as the quantity of each says;
        models of the entry points first, then those that share their first layer, then the rest. `table` makes a
        DataFrame of them. Sources are in every row; the printed figures come with the package.
    """
    return [*_transformer(), *_spike_driven(), *_attention(), *_spikformer(), *_spikingformer(), *_others()]


def table(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, one column per field."""
    return pd.DataFrame([row.to_dict() for row in rows])


def _row(model: str, quantity: str, convention: str, computed: float | None, printed: str, evidence: str,
         source: str, note: str = "") -> Row:  # fmt: skip
    """A row; `printed` keeps the digits of the paper, "" where nothing is printed."""
    value = float(printed) if printed else None
    residual = computed - value if computed is not None and value is not None else None
    same = None
    if residual is not None:
        unit = Decimal(1).scaleb(int(Decimal(printed).as_tuple().exponent))  # of the last digit
        same = abs(residual) <= float(unit) / 2 + 1e-12  # what rounding leaves of a difference
    return Row(model, quantity, convention, computed, value, printed, residual, same, evidence, source, note)


def _published(paper: str, model: str, time_steps: str = "4") -> dict[str, str]:
    """One row of the energies that papers print."""
    energies = packaged_table("published_energies")
    rows = energies[(energies.paper == paper) & (energies.model == model) & (energies["T"] == time_steps)]
    return {str(key): str(value) for key, value in rows.iloc[0].items()}


def _detail(paper: str, model: str, quantity: str) -> tuple[str, str]:
    """A printed number beside the energies, with its source."""
    details = packaged_table("published_details")
    row = details[(details.paper == paper) & (details.model == model) & (details.quantity == quantity)].iloc[0]
    return row["value"], f"{paper} (arXiv {row['arxiv']}), {row['source']}"


def _where(printed: dict[str, str]) -> str:
    number = f" (arXiv {printed['arxiv']})" if printed["arxiv"] else ""
    return f"{printed['paper']}{number}, {printed['source']}"


def _prices() -> tuple[float, float]:
    costs = get_costs(COSTS)
    return costs.price("mac"), costs.price("ac")


def _reference() -> PublishedActivity:
    return activity_from_rates(packaged_table(RATES), ENTRY_POINTS[REFERENCE])


def _parts(convention: str, **switches: str) -> dict[str, float]:
    """mJ per part of SDT-8-512 from its published rates."""
    return part_energies(_reference(), get_costs(COSTS), get_convention(convention, **switches))


def _transformer() -> Iterator[Row]:
    """The ANN that two papers print different energies for."""
    ledger, mac = entry_ledger(ENTRY_POINTS[REFERENCE]), _prices()[0]
    for paper, formula in (("SDT", "sdt-ann-printed"), ("Spikformer", "spikformer-ann-printed")):
        printed = _published(paper, "Transformer-8-512 (ANN)", "1")
        model = printed["model"]
        for name in (formula, "dense"):
            macs, rule = dense_macs(ledger, DENSE[name]), DENSE[name]
            if printed["ops_G"]:
                yield _row(model, "operations, G", name, macs / 1e9, printed["ops_G"], rule.evidence, _where(printed))
            energy, note = macs * mac * PJ_TO_MJ, rule.source
            yield _row(model, "energy, mJ", name, energy, printed["power_mJ"], rule.evidence, _where(printed), note)


def _spike_driven() -> Iterator[Row]:
    """The SDT models: parameters of all, energies of the one whose rates were published."""
    for model, entry in ENTRY_POINTS.items():
        printed = _published("SDT", "8-768 (288x288; 76.32 at 224)" if model == "8-768" else model)
        parameters, where = _parameters(entry) / 1e6, _where(printed)
        yield _row(f"SDT-{model}", "parameters, M", "", parameters, printed["params_M"], "own definition", where)
        if model != REFERENCE:
            note = "firing rates of this model were not published"
            yield _row(f"SDT-{model}", "energy, mJ", "", None, printed["power_mJ"], "", where, note)
            continue
        for name in ("sdt-printed", "sdt-paper", "input-rate"):
            convention = get_convention(name)
            energy, note = _parts(name)["total"], f"rates of Table S1; {convention.checked_on}"
            yield _row(
                f"SDT-{model}", "energy, mJ", name, energy, printed["power_mJ"], convention.evidence, where, note
            )
        single = _published("SDT", model, "1")
        note = "firing rates of the model at T = 1 were not published; the printed T = 4 energy / 4 is 1.125"
        yield _row(f"SDT-{model} (T=1)", "energy, mJ", "", None, single["power_mJ"], "", _where(single), note)


def _parameters(entry: str) -> int:
    import torch

    from spikeattn.models import create_model

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create_model(entry).parameters())


def _attention() -> Iterator[Row]:
    """Q, K, V and attention of one block: the ANN (E1) over the SNN (E2), as printed and with the layers' sizes."""
    activity = _reference()
    blocks = tokens_and_channels(activity.ledger)[0]
    mac, ac = _prices()
    inputs = [activity.rate(f"block.{b}.attn.shortcut_lif").mean() for b in range(blocks)]
    rate = float(sum(inputs)) / blocks
    printed_ann, ours = DENSE["sdt-ann-printed"], DENSE["dense"]
    for model in ("8-384", "8-512", "8-768"):
        _, N, D = tokens_and_channels(_geometry(model))
        name = f"SDT-{model}"
        e1 = mac * (3 * N * D**2 + printed_ann.attention_macs(N, D))
        value, where = _detail("SDT", model, "attention of the ANN (E1)")
        yield _row(name, "attention of the ANN (E1), pJ", printed_ann.name, e1, value, printed_ann.evidence, where)
        value, where = _detail("SDT", model, "attention of the SNN (E2)")
        ratio, above = _detail("SDT", model, "attention ratio ANN/SNN")
        implied = e1 / (float(ratio) * ac * 3 * N**2 * D)
        no_t, weak = "E_AC x mean Input rate x 3*N^2*D, no T", "reconstruction, weak"
        dense = mac * (3 * N * D**2 + ours.attention_macs(N, D))
        own = "attention ratio ANN/SNN, layers' own dimensions"
        if model == REFERENCE:
            e2 = ac * rate * 3 * N**2 * D
            note = f"{no_t}; mean Input rate {rate:.4f} of Table S1; checked on this model alone"
            yield _row(name, "attention of the SNN (E2), pJ", "sdt-attention-printed", e2, value, weak, where, note)
            yield _row(name, "attention ratio ANN/SNN", "sdt-attention-printed", e1 / e2, ratio, weak, above, note)
            for convention, rates in (("sdt-paper", "the mean rate of Q_S, K_S, V_S"), ("input-rate", "input rates")):
                changed = {} if convention == "sdt-paper" else {"attention": "rate-sum"}
                chosen, parts = get_convention(convention, **changed), _parts(convention, **changed)
                snn = (parts["QKV"] + parts["attention"]) / PJ_TO_MJ / blocks
                note = f"2*N^2*D and 3*N*D^2, T = 4, {rates}"
                yield _row(name, own, chosen.name, dense / snn, ratio, chosen.evidence, above, note)
            continue
        note = f"rates of this model were not published; {no_t} would need a mean Input rate of {implied:.4f}"
        yield _row(name, "attention of the SNN (E2), pJ", "", None, value, "", where, note)
        yield _row(name, "attention ratio ANN/SNN", "", None, ratio, "", above, note)
        what = "mean Input rate that the printed ratio implies"
        yield _row(name, what, "sdt-attention-printed", implied, "", weak, above, f"{no_t}; 8-512 has {rate:.4f}")
        snn = ac * 4 * implied * 3 * N * D**2
        note = f"2*N^2*D and 3*N*D^2, T = 4, at the implied Input rate {implied:.4f}; masks and token sums left out"
        yield _row(name, own, "input-rate", dense / snn, ratio, weak, above, note)


@lru_cache
def _geometry(model: str) -> Ledger:
    """Ledger of one block of an entry point at T = 1: its tokens, channels, first convolution and classifier."""
    from spikeattn.models import create_model
    from spikeattn.tracing.examine import ledger_of

    return ledger_of(create_model(ENTRY_POINTS[model], depth=1, time_steps=1))


def _first_conv(model: str) -> int:
    return next(s for s in _geometry(model).synapses if s.input == "input").dense_macs


def _spikformer() -> Iterator[Row]:
    """Spikformer's energies from its printed SOPs; its stem's first convolution is that of the SDT."""
    convention = get_convention("spikformer")
    mac, ac = _prices()
    first = round(4 * _first_conv(REFERENCE) / 1e9, 3)  # printed energies rest on rounded G, like the SOPs beside them
    for model in ENTRY_POINTS:
        printed = _published("Spikformer", model)
        energy = ac * float(printed["ops_G"]) + mac * first  # G x pJ = mJ
        note = f"its {printed['ops_G']} G SOPs + {first} G MACs, the first convolution at 4 steps, of width 512"
        yield _row(
            f"Spikformer-{model}", "energy, mJ", convention.name, energy, printed["power_mJ"], convention.evidence,
            _where(printed), note,
        )  # fmt: skip
        note = "firing rates were not published"
        yield _row(f"Spikformer-{model}", "SOPs, G", "", None, printed["ops_G"], "", _where(printed), note)


def _spikingformer() -> Iterator[Row]:
    """Spikingformer's MACs, and its energies from its printed ACs; its first convolution and head are the SDT's."""
    convention = get_convention("spikingformer-code")
    mac, ac = _prices()
    for model in ("8-384", "8-512", "8-768"):
        printed, name = _published("Spikingformer", model), f"Spikingformer-{model}"
        macs = (4 * _first_conv(model) + _geometry(model).synapse("head").dense_macs) / 1e9
        note, acs = "first convolution at 4 steps + classifier once", printed["ops_G"]
        if model == REFERENCE:
            value, where = _detail("Spikingformer", model, "MACs")
            yield _row(name, "MACs, G", convention.name, macs, value, convention.evidence, where, note)
            value, where = _detail("Spikingformer", model, "energy")
            acs = _detail("Spikingformer", model, "ACs")[0]
            energy, more = mac * macs + ac * float(acs), f"its {acs} G ACs + {note}"
            yield _row(name, "energy, mJ", convention.name, energy, value, convention.evidence, where, more)
        energy, note, where = mac * macs + ac * float(acs), f"its {acs} G ACs + {note}", _where(printed)
        yield _row(name, "energy, mJ", convention.name, energy, printed["power_mJ"], convention.evidence, where, note)
        yield _row(name, "ACs, G", "", None, printed["ops_G"], "", where, "firing rates were not published")


def _others() -> Iterator[Row]:
    """Published energies of networks that are no entry point of this package."""
    for row in packaged_table("published_energies").to_dict("records"):
        printed = {str(column): str(value) for column, value in row.items()}
        if printed["paper"] in ("SDT", "Spikformer", "Spikingformer"):
            continue
        number = printed["power_mJ"].replace("not found", "")
        name = f"{printed['paper']} {printed['model']}" + (f" (T={printed['T']})" if printed["T"] else "")
        rates = "" if "(ANN)" in printed["paper"] else ", and no firing rates were published"
        note = f"no entry point of this package has its geometry{rates}"
        if not number:
            note = f"no energy was found in print; {note}"
        yield _row(name, "energy, mJ", "", None, number, "", _where(printed), note)

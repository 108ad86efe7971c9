"""Published energy figures beside what this package computes for them, row by row.

Every row of the published tables appears: computed where the geometry and the rates (or the counts of operations) are
known, of an entry point, of a published layer table or of a network that SpikingJelly or timm can build; otherwise with
the reason why not. A residual is computed - printed; it says how far
two ways of counting are apart, not which one is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pandas as pd

from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import PJ_TO_MJ, get_costs
from spikeattn.energy.estimate import part_energies
from spikeattn.energy.printed_formulas import DENSE, dense_macs, tokens_and_channels
from spikeattn.energy.published_layers import PAPERS as LAYER_PAPERS
from spikeattn.energy.published_layers import acs_of_log, layer_rows
from spikeattn.energy.published_list import PublishedRows
from spikeattn.energy.published_networks import PAPERS as NETWORK_PAPERS
from spikeattn.energy.published_networks import network_rows
from spikeattn.energy.published_rates import PublishedActivity, activity_from_rates, entry_ledger
from spikeattn.energy.published_rows import Row, detail, make_row, published, rows_of, title_of, where_printed
from spikeattn.energy.rate_tables import packaged_table
from spikeattn.storage.ledger import Ledger

RATES = "table_s1_sdt_8_512"
COSTS = "horowitz-45nm-fp32"  # the prices of all these papers: E_MAC 4.6 pJ, E_AC 0.9 pJ
ENTRY_POINTS = {name: f"sdt_{name.replace('-', '_')}" for name in ("8-384", "6-512", "8-512", "10-512", "8-768")}
REFERENCE = "8-512"  # the only one of these models whose rates were published
EXPRESSED = {"SDT", "Spikformer", "Spikingformer", *LAYER_PAPERS, *NETWORK_PAPERS}  # papers with figures of ours


def reproduce() -> PublishedRows:
    """Published energies of spiking transformers, every printed figure beside what this package computes for it.

    Returns:
        `Row`s: parameters in millions, operations in 10^9 and energies in mJ per image, as the quantity of each says;
        models of the entry points first, then those that share their first layer, then the rest; a list, which in a
        notebook shows itself as a table, and has `frame()` and `plot()`. Sources are in every row; the printed figures
        come with the package.
    """
    own = [*_transformer(), *_spike_driven(), *_attention(), *_spikformer(), *_spikingformer()]
    return PublishedRows([*own, *layer_rows(), *network_rows(), *_others()])


def table(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, one column per field."""
    return pd.DataFrame([row.to_dict() for row in rows])


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
        printed = published(paper, "Transformer-8-512 (ANN)", "1")
        model = printed["model"]
        for name in (formula, "dense"):
            macs, rule = dense_macs(ledger, DENSE[name]), DENSE[name]
            if printed["ops_G"]:
                yield make_row(
                    model, "operations, G", name, macs / 1e9, printed["ops_G"], rule.evidence, where_printed(printed)
                )
            energy, note = macs * mac * PJ_TO_MJ, rule.source
            yield make_row(
                model, "energy, mJ", name, energy, printed["power_mJ"], rule.evidence, where_printed(printed), note
            )


def _spike_driven() -> Iterator[Row]:
    """The SDT models: parameters of all, energies of the one whose rates were published."""
    for model, entry in ENTRY_POINTS.items():
        printed = published("SDT", "8-768 (288x288; 76.32 at 224)" if model == "8-768" else model)
        parameters, where = _parameters(entry) / 1e6, where_printed(printed)
        yield make_row(f"SDT-{model}", "parameters, M", "", parameters, printed["params_M"], "own definition", where)
        if model != REFERENCE:
            note = "firing rates of this model were not published"
            yield make_row(f"SDT-{model}", "energy, mJ", "", None, printed["power_mJ"], "", where, note)
            continue
        for name in ("sdt-printed", "sdt-paper", "input-rate"):
            convention = get_convention(name)
            energy, note = _parts(name)["total"], f"rates of Table S1; {convention.checked_on}"
            yield make_row(
                f"SDT-{model}", "energy, mJ", name, energy, printed["power_mJ"], convention.evidence, where, note
            )
        single = published("SDT", model, "1")
        note = "firing rates of the model at T = 1 were not published; the printed T = 4 energy / 4 is 1.125"
        yield make_row(
            f"SDT-{model} (T=1)", "energy, mJ", "", None, single["power_mJ"], "", where_printed(single), note
        )


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
        value, where = detail("SDT", model, "attention of the ANN (E1)")
        yield make_row(name, "attention of the ANN (E1), pJ", printed_ann.name, e1, value, printed_ann.evidence, where)
        value, where = detail("SDT", model, "attention of the SNN (E2)")
        ratio, above = detail("SDT", model, "attention ratio ANN/SNN")
        implied = e1 / (float(ratio) * ac * 3 * N**2 * D)
        no_t, weak = "E_AC x mean Input rate x 3*N^2*D, no T", "reconstruction, weak"
        dense = mac * (3 * N * D**2 + ours.attention_macs(N, D))
        own = "attention ratio ANN/SNN, layers' own dimensions"
        if model == REFERENCE:
            e2 = ac * rate * 3 * N**2 * D
            note = f"{no_t}; mean Input rate {rate:.4f} of Table S1; checked on this model alone"
            yield make_row(name, "attention of the SNN (E2), pJ", "sdt-attention-printed", e2, value, weak, where, note)
            yield make_row(name, "attention ratio ANN/SNN", "sdt-attention-printed", e1 / e2, ratio, weak, above, note)
            for convention, rates in (("sdt-paper", "the mean rate of Q_S, K_S, V_S"), ("input-rate", "input rates")):
                changed = {} if convention == "sdt-paper" else {"attention": "rate-sum"}
                chosen, parts = get_convention(convention, **changed), _parts(convention, **changed)
                snn = (parts["QKV"] + parts["attention"]) / PJ_TO_MJ / blocks
                note = f"2*N^2*D and 3*N*D^2, T = 4, {rates}"
                yield make_row(name, own, chosen.name, dense / snn, ratio, chosen.evidence, above, note)
            continue
        note = f"rates of this model were not published; {no_t} would need a mean Input rate of {implied:.4f}"
        yield make_row(name, "attention of the SNN (E2), pJ", "", None, value, "", where, note)
        yield make_row(name, "attention ratio ANN/SNN", "", None, ratio, "", above, note)
        what = "mean Input rate that the printed ratio implies"
        yield make_row(name, what, "sdt-attention-printed", implied, "", weak, above, f"{no_t}; 8-512 has {rate:.4f}")
        snn = ac * 4 * implied * 3 * N * D**2
        note = f"2*N^2*D and 3*N*D^2, T = 4, at the implied Input rate {implied:.4f}; masks and token sums left out"
        yield make_row(name, own, "input-rate", dense / snn, ratio, weak, above, note)


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
        printed = published("Spikformer", model)
        energy = ac * float(printed["ops_G"]) + mac * first  # G x pJ = mJ
        note = f"its {printed['ops_G']} G SOPs + {first} G MACs, the first convolution at 4 steps, of width 512"
        yield make_row(
            f"Spikformer-{model}", "energy, mJ", convention.name, energy, printed["power_mJ"], convention.evidence,
            where_printed(printed), note,
        )  # fmt: skip
        note = "firing rates were not published"
        yield make_row(f"Spikformer-{model}", "SOPs, G", "", None, printed["ops_G"], "", where_printed(printed), note)


def _spikingformer() -> Iterator[Row]:
    """Spikingformer's MACs, and its energies from its printed ACs; its first convolution and head are the SDT's."""
    convention = get_convention("spikingformer-code")
    mac, ac = _prices()
    for model in ("8-384", "8-512", "8-768"):
        printed, name = published("Spikingformer", model), f"Spikingformer-{model}"
        macs = (4 * _first_conv(model) + _geometry(model).synapse("head").dense_macs) / 1e9
        note, acs = "first convolution at 4 steps + classifier once", printed["ops_G"]
        if model == REFERENCE:
            value, where = detail("Spikingformer", model, "MACs")
            yield make_row(name, "MACs, G", convention.name, macs, value, convention.evidence, where, note)
            value, where = detail("Spikingformer", model, "energy")
            acs = detail("Spikingformer", model, "ACs")[0]
            energy, more = mac * macs + ac * float(acs), f"its {acs} G ACs + {note}"
            yield make_row(name, "energy, mJ", convention.name, energy, value, convention.evidence, where, more)
        energy, note, where = mac * macs + ac * float(acs), f"its {acs} G ACs + {note}", where_printed(printed)
        yield make_row(
            name, "energy, mJ", convention.name, energy, printed["power_mJ"], convention.evidence, where, note
        )
        if (logged := acs_of_log(model)) is None:
            yield make_row(name, "ACs, G", "", None, printed["ops_G"], "", where, "firing rates were not published")
            continue
        note = "ACs of every layer in its log + T*H*N*d^2*(min(r_K, r_V) + r_Q)"
        acs_g, evidence = logged / 1e9, convention.evidence
        yield make_row(name, "ACs, G", convention.name, acs_g, printed["ops_G"], evidence, where, note)


def _others() -> Iterator[Row]:
    """Published energies of networks that cannot be built here."""
    for printed in rows_of(*(set(packaged_table("published_energies").paper) - EXPRESSED)):
        number = printed["power_mJ"].replace("not found", "")
        note = "no entry point of this package has its geometry, and no firing rates were published"
        if printed["paper"] == "SpikingResformer":  # 0.9 pJ x SOPs, as the row's own source says
            note = f"its formula, E_AC x SOPs, makes {float(number) / _prices()[1]:.4g} G SOPs of it; {note}"
        if not number:
            note = f"no energy was found in print; {note}"
        yield make_row(title_of(printed), "energy, mJ", "", None, number, "", where_printed(printed), note)

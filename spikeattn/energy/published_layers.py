"""Published energies from the layer tables of their own networks: Spikingformer's, CML-Spikingformer's, SpikeYOLO's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spikeattn.energy.amounts import OPS, amounts_by_part
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import PJ_TO_MJ, get_costs
from spikeattn.energy.estimate import part_energies
from spikeattn.energy.layer_tables import LayerRow, LayerTable, Printed, read_layers
from spikeattn.energy.published_rates import PublishedActivity
from spikeattn.energy.published_rows import Row, make_row, published, where_printed
from spikeattn.energy.table_arithmetic import rows_of_sums
from spikeattn.energy.table_ledgers import activity_of_rows

PAPERS = ("CML-Spikingformer", "SpikeYOLO")  # and the logs of Spikingformer
COSTS = "horowitz-45nm-fp32"
T = 4  # of all three logs
# Tables by paper and model; heads as the line "SSA info" of the log gives them, and as its command line gives them to
# the network (num_heads in its Namespace).
LOGS = {
    ("Spikingformer", "8-512 log"): ("layers_spikingformer_8_512", 8, 8),
    ("Spikingformer", "8-768 log"): ("layers_spikingformer_8_768", 12, 8),
    ("CML-Spikingformer", "8-768 log"): ("layers_cml_spikingformer_8_768", 12, 8),
}
# Sides of what the four 3x3 convolutions of the stem receive at 224 x 224 pixels; each is padded by 1, with stride 1.
SIDES = (112, 56, 28, 14)


def layer_rows() -> Iterator[Row]:
    """The energies of the logs from their own rates, as their code counts and as close to `exact` as rates come."""
    for (paper, model), (name, heads, own_heads) in LOGS.items():
        printed = published(paper, model)
        table = read_layers(name)
        title, number, where = f"{paper}-{model.replace(' log', '')} (log)", printed["power_mJ"], where_printed(printed)
        code, like = get_convention("spikingformer-code"), get_convention("input-rate", attention="least-rate")

        def row(
            what: str, table: LayerTable, heads: int, convention: Convention, note: str, border: bool = False,
            title: str = title, number: str = number, where: str = where,
        ) -> Row:  # fmt: skip
            energy = _energy(activity_of_rows(table, T, heads), convention)
            energy -= _borders(table) if border else 0.0
            return make_row(title, what, convention.name, energy, number, convention.evidence, where, note)

        acs = replace(table, rows=tuple(map(_with_rate_of_acs, table.rows)))
        note = (
            f"the log's own ACs and MACs of every layer + T*H*N*d^2*(min(r_K, r_V) + r_Q), {heads} heads as it states"
        )
        yield row("energy, mJ", acs, heads, code, note)
        note = "the rates of its column of input rates x dense operations in place of its ACs"
        yield row("energy from the printed rates, mJ", table, heads, code, note)
        if heads != own_heads:
            note = (
                f"{own_heads} heads, num_heads of the network in the log's Namespace, in place of its Nheads, {heads}"
            )
            yield row("energy with the network's heads, mJ", acs, own_heads, code, note)
        note = (
            "the image's convolution once, K^T V by the smaller of its two rates (an upper bound of the pairs); the "
            "network's own heads"
        )
        yield row("energy as near to exact as rates come, mJ", acs, own_heads, like, note)
        note += "; borders of the four padded 3x3 convolutions taken off, spikes taken to lie evenly"
        yield row("the same without borders, mJ", acs, own_heads, like, note, border=True)
    yield from _spikeyolo()


def acs_of_log(model: str) -> float | None:
    """Additions per image of a Spikingformer by its log, as its code counts them; None of one without a log."""
    if ("Spikingformer", f"{model} log") not in LOGS:
        return None
    name, heads, _ = LOGS["Spikingformer", f"{model} log"]
    table = read_layers(name)
    activity = activity_of_rows(replace(table, rows=tuple(map(_with_rate_of_acs, table.rows))), T, heads)
    amounts = amounts_by_part(activity, get_convention("spikingformer-code"))
    return float(amounts.per_image[..., OPS.index("sop")].sum())


def _with_rate_of_acs(row: LayerRow) -> LayerRow:
    """The row with the rate that its ACs imply: the log prints rates with fewer digits than it counts with."""
    acs = row.get("acs")
    if row.kind != "ac" or acs is None:
        return row
    return replace(row, rate=Printed(acs.value / row.dense, 0.0))


def _energy(activity: PublishedActivity, convention: Convention) -> float:
    return part_energies(activity, get_costs(COSTS), convention)["total"]


def _borders(table: LayerTable) -> float:
    """mJ of the additions at the borders of the stem's convolutions, which a product of rate and dense counts.

    Along an axis of n positions a kernel of 3 meets 3n - 2 inputs, and not 3n.
    """
    stem = [row for row in table.layers if row.kind == "ac" and row.name.startswith("patch_embed")]
    price = get_costs(COSTS).price("sop")
    pairs = zip(stem, SIDES, strict=True)
    return sum(row.numbers["acs"].value * (1 - ((3 * n - 2) / (3 * n)) ** 2) for row, n in pairs) * price * PJ_TO_MJ


def _spikeyolo() -> Iterator[Row]:
    """The total of SpikeYOLO's sheet, as its lines add up and by the formula that it states."""
    printed, table = published("SpikeYOLO", "640 px sheet", "1"), read_layers("layers_spikeyolo")
    ((_, stated, formula),) = rows_of_sums(table)
    number, where = printed["power_mJ"], where_printed(printed)
    code = "as written"
    note = "the sum of its 89 lines"
    yield make_row("SpikeYOLO (640 px)", "energy, mJ", "input-rate", stated * PJ_TO_MJ, number, code, where, note)
    note = "its first layer at 4.6 pJ per MAC, where the line has 0.9 pJ x 4.6 = 4.14 pJ; `spikeattn audit` lists it"
    yield make_row(
        "SpikeYOLO (640 px)", "energy by its formula, mJ", "input-rate", formula * PJ_TO_MJ, number, code, where, note
    )
    dense = sum(row.dense for row in table.layers)
    ann = dense * table.layout.mac_pj * PJ_TO_MJ
    yield make_row(
        "SpikeYOLO (640 px)", "energy of the ANN, mJ", "dense", ann, "465.572", code, where, "dense MACs x 4.6 pJ"
    )

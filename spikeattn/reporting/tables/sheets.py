"""The sheets of a run; LaTeX, Markdown and the page print the same ones."""

from __future__ import annotations

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    count_unit,
    counted_in,
    energy_unit,
    known,
    percent,
    rate,
    rate_with_limits,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, begun
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.tables import analysis_sheets, seed_sheets, settings_sheets, several_sheets
from spikeattn.reporting.tables.measured_sheet import measured_sheet
from spikeattn.reporting.tables.model_sheet import model_sheet
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def sheet_of(table: pd.DataFrame) -> Sheet:
    """The sheet of a table of this package (rates, energy, operations, ...), recognised by its columns.

    Raises:
        SpikeattnError: another kind of table, or one without rows.
    """
    for needed, make in _MAKERS:
        if set(needed) <= set(table.columns):
            if table.empty:
                raise SpikeattnError("the table has no rows to print; profile at least one image")
            return make(table)
    raise SpikeattnError(
        f"no layout for a table with columns {', '.join(map(str, table.columns))}; give rate_table(profile), "
        "profile.energy(), profile.operations(), profile.over_time(), or a table of sa.compare, sa.waterfall, sa.sweep"
    )


def rate_sheet(table: pd.DataFrame) -> Sheet:
    """Table S1; rates are coloured by their square root, so that small ones remain visible."""
    steps = [c for c in table.columns if c[:1] == "T" and c[1:].isdigit()]
    named = bool((table["tensor"] != table["code"]).any())
    modules = bool((table["module"] != "").any())
    placed = bool((table.loc[table["part"] != "Input", "part"] != "").any())
    columns = [Column("Part", "text")] if placed else []
    columns += [Column("Module", "text")] if modules else []
    columns += [Column("Tensor", "paper", "name in the paper")] if named else []
    columns += [Column("Code name" if named else "Tensor", "code", "dotted path of the module")]
    columns += [Column(step) for step in steps]
    columns += [Column("Average", note="mean over the time steps"), Column("Interval", note="of the average")]
    spikes = table[table["part"] != "Input"]
    most = float(spikes[[*steps, "average"]].max().max()) if len(spikes) else 0.0
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        place = row["part"] if placed else row["part"] == "Input"
        if number and place != last:
            rules.add(number)
        last = place
        coloured = most if row["part"] != "Input" else 0.0
        cells = [Cell(row["part"], row["part"])] if placed else []
        cells += [Cell(row["module"], row["module"])] if modules else []
        role = row["tensor"] if row["tensor"] != row["code"] else MISSING
        cells += [Cell(role, row["tensor"])] if named else []
        cells += [Cell(row["code"], row["code"])]
        cells += [_heat(rate(row[step]), row[step], coloured) for step in steps]
        average, limits = rate_with_limits(row["average"], row["low"], row["high"], row["interval"] == "upper bound")
        rows.append((*cells, _heat(average, row["average"], coloured), Cell(limits or MISSING, row["low"])))
    return Sheet(tuple(columns), tuple(rows), frozenset(rules))


def energy_sheet(table: pd.DataFrame) -> Sheet:
    """Operations and energy per image and part, every column in one unit."""
    unit, factor = energy_unit(table["energy_mj"])
    counts = {key: count_unit(table[key]) for key in ("macs", "sops", "acs", "mask_ops")}
    columns = (
        Column("Part", "text"),
        Column(_of("MACs", counts["macs"]), note="multiply-accumulates per image"),
        Column(
            _of("SOPs", counts["sops"]),
            note="additions that spikes cause at weights and in products of spikes, per image",
        ),
        Column(_of("Other ACs", counts["acs"]), note="additions of token sums, per image"),
        Column(_of("Mask ops", counts["mask_ops"]), note="AND gates, per image"),
        Column(f"Energy ({unit})", note="per image"),
        Column("Interval"),
        Column("Share"),
    )
    rows = []
    for row in table.to_dict("records"):
        low, high = (row[key] / factor for key in ("ci_low", "ci_high"))
        value, limits = with_limits(row["energy_mj"] / factor, low, high)
        if row["interval"] == "upper bound":
            value, limits = with_bound(row["energy_mj"] / factor, high)
        elif not limits and known(row["energy_mj"]):
            limits = NO_INTERVAL
        cells = [Cell(row["part"], row["part"])]
        cells += [Cell(counted_in(row[key], size), float(row[key])) for key, (_, size) in counts.items()]
        cells += [Cell(value, row["energy_mj"]), Cell(limits or MISSING, high)]
        rows.append((*cells, Cell(percent(row["share"]), row["share"])))
    return Sheet(columns, tuple(rows), frozenset({len(rows) - 1}))


def operations_sheet(table: pd.DataFrame) -> Sheet:
    """What every synapse and product did per image; what was not counted says so in its own row."""
    n = table.attrs.get("n_images", 1)
    counts = {key: count_unit(table[key] / n) for key in ("sops", "acs", "macs", "mask_ops")}
    size = count_unit(table["dense_macs"])
    columns = (
        Column("Synapse or product", "code"),
        Column("Part", "text"),
        Column("Receives", "code", "the tensor whose spikes it adds up"),
        Column(_of("Dense MACs", size), note="per image and time step, if every input were non-zero"),
        Column(_of("SOPs", counts["sops"]), note="additions at weights and in products of spikes, per image"),
        Column(_of("Other ACs", counts["acs"]), note="additions of token sums, per image"),
        Column(_of("MACs", counts["macs"]), note="multiply-accumulates of real inputs, per image"),
        Column(_of("Mask ops", counts["mask_ops"]), note="AND gates, per image"),
        Column("Rate × FLOPs", note="what the literature's product says against the counted SOPs"),
    )
    rows: list[tuple[Cell, ...]] = []
    for row in table.to_dict("records"):
        name, part = Cell(row["synapse"], row["synapse"]), Cell(str(row["part"]), str(row["part"]))
        if not row["counted"]:
            blank = (Cell(MISSING),) * 7
            rows.append((name, Cell("not counted", "not counted"), *blank))
            continue
        received = row["input_tensor"] if known(row["input_tensor"]) else MISSING
        dense = Cell(counted_in(row["dense_macs"], size[1]) if row["dense_macs"] else MISSING, row["dense_macs"])
        totals = [row[key] / n for key in counts]
        pairs = zip(totals, counts.values(), strict=True)
        cells = [Cell(counted_in(total, factor), float(total)) for total, (_, factor) in pairs]
        over = row["rate_x_flops"] / totals[0] - 1 if known(row["rate_x_flops"]) and totals[0] else None
        more = Cell(MISSING if over is None else _excess(over), over)
        rows.append((name, part, Cell(received, received), dense, *cells, more))
    blocks = [row["block"] if known(row["block"]) else None for row in table.to_dict("records")]
    rules = frozenset(i for i in range(1, len(blocks)) if blocks[i] != blocks[i - 1])
    return Sheet(columns, tuple(rows), rules)


def structure_sheet(table: pd.DataFrame) -> Sheet:
    """Part, block and role of every layer, and how that is known."""
    nearest = bool(table["nearest"].notna().any())
    columns = [
        Column("Layer", "code"),
        Column("Part", "text"),
        Column("Block", "text"),
        Column("Role", "text", "q, k, v, or the paper's name; of a fused layer with the channels of each"),
        Column("Known by", "text", "data's way (dataflow), order of equal operands, names, family, names file"),
        *([Column("Nearest", "text", "of what nobody knows, the part that it is most like")] if nearest else []),
    ]
    rows = []
    for row in table.to_dict("records"):
        block = str(int(row["block"]) + 1) if known(row["block"]) else MISSING
        role = row["channels"] if known(row["channels"]) else row["role"]
        texts = [row["synapse"], row["part"], block, role, row["known"], *([row["nearest"]] if nearest else [])]
        rows.append(tuple(Cell(str(text) if known(text) else MISSING, text) for text in texts))
    blocks = [row["block"] if known(row["block"]) else None for row in table.to_dict("records")]
    return Sheet(tuple(columns), tuple(rows), frozenset(i for i in range(1, len(rows)) if blocks[i] != blocks[i - 1]))


def time_sheet(table: pd.DataFrame) -> Sheet:
    """Accuracy with its Wilson interval and mean firing rate after every time step."""
    labelled = bool(table["accuracy"].notna().any())
    columns = [Column("After step", "text", "if the network had stopped there")]
    columns += [Column("Accuracy"), Column("Wilson interval")] if labelled else []
    columns.append(Column(begun(MEAN_RATE), note=f"{MEAN_RATE_IS}, steps so far"))
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row["t"]), row["t"])]
        if labelled:
            limits = f"[{row['accuracy_low'] * 100:.1f}, {row['accuracy_high'] * 100:.1f}] %"
            cells.append(Cell(percent(row["accuracy"]), row["accuracy"]))
            cells.append(Cell(limits if known(row["accuracy_low"]) else MISSING, row["accuracy_low"]))
        rows.append((*cells, Cell(rate(row["mean_rate"]), row["mean_rate"])))
    return Sheet(tuple(columns), tuple(rows))


_MAKERS = (
    (("costs", "over", "value", "mean_rate", "energy_mj"), measured_sheet),
    (("tensor", "code", "average", "low", "high"), rate_sheet),
    (("part", "energy_mj", "ci_low", "ci_high", "share", "interval"), energy_sheet),
    (("synapse", "input_tensor", "dense_macs", "sops", "rate_x_flops"), operations_sheet),
    (("t", "accuracy", "mean_rate", "n_labelled"), time_sheet),
    (("synapse", "part", "block", "role", "known", "nearest"), structure_sheet),
    (("quantity", "n_seeds", "seeds_low", "images_low"), seed_sheets.seeds_sheet),
    (("run", "quantity", "value", "low", "high"), seed_sheets.seed_runs_sheet),
    (("against", "part", "against_mj", "ratio", "verdict"), analysis_sheets.comparison_sheet),
    (("switch", "from", "to", "energy_mj", "difference_mj"), analysis_sheets.waterfall_sheet),
    (("model", "side", "value", "over_compute", "fidelity"), model_sheet),
    (("costs", "t", "rate_scale", "break_even_rate"), analysis_sheets.sweep_sheet),
    (("image", "layer", "tokens", "significant", "pi0"), analysis_sheets.attended_sheet),
    (("run", "model", "images", "energy_mj_low", "sops_low"), several_sheets.runs_sheet),
    (("run", "against", "paired", "energy_mj_low", "ratio"), several_sheets.differences_sheet),
    (("run", "part", "energy_mj", "ci_low", "ci_high"), several_sheets.parts_sheet),
    (("operation", "pj", "status", "source"), settings_sheets.price_sheet),
    (("setting", "value", "meaning"), settings_sheets.switch_sheet),
)


def _heat(text: str, value: float, most: float) -> Cell:
    return Cell(text, value, (value / most) ** 0.5 if most > 0 and known(value) else None)


def _of(title: str, unit: tuple[str, float]) -> str:
    """The title of a column of counts, with their unit."""
    return f"{title} ({unit[0]})" if unit[0] else title


def _excess(share: float) -> str:
    rounded = round(share * 100, 1)
    return f"{rounded:+.1f} %" if rounded else "0 %"

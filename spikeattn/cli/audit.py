"""`spikeattn audit`: a published layer table against its own formula, and under every convention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.option_types import within
from spikeattn.cli.options import COSTS, Costs, Json, ListOut, ModelArgs, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, note, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    from spikeattn.energy.table_audit import Audit

_SHOWN = 20  # differences as text; one wrong factor makes a line of every row


def audit(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Layer table, .csv or .xlsx, or the name of one of the package.")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The network that the table belongs to, or FILE.py:NAME."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="FILE", help="Which column holds what, of a table in no published layout: .toml."
        ),
    ] = None,
    costs: Costs = COSTS,
    time_steps: Annotated[
        int | None,
        typer.Option("--time-steps", metavar="T", callback=within(1), help="T, where the table does not say it."),
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option("--heads", metavar="H", callback=within(1), help="Heads of the attention, likewise."),
    ] = None,
    model_arg: ModelArgs = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Check a published table of layers: its arithmetic line by line, and its energy under every convention.

    Every figure that follows from others of the table by its stated formula is computed again; lines that differ are
    listed with the price per operation that they imply. Without --model the table's own dense operations are priced.

    \b
    Examples:
      spikeattn audit layers_spikeyolo
      spikeattn audit power_cal.xlsx --json
      spikeattn audit layers_spikingformer_8_512 --time-steps 4 --heads 8
      spikeattn audit layers.csv --map map.toml --model my_net.py:build --out differences.csv
    """
    from spikeattn.cli.networks import rated_network
    from spikeattn.energy.table_audit import audit as compute

    network = None if model is None else rated_network(model, model_arg, time_steps)
    if model is not None and not isinstance(network, str):
        note(f"the ledger of {model} is traced on random input of the size that it states ...")
    found = compute(table, network, map_file, costs, time_steps, heads)
    differences = found.arithmetic.frame()
    record = {
        "table": found.where,
        "layout": found.layout,
        "formula": found.formula,
        "layers": found.layers,
        "compared": found.arithmetic.compared,
        "differences": records(differences),
        "sums": records(found.sums),
        "conventions": records(found.prices),
        "notes": list(found.notes),
        "provenance": found.provenance,
    }
    hand_over(differences, record, lambda: _as_text(found), out, as_json, LIST_FORMATS)


def _as_text(found: Audit) -> Page:
    from spikeattn.energy.table_arithmetic import CHECKS

    lines: list[Line] = [
        f"{found.where}: {found.layers} layers, layout {found.layout}",
        f"formula  {found.formula}",
        "",
        "the table's own arithmetic",
    ]
    differing = found.arithmetic.frame()
    for check, compared in found.arithmetic.compared.items():
        several = int((differing["check"] == check).sum())
        lines.append(f"  {check}: {several} of {compared} differ; {CHECKS[check]}")
    if not found.arithmetic.compared:
        lines.append("  no figure of the table follows from others of it")
    if len(differing):
        shown = differing.head(_SHOWN).rename(columns={"note": "what it amounts to"})
        formats: dict[str, Callable[[Any], str]] = {
            "line": str,
            "stated": "{:.10g}".format,
            "formula": "{:.10g}".format,
            "difference": "{:+.6g}".format,
            "relative": "{:+.2g}".format,
        }
        lines += ["", text(shown, formats, spare=(["relative"], ["difference"]))]
        if len(differing) > _SHOWN:
            lines.append(f"and {len(differing) - _SHOWN} more: --json or --out FILE has all")
    for _, sums in found.sums.iterrows():
        lines += [
            "",
            f"sum of the {sums['quantity']} column: {sums['stated_mj']:.6g} mJ stated, "
            f"{sums['formula_mj']:.6g} mJ by the formula",
        ]
    prices = found.prices
    priced = prices[prices["energy_mj"].notna()][["convention", "energy_mj", "macs", "additions", "evidence"]]
    if len(priced):
        whole = "{:,.0f}".format
        lines += ["", f"the same rates under every convention (mJ per image, {found.provenance['costs']})"]
        lines += [text(priced, {"energy_mj": "{:.4f}".format, "macs": whole, "additions": whole})]
    reasons: dict[str, list[str]] = {}
    for row in prices[prices["energy_mj"].isna()].to_dict("records"):
        reasons.setdefault(row["reason"], []).append(row["convention"])
    if reasons:
        lines += ["", "not expressed"]
        lines += [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    lines += [f"note  {line}" for line in found.notes]
    lines.append("A difference says that two figures of one table disagree, not which one was meant.")
    return lines

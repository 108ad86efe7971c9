"""Write reports/published/: every published energy figure beside ours, and what each counting choice makes of one.

    python scripts/reproduce_published.py [FOLDER]

The same rows as `spikeattn reproduce --json`; nothing is downloaded, no image is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from markdown_table import markdown_table

from spikeattn.energy.convention_switches import side_by_side, waterfall
from spikeattn.energy.conventions import PRESETS
from spikeattn.energy.published_figures import RATES, reproduce, table
from spikeattn.energy.published_rates import activity_from_rates
from spikeattn.storage import csv_text

COMMAND = "python scripts/reproduce_published.py"
HEAD = f"""# Published energy figures and ours

Made by `{COMMAND}`; the same rows: `spikeattn reproduce --json` and `published.csv`.

A residual is computed - printed. It says how far two ways of counting lie apart, not which one is right: papers rarely
print all their choices, and where a formula is our reconstruction the column `evidence` says so and how strong it is.
All prices: 45 nm, E_MAC 4.6 pJ and E_AC 0.9 pJ (Horowitz, ISSCC 2014). The figures are operations x pJ, not measured
joules. The formulas stand in `docs/energy.md`.
"""


def main(folder: Path) -> None:
    rows = table(reproduce())
    folder.mkdir(parents=True, exist_ok=True)
    csv_text.save(rows, folder / "published.csv")
    computed = rows[rows.computed.notna()]
    same = computed[computed.same_digits.eq(True)]
    other = computed[~computed.same_digits.eq(True)]
    (folder / "published.md").write_text(
        "\n".join(
            [
                HEAD,
                f"## The printed digits come out ({len(same)})\n\n{figures(same)}\n",
                f"## Another figure comes out, or none is printed ({len(other)})\n\n{figures(other)}\n",
                *switches(),
                f"## Not computed ({rows.computed.isna().sum()})\n\n{reasons(rows[rows.computed.isna()])}\n",
            ]
        )
    )


def figures(rows: pd.DataFrame) -> str:
    """Computed and printed side by side."""
    lines = [
        (
            row.model,
            row.quantity,
            row.convention or "-",
            number(row.computed),
            row.as_printed or "-",
            number(row.residual, "+.3g"),
            row.evidence,
            row.note or "-",
            row.source,
        )
        for row in rows.itertuples()
    ]
    head = ("model", "quantity", "convention", "computed", "printed", "residual", "evidence", "what went in", "where")
    return markdown_table(head, lines, "lllrrrlll")


def reasons(rows: pd.DataFrame) -> str:
    """Printed figures without one of ours, and why."""
    lines = [(row.model, row.quantity, row.as_printed or "-", row.note, row.source) for row in rows.itertuples()]
    return markdown_table(("model", "quantity", "printed", "why", "where"), lines, "llrll")


def switches() -> list[str]:
    """SDT-8-512 from its published rates: the conventions side by side, and the way from one to another."""
    activity = activity_from_rates(RATES, "sdt_8_512")
    names = [name for name in PRESETS if name != "exact"]
    columns = side_by_side(activity, names)
    lines = [(row[0], *(number(value, ".4f") for value in row[1:])) for row in columns.itertuples(index=False)]
    text = [
        "## SDT-8-512 from Table S1 under every convention (mJ per image)\n\n"
        "`exact` needs counts and is absent; a rate table has no pooled rates, so rates before the pool stand in, a "
        f"lower bound.\n\n{markdown_table(('part', *names), lines, 'l' + 'r' * len(names))}\n"
    ]
    for name in ("sdt-paper", "sdt-printed"):
        steps = waterfall(activity, name, start="input-rate")
        lines = [(s, a, b, f"{e:.4f}", f"{d:+.4f}") for s, a, b, e, d in steps.itertuples(index=False)]
        head = ("switch", "from", "to", "mJ after it", "difference")
        text.append(
            f"### From `input-rate` to `{name}`, one switch at a time\n\n{markdown_table(head, lines, 'lllrr')}\n"
        )
    return text


def number(value: float, form: str = ".6g") -> str:
    """A number, or "-" where there is none."""
    return "-" if value is None or pd.isna(value) else format(value, form)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "reports" / "published")

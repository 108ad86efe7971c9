"""`spikeattn reproduce`: published energy figures beside ours."""

from __future__ import annotations

from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, note, records, text
from spikeattn.cli.printed_table import Page


def reproduce(out: ListOut = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Published energy figures beside ours, row by row.

    Every row names its convention, its residual (computed - printed) and how sure the convention is. Rows without a
    figure of ours say why.

    \b
    Examples:
      spikeattn reproduce
      spikeattn reproduce --json
    """
    from spikeattn.energy.published_figures import reproduce as compute
    from spikeattn.energy.published_figures import table

    note("computing from the geometry of the models, Table S1 and published layer tables ...")
    rows = compute()
    frame = table(rows)

    def as_text() -> Page:
        shown = frame[frame["computed"].notna()]
        columns = ["model", "quantity", "convention", "computed", "as_printed", "residual", "evidence"]
        formats = {"computed": "{:.6g}".format, "residual": "{:+.2g}".format}  # logs print six digits
        without = frame[frame["computed"].isna()]
        reasons = without[["model", "quantity", "as_printed", "note"]]
        reasons = reasons.rename(columns={"as_printed": "printed", "note": "why there is none of ours"})
        return [
            text(shown[columns].rename(columns={"as_printed": "printed"}), formats, spare=[["evidence"]]),
            "",
            "A residual says how far two ways of counting lie apart, not which one is right.",
            "",
            f"{len(without)} printed figures without one of ours",
            "",
            text(reasons),
        ]

    record = [row.to_dict() for row in rows]
    hand_over(frame, record, as_text, out, as_json, LIST_FORMATS, filed=records(frame))

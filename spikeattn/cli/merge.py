"""`spikeattn merge`: the shards of one run joined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikeattn.cli.options import Full, Json, Verbose
from spikeattn.cli.output import print_json
from spikeattn.cli.terminal import say


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of `spikeattn profile --shard`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the whole run: counts.parquet and model.json.")],
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Join shards whose device, threads or versions differ.")
    ] = False,
    as_json: Json = False,
    full: Full = False,
    verbose: Verbose = 0,
) -> None:
    """Join the shards of a run, made with `spikeattn profile --shard i/n`.

    The count table is, bit for bit, the one that a run in a single process writes. Shards that are missing, unfinished,
    given twice, or of another model, other data or other settings are refused. The folders stay as they are.

    \b
    Example, as a job array of 4:
      spikeattn profile --model sdt_8_512 --checkpoint W --data imagenet:PATH --shard $i/4 --out runs/part$i
      spikeattn merge runs/part* --out runs/8_512
    """
    from spikeattn.cli.run_summary import describe, summary_text
    from spikeattn.runs.shards import merge_shards

    done = merge_shards(folders, out, allow_mixed)
    if as_json:
        print_json({"run": str(out), **describe(done)})
    else:
        say(summary_text(done, full))
        say(f"run        {out}  (next: spikeattn energy {out}, spikeattn report {out})")

"""Energies of several runs under several conventions and cost tables, one row each, beside the same networks as ANNs.

    python scripts/energy_report.py runs/8_384 runs/8_512 --convention exact sdt-paper --out energies.csv

The runs are folders that `spikeattn profile --out` wrote; nothing is run again.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd

import spikeattn as sa
from spikeattn.energy.conventions import DEFAULT as EXACT
from spikeattn.energy.costs import DEFAULT as HOROWITZ
from spikeattn.storage import csv_text

COLUMNS = ("model", "untrained", "images", "time_steps", "accuracy", "mean_rate", "sops_per_image", "macs_per_image")
COLUMNS += ("convention", "costs", "first_conv", "energy_mj", "ann_energy_mj", "ann_over_snn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--convention", nargs="+", default=[EXACT], help="see `spikeattn conventions`")
    parser.add_argument("--costs", nargs="+", default=[HOROWITZ], help="see `spikeattn costs`; or .toml files")
    parser.add_argument("--out", default="energies.csv", help="csv file; default: %(default)s")
    given = parser.parse_args()

    rows = []
    for run in given.runs:
        profile = sa.Profile.load(run)
        for convention in given.convention:
            for costs in given.costs:
                summary = profile.summary(costs, convention)
                low, high = summary["energy_interval_mj"]
                row = {"run": run} | {key: summary[key] for key in COLUMNS}
                rows.append(row | {"energy_low_mj": low, "energy_high_mj": high})
    table = pd.DataFrame(rows)
    csv_text.save(table, given.out)
    shown = ["run", "untrained", "convention", "costs", "energy_mj", "ann_energy_mj", "ann_over_snn"]
    print(table[shown].to_string(index=False))
    print(given.out)


if __name__ == "__main__":
    try:
        main()
    except sa.SpikeattnError as error:
        sys.exit(f"error: {error}")

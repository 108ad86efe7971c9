"""Firing rates of a model in the layout of the Spike-driven Transformer paper's Table S1, as csv, LaTeX and Markdown.

    python scripts/export_firing_rates.py --model sdt_8_512 --checkpoint 8_512.pth.tar \
        --data imagenet:/data/imagenet --out rates/8_512

writes rates/8_512.csv, .tex and .md: any number of time steps, event data too, every image counted once, the tensors
that the layers receive as well as those that the published hooks see, and an interval over images. Without --checkpoint
the weights are those that come with the package. The counts behind the table stay in memory; `spikeattn profile` keeps
them, and `spikeattn rates` makes the same table of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import spikeattn as sa
from spikeattn.reporting import rate_table, to_latex, to_markdown
from spikeattn.storage import csv_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sdt_digits", help="see `spikeattn models`; default: %(default)s")
    parser.add_argument("--checkpoint", help="file of trained weights")
    parser.add_argument("--data", default="digits", help="as in `spikeattn profile`; default: %(default)s")
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("firing_rates"), help="path of the files without a suffix")
    given = parser.parse_args()

    model = sa.create_model(given.model, given.checkpoint, pretrained=given.checkpoint is None)
    loader = sa.make_loader(sa.open_dataset(given.data, model), given.batch_size, limit=given.limit)
    table = rate_table(sa.profile(model, loader, progress=True))

    given.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in (
        ("csv", csv_text.write(table)),
        ("tex", to_latex(table)),
        ("md", to_markdown(table)),
    ):
        path = given.out.with_name(f"{given.out.name}.{suffix}")
        path.write_text(content, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    try:
        main()
    except sa.SpikeattnError as error:
        sys.exit(f"error: {error}")

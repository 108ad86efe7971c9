"""Published Spike-driven Transformer weights on ImageNet: Table S1 and the energy under two conventions.

    python examples/published_sdt.py sdt_8_512 8_512.pth.tar imagenet:/data/imagenet --images 1000

The checkpoint is what the authors published (a timm .pth.tar), a state dict or a safetensors file. Writes table_s1.csv.
"""

from __future__ import annotations

import argparse

import torch

import spikeattn as sa
from spikeattn.reporting.tables.run_tables import rate_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", default="runs/published")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = sa.create_model(args.model, checkpoint=args.checkpoint).to(device)
    print("weights:", model.provenance["weights"], model.provenance["sha256"][:12], *model.provenance["notes"])
    loader = sa.make_loader(sa.open_dataset(args.data, model), batch_size=32, sample=args.images, seed=0)
    profile = sa.profile(model, loader, out=args.out, progress=True)
    rate_table(profile).to_csv("table_s1.csv", index=False)
    for convention in ("exact", "sdt-paper"):
        print(f"{convention:10s} {profile.energy(convention=convention).total}")
    print(*sa.compare(profile).sentences, sep="\n")


if __name__ == "__main__":
    main()

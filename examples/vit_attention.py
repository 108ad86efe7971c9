"""Where an ordinary vision transformer looks, and which of it is more than noise.

    python examples/vit_attention.py                                # a small ViT that comes with the package, on digits
    python examples/vit_attention.py --model vit_small_patch16_224 --checkpoint weights.safetensors \\
        --data folder:photos

Writes attention.csv: score, z, p, q and lfdr of every token of every image.
"""

from __future__ import annotations

import argparse

import timm
import torch

import spikeattn as sa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_digits")
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--replicates", type=int, default=100)
    args = parser.parse_args()
    model = timm.create_model(args.model, pretrained=args.model == "vit_digits", checkpoint_path=args.checkpoint).eval()
    loader = sa.make_loader(sa.open_dataset(args.data, model), batch_size=args.images, limit=args.images)
    batch = next(iter(loader))
    found = sa.attend(model, batch.images, null="normal", replicates=args.replicates)
    found.frame().to_csv("attention.csv", index=False)
    kept = found.regularized("lfdr")  # [image, h, w], zero where attention cannot be told from noise
    for name, scores, regularised, pi0 in zip(batch.ids, found.maps, kept, found.pi0, strict=True):
        share = (regularised > 0).mean()
        print(f"{name}: {share:.0%} of {scores.size} tokens kept at lfdr <= .1, share of noise {pi0:.2f}")
    print(torch.tensor(kept[0]).round(decimals=3))


if __name__ == "__main__":
    main()

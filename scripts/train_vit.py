"""Train the demo ViT, vit_digits, on scikit-learn's handwritten digits: some minutes on one CPU core.

    python scripts/train_vit.py --epochs 80 --seed 0 --threads 1

The recipe is that of `training/demo.py`.
"""

from __future__ import annotations

import torch
from training.demo import card, options, train, write

import spikeattn as sa
from spikeattn.models.vision import vit_digits

NAME = "vit_digits"
PEAK_RATE = 1e-3


def main() -> None:
    args = options(NAME, epochs=80)
    model = vit_digits()
    train_split, test_split = (sa.open_dataset("digits", model, split=split) for split in ("train", "test"))
    train(model, train_split.images, train_split.labels, args.epochs, PEAK_RATE)
    with torch.no_grad():
        right = int((model.eval()(test_split.images).argmax(1) == test_split.labels).sum())
    config = model.provenance["config"]
    write(args.out, model, card(args, "train_vit.py", NAME, config, PEAK_RATE, right, len(test_split)))


if __name__ == "__main__":
    main()

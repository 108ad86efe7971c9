"""Train the demo model, sdt_digits, on scikit-learn's handwritten digits: some minutes on one CPU core.

    python scripts/train_demo.py --epochs 40 --seed 0 --threads 1

The recipe is that of `training/demo.py`.
"""

from __future__ import annotations

from importlib.metadata import version

from torch import nn
from training.demo import PEAK_RATE, card, options, train, write

import spikeattn as sa

NAME = "sdt_digits"


def evaluate(model: nn.Module) -> sa.Profile:
    """The test split through the model, with every spike counted."""
    return sa.profile(model, sa.make_loader(sa.open_dataset("digits", model)))


def correct(profile: sa.Profile) -> tuple[int, int]:
    """Images classified right after the last time step, and all images."""
    rows = profile.counts.rows
    return int((rows[f"pred_{profile.time_steps}"] == rows["label"]).sum()), len(rows)


def main() -> None:
    args = options(NAME, epochs=40)
    model = sa.create_model(NAME)
    digits = sa.open_dataset("digits", model, split="train")
    train(model, digits.images, digits.labels, args.epochs)

    right, n = correct(evaluate(model))
    metadata = card(
        args, "train_demo.py", NAME, model.config, PEAK_RATE, right, n, spikingjelly=version("spikingjelly")
    )
    metadata["optimiser"] += ", sigmoid surrogate gradient"
    write(args.out, model, metadata)

    profile = evaluate(sa.create_model(NAME, checkpoint=args.out))
    if correct(profile) != (right, n):
        raise SystemExit("error: the written weights classify otherwise than the trained model")
    neurons = [tensor.name for tensor in profile.ledger.tensors if tensor.maker == "neuron"]
    rates = profile.rates().pivot(index="tensor", columns="t", values="nonzero_rate").loc[neurons]
    print(rates.to_string(float_format="{:.4f}".format))


if __name__ == "__main__":
    main()

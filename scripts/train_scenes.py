"""Train sdt_digits_scenes on digits somewhere on a black canvas, with squares of noise: half an hour on a CPU core.

    python scripts/train_scenes.py --epochs 40 --seed 0 --threads 1

Every training picture shows its digit at a new place, and 0 to 2 squares of noise, which may hide parts of it. Nothing
but the class is taught: no label, loss or mask says where to look. Otherwise the recipe is that of `training/demo.py`.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import torch
from torch import Tensor, nn
from training.demo import PEAK_RATE, SMOOTHING, card, options, train, write
from training.lif import written_out

import spikeattn as sa
from spikeattn.data.digit_scenes import CANVAS, SIDE, placed

NAME = "sdt_digits_scenes"
SQUARES, SMALLEST, LARGEST = 2, 8, 12  # of noise in a training picture, at most; sides in pixels
NOISE = (
    f"0 to {SQUARES} squares of {SMALLEST} to {LARGEST} pixels at random places, filled with N(mean, (f std)^2) of the "
    "picture, f from 0.75 to 1.5"
)


def scenes(digits: Tensor) -> Tensor:
    """Training pictures [B,1,32,32] of digits [B,1,16,16]: new places, and noise over some of each."""
    pictures = placed(digits, torch.randint(CANVAS - SIDE + 1, (len(digits), 2)))
    means, stds = pictures.mean((1, 2, 3)), pictures.std((1, 2, 3))
    for picture, mean, std in zip(pictures, means, stds, strict=True):
        for _ in range(int(torch.randint(SQUARES + 1, ()))):
            side = int(torch.randint(SMALLEST, LARGEST + 1, ()))
            top, left = torch.randint(CANVAS - side + 1, (2,)).tolist()
            factor = 0.75 + 0.75 * torch.rand(())
            picture[0, top : top + side, left : left + side] = mean + factor * std * torch.randn(side, side)
    return pictures


@torch.no_grad()
def right_with_noise(model: nn.Module, digits: Tensor, labels: Tensor) -> int:
    """Held-out digits classified right at new places and with noise as in training, drawn with another seed."""
    torch.manual_seed(10**6)
    return sum(
        int((model(scenes(some)).argmax(1) == of).sum())
        for some, of in zip(digits.split(60), labels.split(60), strict=True)
    )


def main() -> None:
    args = options(NAME, epochs=40)
    model = sa.create_model(NAME)
    digits, held_out = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(model(scenes(images)), labels)

    with written_out(model):
        train(model, digits.images, digits.labels, args.epochs, PEAK_RATE, loss_of)
        noisy = right_with_noise(model, held_out.images, held_out.labels)
    profile = sa.profile(model, sa.make_loader(sa.open_dataset("digits-scenes", model)))
    rows, table = profile.counts.rows, profile.rates()
    right = int((rows[f"pred_{profile.time_steps}"] == rows["label"]).sum())
    rates = table[table["t"].astype(str) == "mean"].set_index("tensor")["nonzero_rate"].drop("input")
    metadata = card(
        args, "train_scenes.py", NAME, model.config, PEAK_RATE, right, len(rows),
        data="digits-scenes: scikit-learn digits (UCI Optical Recognition of Handwritten Digits), x/16, 16x16 at a "
        "random place of 32x32 black pixels; the test accuracy is without noise",
        augmentation=f"a new place in every epoch; {NOISE}",
        mean_firing_rates=json.dumps({name: round(rate, 5) for name, rate in rates.items()}),
        test_correct_with_noise=str(noisy),
        spikingjelly=version("spikingjelly"),
    )  # fmt: skip
    metadata["optimiser"] += ", sigmoid surrogate gradient"
    write(args.out, model, metadata)
    print(rates.to_string(float_format="{:.4f}".format))
    print(f"with noise: {noisy}/{len(rows)} right")


if __name__ == "__main__":
    main()

"""The page of `train_br_npa.py`: its table and measurements in words, the conclusion by rule."""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from markdown_table import markdown_table
from torch import Tensor

from spikeattn.models.variants.br_npa import Representation

SHIPPED, AVERAGE = "average, as shipped", "average, fine-tuned"
UNTRAINED, BR_NPA = "BR-NPA, untrained", "BR-NPA, fine-tuned"
CLEAR = 2  # standard errors from which a difference counts


def difference(table: pd.DataFrame, one: str, other: str) -> tuple[int, float]:
    """Images that one head has right more than another, and the binomial standard error, as if they were other images.

    Both are tested on the same images, so the error is rather too large than too small.
    """
    first = table.groupby("head")[["correct", "images"]].first()
    p = first["correct"] / first["images"]
    variance = first["images"] * p * (1 - p)
    return int(first["correct"][one] - first["correct"][other]), float(variance[one] + variance[other]) ** 0.5


def conclusion(table: pd.DataFrame) -> str:
    """What the four accuracies say, in sentences.

    table: head, correct and images of `SHIPPED`, `AVERAGE`, `UNTRAINED` and `BR_NPA`.
    """
    pairs = {
        "Attaching BR-NPA, without training": (UNTRAINED, SHIPPED),
        "Fine-tuning with the average": (AVERAGE, SHIPPED),
        "Fine-tuning with BR-NPA": (BR_NPA, UNTRAINED),
        "BR-NPA against the average, both fine-tuned": (BR_NPA, AVERAGE),
        "BR-NPA fine-tuned against the shipped model": (BR_NPA, SHIPPED),
    }
    differences = {words: difference(table, *pair) for words, pair in pairs.items()}
    images = int(table["images"].iloc[0])
    lines = "; ".join(
        f"{words}: {more:+d} (standard error {error:.1f})" for words, (more, error) in differences.items()
    )
    tuned, gain = (
        differences["Fine-tuning with the average"],
        differences["BR-NPA fine-tuned against the shipped model"],
    )
    verdict = (
        "BR-NPA has more right than the shipped model."
        if gain[0] >= CLEAR * gain[1]
        else "**That BR-NPA improves the accuracy of the shipped model is not shown.**"
    )
    if tuned[0] < 0:
        by_chance = "clearly" if -tuned[0] >= CLEAR * tuned[1] else "within the error"
        verdict += (
            f" The average has fewer right after its fine-tuning than before, {by_chance}: what BR-NPA has above the "
            "fine-tuned average is no gain of the pooling."
        )
    return f"Right of {images} images, more or fewer: {lines}. {verdict}"


def page(
    args: argparse.Namespace,
    table: pd.DataFrame,
    macs: dict[str, int],
    sparsity: Tensor,
    memory: dict[str, int],
    explained: Representation,
    tokens: int,
) -> str:
    """br_npa.md: `explained` and the sparsity are of the fine-tuned BR-NPA."""
    columns = ["head", "accuracy", "ms per image", "training, s", "map", "DAUC", "IAUC", "Gini"]
    cells = [
        [
            row.head,
            f"{row.accuracy:.4f} [{row.accuracy_low:.4f}, {row.accuracy_high:.4f}]",
            f"{row.ms_per_image:.2f}",
            f"{row.train_seconds:.0f}",
            row.map,
            f"{row.dauc:.3f} ± {row.dauc_se:.3f}",
            f"{row.iauc:.3f} ± {row.iauc_se:.3f}",
            f"{row.gini:.3f}",
        ]
        for row in table.itertuples()
    ]
    alike = int((explained.maps.diff(dim=1).abs().amax((1, 2, 3)) < 1e-6).sum())
    lines = [
        "# BR-NPA against global average pooling on scikit-learn's digits",
        "",
        f"`python scripts/train_br_npa.py --epochs {args.epochs} --maps {args.maps} --images {args.images} "
        f"--steps {args.steps} --seed {args.seed}`, one CPU thread, torch {torch.__version__}.",
        "",
        f"The shipped weights of sdt_digits (SDT-2-64, T=4, {tokens} tokens) were trained with average pooling. They "
        "are tested as they are, with BR-NPA attached and nothing trained, and fine-tuned with either pooling for "
        f"{args.epochs} epochs: one seed, a start that favours average pooling. Accuracy on all test images with its "
        "Wilson 95 % interval. DAUC (delete to zero, low is good) and IAUC (reveal from a blur, high is good) on "
        f"{args.images} of them in {args.steps} steps, for the model's own prediction, with the standard error over "
        "images.",
        "",
        markdown_table(columns, cells),
        "",
        conclusion(table),
        "",
        f"BR-NPA's sparsity (lower is sparser): {sparsity.mean():.3f} over the {args.maps} maps; silent images: "
        f"{int(explained.silent.sum())}; images whose maps are all alike: {alike}.",
        "",
        f"MACs of the BR-NPA head per image: {macs['total']:,} (norms {macs['norms']:,}, cosines {macs['cosines']:,}, "
        f"sums {macs['sums']:,}, linear {macs['linear']:,}), real multiply-accumulates on firing rates, once an image.",
        "",
        f"Memory the pooling allocates for one image, in all: {memory['br_npa']:,} bytes; average pooling "
        f"{memory['average']:,} bytes.",
        "",
        "Average pooling has no map of its own: `norm` is the length of every token's firing-rate vector when its last "
        "LIF fires per token; `random` is one draw of noise; `maps` is the sum over the K maps of weight x norm. Times "
        "were taken while other programs ran. A difference below two standard errors shows nothing: where `maps` is no "
        "better than `random`, the maps are not shown to be faithful on these images.",
    ]
    return "\n".join(lines) + "\n"

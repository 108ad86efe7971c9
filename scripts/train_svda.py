"""Train SVDA beside plain softmax attention on scikit-learn's digits, measure both, prune SVDA: minutes on one core.

    python scripts/train_svda.py --epochs 40 --seeds 3 --threads 1

Both start from the same weights, see the same batches in the same order and have the same budget; the weights after the
last epoch are tested once. Written to reports/svda: svda.md with the tables, accuracy.csv, pruning.csv, indicators.csv
(epoch, layer, head) and a figure of the indicators per model for the first seed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from markdown_table import markdown_table
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import pad

import spikeattn as sa
from spikeattn.attention.indicator_log import IndicatorLog
from spikeattn.attention.indicators import INDICATORS
from spikeattn.data.digits import Digits
from spikeattn.models.variants import svda
from spikeattn.models.variants.pruning import attention_macs, prune
from spikeattn.reporting.figures.drawing import to_png, to_svg
from spikeattn.reporting.figures.indicator_curves import indicator_figure
from spikeattn.storage import csv_text

VIT = {"img_size": 16, "patch_size": 4, "in_chans": 1, "num_classes": 10, "embed_dim": 64, "depth": 3, "num_heads": 4}
TOKENS = 17
BATCH, RATE, WARM_UP, WEIGHT_DECAY, SMOOTHING = 64, 1e-3, 0.1, 0.05, 0.1
RETAIN = (0.99, 0.95, 0.9, 0.8, 0.6, 0.4)
LOGGED, EVERY = 32, 4  # images of the training split that the indicators are measured on, after how many epochs
MODELS = ("softmax", "SVDA", "SVDA per head")


def build(name: str, seed: int, tau: float) -> nn.Module:
    """The ViT of this seed, with SVDA in place of its attention where the name says so."""
    torch.manual_seed(seed)
    vit = VisionTransformer(**VIT)
    return vit if name == "softmax" else svda.convert(vit, tau, per_head=name == "SVDA per head")


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Every image moved by -1, 0 or 1 pixel in each direction at random, zeros coming in: [B, C, H, W] -> same."""
    B, _, H, W = images.shape
    windows = pad(images, (1, 1, 1, 1)).unfold(2, H, 1).unfold(3, W, 1)  # [B, C, 3, 3, H, W]
    down, right = torch.randint(3, (2, B))
    return windows[torch.arange(B), :, down, right]


def groups(model: nn.Module) -> list[dict]:
    """Matrices are decayed, vectors not; sigma learns in steps as large, against its own size, as RATE is against 1."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    sigma = [p for name, p in named if name.endswith(".sigma")]
    rest = [(name, p) for name, p in named if not name.endswith(".sigma")]
    found = [
        {"params": [p for _, p in rest if p.ndim > 1], "weight_decay": WEIGHT_DECAY, "lr": RATE},
        {"params": [p for _, p in rest if p.ndim <= 1], "weight_decay": 0.0, "lr": RATE},
    ]
    if sigma:
        found.append({"params": sigma, "weight_decay": 0.0, "lr": RATE * float(sigma[0].detach().mean())})
    return found


def train(model: nn.Module, digits: Digits, epochs: int, seed: int, log: IndicatorLog) -> float:
    """AdamW, a warm-up and a cosine schedule; the seconds spent on training alone."""
    optimiser = torch.optim.AdamW(groups(model))
    steps = epochs * -(-len(digits.images) // BATCH)
    rates = [group["lr"] for group in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, steps, pct_start=WARM_UP)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    torch.manual_seed(1000 + seed)  # order and shifts: the same for every model of this seed
    log.record(model, 0)
    seconds = 0.0
    for epoch in range(1, epochs + 1):
        start = time.monotonic()
        model.train()
        for batch in torch.randperm(len(digits.images)).split(BATCH):
            loss = loss_of(model(shifted(digits.images[batch])), digits.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        seconds += time.monotonic() - start
        if epoch % EVERY == 0 or epoch == epochs:
            log.record(model, epoch)
    model.eval()
    return seconds


@torch.no_grad()
def correct(model: nn.Module, digits: Digits) -> int:
    """Images classified right."""
    return int((model(digits.images).argmax(1) == digits.labels).sum())


def pruning(model: nn.Module, test: Digits) -> list[dict]:
    """Accuracy and attention MACs for every share of energy kept; 1 stands for the model as it is."""
    whole = sum(attention_macs(layer, TOKENS) for layer in svda.layers(model).values())
    directions = sum(sum(layer.directions) for layer in svda.layers(model).values())
    rows = [{"rho": 1.0, "directions": directions, "macs": whole, "accuracy": correct(model, test) / len(test)}]
    for rho in RETAIN:
        pruned = prune(model, rho, TOKENS)
        right = correct(pruned.model, test) / len(test)
        macs, kept = int(pruned.table["macs_pruned"].sum()), int(pruned.table["kept"].sum())
        rows.append({"rho": rho, "directions": kept, "macs": macs, "accuracy": right})
    return rows


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """A frame as a Markdown table."""
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row] for row in frame.itertuples(False)]
    return markdown_table(list(frame.columns), cells)


def write_page(out: Path, accuracy: pd.DataFrame, pruned: pd.DataFrame, logs: pd.DataFrame, command: str) -> None:
    """svda.md: what was trained, and the three tables."""
    seeds, n = accuracy["seed"].nunique(), int(accuracy["test_images"].iloc[0])
    by_model = accuracy.groupby("model", sort=False)
    overview = by_model["accuracy"].agg(["mean", "min", "max"]).reset_index()
    overview["parameters"] = by_model["parameters"].first().to_list()
    overview["seconds"] = by_model["seconds"].mean().round().astype(int).to_list()
    last = logs[logs["epoch"].isin([0, logs["epoch"].max()])]
    six = last.groupby(["model", "epoch"], sort=False)[list(INDICATORS)].mean().reset_index()
    cut = pruned.groupby(["model", "rho"], sort=False)[["directions", "macs", "accuracy"]].mean().reset_index()
    cut["macs"] = (cut["macs"] / cut.groupby("model")["macs"].transform("max")).to_list()
    cut = cut.rename(columns={"macs": "share of attention MACs"})
    cut["directions"] = [f"{kept:.0f}" for kept in cut["directions"]]
    learned = logs[(logs["kind"] == "svda") & (logs["epoch"] == logs["epoch"].max())]["effective_rank"]
    d = VIT["embed_dim"] // VIT["num_heads"]
    error = 100 * (overview["mean"].mean() * (1 - overview["mean"].mean()) / n) ** 0.5
    text = f"""# SVDA beside softmax attention, trained on digits

Written by `{command}` with torch {torch.__version__}.

ViT with {VIT["depth"]} blocks, D = {VIT["embed_dim"]}, {VIT["num_heads"]} heads, patches of {VIT["patch_size"]} pixels
({TOKENS} tokens with the class token) on scikit-learn's digits at 16x16, {seeds} seeds. The models of one seed start
from the same weights and see the same batches; AdamW {RATE}, weight decay {WEIGHT_DECAY}, batch {BATCH}, last epoch,
test split of {n} images looked at once per model. The learning rate of sigma is {RATE} times its initial value: with
the rate of the weights it would hardly leave its start within this budget.

## Accuracy

{markdown(overview, 4)}

min and max over the seeds. One seed's accuracy has a standard error of about {error:.1f} percentage points from the
number of test images alone: smaller differences say nothing. Seconds are of training, on a machine with other work.
The learning rate was not tuned for each model; SVDA starts with sharper attention (selectivity at epoch 0), so part of
a difference within a small budget may be the start and not the layer. Patch size and epochs were set after 25 epochs
with patches of 2 pixels, whose test accuracies were seen, had left softmax attention and one SVDA model unconverged.

## Indicators

Means over layers, heads and seeds, on {LOGGED} training images; per layer, head and epoch in `indicators.csv`, drawn
for the first seed in `indicators-*.svg`. The spectrum of SVDA is its learned sigma, that of softmax attention the
singular values of Q K^T: their entropies have the same range, but they are not the same quantity.

{markdown(six)}

## Pruning by energy, without training afterwards

{markdown(cut, 4)}

rho is the share of the sum of sigma^2 that every head keeps; directions are those of all heads and layers, the mean
over seeds; MACs of the attention layers, projections included. How much the rule can know depends on how far the
spectra have left their flat start: their effective rank at the end is {learned.min():.2f} to {learned.max():.2f} of {d}
directions. Close to {d}, sigma hardly ranks them, and the table says what removing about so many of them costs.
"""
    (out / "svda.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train SVDA and softmax attention on digits, side by side.")
    default = Path(__file__).resolve().parents[1] / "reports" / "svda"
    parser.add_argument("--out", type=Path, default=default, help="folder of the report (default: reports/svda)")
    parser.add_argument("--epochs", type=int, default=40, help="default: 40")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default: 3)")
    parser.add_argument("--tau", type=float, default=svda.TAU, help=f"initial temperature (default: {svda.TAU:g})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if min(args.epochs, args.seeds, args.threads) < 1:
        parser.error("--epochs, --seeds and --threads take whole numbers of at least 1")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    accuracy, pruned, logs = [], [], []
    for seed in range(args.seeds):
        for name in MODELS:
            model, log = build(name, seed, args.tau), IndicatorLog(train_set.images[:LOGGED])
            seconds = train(model, train_set, args.epochs, seed, log)
            right, n = correct(model, test_set), len(test_set)
            run = {"model": name, "seed": seed}
            size = sum(p.numel() for p in model.parameters())
            accuracy.append(run | {"accuracy": right / n, "correct": right, "test_images": n, "parameters": size})
            accuracy[-1]["seconds"] = round(seconds, 1)
            logs.append(log.frame.assign(**run))
            if name != "softmax":
                pruned += [run | row for row in pruning(model, test_set)]
            if seed == 0:
                figure, stem = indicator_figure(log.frame), f"indicators-{name.lower().replace(' ', '-')}"
                (args.out / f"{stem}.svg").write_text(to_svg(figure), encoding="utf-8")
                (args.out / f"{stem}.png").write_bytes(to_png(figure, dpi=110))
            print(f"{name}, seed {seed}: {right}/{n} right, {seconds:.0f} s")
    frames = {"accuracy": pd.DataFrame(accuracy), "pruning": pd.DataFrame(pruned), "indicators": pd.concat(logs)}
    for name, frame in frames.items():
        order = ["model", "seed", *(column for column in frame.columns if column not in ("model", "seed"))]
        csv_text.save(frame[order], args.out / f"{name}.csv", "%.5g")
    command = f"python scripts/train_svda.py --epochs {args.epochs} --seeds {args.seeds} --tau {args.tau:g}"
    write_page(args.out, *frames.values(), f"{command} --threads {args.threads}")


if __name__ == "__main__":
    main()

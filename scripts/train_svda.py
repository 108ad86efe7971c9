"""Train SVDA beside softmax attention on scikit-learn's digits, measure them, prune SVDA: minutes on one core.

    python scripts/train_svda.py --epochs 40 --seeds 3 --tau 10 --threads 1

SVDA starts with sharper attention than softmax, so softmax is also trained from q and k weights x LARGER, the control
that tells the start from the layer. All models of a seed start from the same weights but for that, see the same batches
in the same order and have the same budget; the weights after the last epoch are tested once. Written to reports/svda
after every model: accuracy.csv, pruning.csv, indicators.csv (epoch, layer, head), a figure of the indicators per model
for the first seed; at the end svda.md, which `svda_page.py` makes from the tables.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from svda_page import CONTROL, LARGER, LAYERS, write_page
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import pad

import spikeattn as sa
from spikeattn.attention.indicator_log import IndicatorLog
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
MODELS = ("softmax", CONTROL, *LAYERS)


def build(name: str, seed: int, tau: float) -> nn.Module:
    """The ViT of this seed, with the start or the attention that the name says."""
    torch.manual_seed(seed)
    vit = VisionTransformer(**VIT)
    if name == CONTROL:
        enlarge(vit, LARGER)
    return svda.convert(vit, tau, per_head=name == "SVDA") if name in LAYERS else vit


@torch.no_grad()
def enlarge(vit: VisionTransformer, factor: float) -> None:
    """Multiply the weights of q and k in every block by a factor, and so the scores of attention by its square."""
    for block in vit.blocks:
        qkv = block.attn.qkv
        qkv.weight[: 2 * qkv.in_features] *= factor  # rows of q, of k, of v


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


def run(name: str, seed: int, args: argparse.Namespace, train_set: Digits, test_set: Digits) -> dict[str, pd.DataFrame]:
    """One training: rows for accuracy.csv, indicators.csv and, of SVDA, pruning.csv; the first seed's figure."""
    model, log = build(name, seed, args.tau), IndicatorLog(train_set.images[:LOGGED])
    seconds = train(model, train_set, args.epochs, seed, log)
    right, n = correct(model, test_set), len(test_set)
    row = {
        "accuracy": right / n,
        "correct": right,
        "test_images": n,
        "parameters": sum(map(torch.numel, model.parameters())),
    }
    rows = {"accuracy": pd.DataFrame([row | {"seconds": round(seconds, 1)}]), "indicators": log.frame}
    if name in LAYERS:
        rows["pruning"] = pd.DataFrame(pruning(model, test_set))
    if seed == 0:
        figure, stem = indicator_figure(log.frame), f"indicators-{name.lower().replace(' ', '-')}"
        (args.out / f"{stem}.svg").write_text(to_svg(figure), encoding="utf-8")
        (args.out / f"{stem}.png").write_bytes(to_png(figure, dpi=110))
    print(f"{name}, seed {seed}: {right}/{n} right, {seconds:.0f} s", flush=True)
    return rows


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
    command = f"python scripts/train_svda.py --epochs {args.epochs} --seeds {args.seeds} --tau {args.tau:g}"
    train_all(args)
    write_page(args.out, describe(f"{command} --threads {args.threads}"))


def train_all(args: argparse.Namespace) -> None:
    """Every model and seed; the tables are written after each, so that a run that is cut short leaves what it has."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    tables: dict[str, list[pd.DataFrame]] = {"accuracy": [], "indicators": [], "pruning": []}
    for seed in range(args.seeds):
        for name in MODELS:
            for table, rows in run(name, seed, args, train_set, test_set).items():
                rows.insert(0, "model", name)
                rows.insert(1, "seed", seed)
                tables[table].append(rows)
                csv_text.save(pd.concat(tables[table]), args.out / f"{table}.csv", "%.5g")


def describe(command: str) -> str:
    """The head of the page: what was trained, and how."""
    return f"""# SVDA beside softmax attention, trained on digits

Written by `{command}` with torch {torch.__version__}.

ViT with {VIT["depth"]} blocks, D = {VIT["embed_dim"]}, {VIT["num_heads"]} heads, patches of {VIT["patch_size"]} pixels
({TOKENS} tokens with the class token) on scikit-learn's digits at 16x16. The models of one seed start from the same
weights, but for `{CONTROL}`, and see the same batches; AdamW {RATE}, weight decay {WEIGHT_DECAY}, batch {BATCH}, last
epoch, test split looked at once per model. The learning rate of sigma is {RATE} times its initial value: with the rate
of the weights it would hardly leave its start within this budget. `SVDA` has a spectrum per head, `SVDA shared` one per
layer. Indicators are measured on {LOGGED} training images."""


if __name__ == "__main__":
    main()

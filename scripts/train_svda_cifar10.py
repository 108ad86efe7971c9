"""Train SVDA beside softmax attention on CIFAR-10, same weights, batches and budget, on one GPU in minutes.

    python scripts/train_svda_cifar10.py --data ../shared/data/cifar10_jpg --seconds 180

--data is a folder with train.parquet and test.parquet, each with the columns image (JPEG bytes) and label. The images
are decoded once and stay on the device, where they are shifted and flipped. How many epochs fit into --seconds is
measured at the start, and is the same for all runs; --epochs sets it instead. The test split is looked at once per
model, after the last epoch. The control is softmax attention from q and k weights x LARGER, as in train_svda.py.
Written to reports/svda: cifar10.md, and cifar10_accuracy, _indicators, _pruning.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from svda_page import markdown
from torch import Tensor, nn
from train_svda import RATE, SMOOTHING, WARM_UP, WEIGHT_DECAY, enlarge, groups

from spikeattn.attention.indicator_log import IndicatorLog
from spikeattn.attention.indicators import INDICATORS
from spikeattn.data.decoding import decode
from spikeattn.models.configs import data_config
from spikeattn.models.variants import svda
from spikeattn.models.variants.pruning import attention_macs, prune
from spikeattn.reporting.figures.drawing import to_png, to_svg
from spikeattn.reporting.figures.indicator_curves import indicator_figure
from spikeattn.storage import csv_text

BATCH = 500
LARGER = 3.6  # takes q and k of 192 channels to a standard deviation of 1, as LARGER of svda_page.py those of 64
CONTROL = f"softmax x {LARGER}"
MODELS = ("softmax", CONTROL, "SVDA")
LOGGED = 32  # training images that the indicators are measured on, on the CPU
RETAIN = (0.99, 0.95, 0.9, 0.8, 0.6, 0.4)
TOKENS = 65


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, 3, 32, 32] and labels [N] on a device."""

    images: Tensor
    labels: Tensor


def read(file: Path, limit: int | None, device: torch.device) -> Split:
    """One parquet file, decoded in threads."""
    table = pd.read_parquet(file).iloc[:limit]
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(lambda data: np.asarray(decode(data, "RGB")), table["image"]))
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return Split(images.to(device), torch.tensor(table["label"].to_numpy(), device=device))


def prepared(images: Tensor) -> Tensor:
    """Bytes to the model's input, by the mean and deviation that go with CIFAR-10."""
    cfg = data_config("cifar10", (32, 32), 3, 10)
    mean, std = (torch.tensor(cfg[name], device=images.device).view(3, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image moved by up to 4 pixels, the mean coming in, and flipped at random: [B, C, H, W] -> same."""
    B, _, H, W = images.shape
    down, right = torch.randint(9, (2, B, 1), generator=generator, device=images.device)
    flip = torch.rand(B, 1, generator=generator, device=images.device) < 0.5
    rows = down + torch.arange(H, device=images.device)
    columns = right + torch.arange(W, device=images.device)
    columns = torch.where(flip, columns.flip(1), columns)
    padded = F.pad(images, (4, 4, 4, 4))
    index = torch.arange(B, device=images.device).view(B, 1, 1)
    return padded[index, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def build(name: str, seed: int, tau: float) -> nn.Module:
    """The ViT of this seed, with the start or the attention that the name says."""
    torch.manual_seed(seed)
    vit = svda.vit_tiny()
    if name == CONTROL:
        enlarge(vit, LARGER)
    return svda.convert(vit, tau) if name == "SVDA" else vit


def ready(name: str, seed: int, args: argparse.Namespace) -> nn.Module:
    """The model on the device; its blocks compiled one by one, so that all of them share one compilation."""
    model = build(name, seed, args.tau).to(args.device)
    if args.compile:
        for block in model.blocks:
            block.compile()
    return model


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where it is fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


class Training:
    """AdamW, a warm-up and a cosine schedule; `step` takes one batch."""

    def __init__(self, model: nn.Module, steps: int, device: torch.device) -> None:
        self.model, self.device = model.train(), device
        self.optimiser = torch.optim.AdamW(groups(model), fused=device.type == "cuda")
        rates = [group["lr"] for group in self.optimiser.param_groups]
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, rates, steps, pct_start=WARM_UP)

    def step(self, images: Tensor, labels: Tensor) -> None:
        with autocast(self.device):
            loss = F.cross_entropy(self.model(images), labels, label_smoothing=SMOOTHING)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()


def batches(train: Split, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented batches without end, the same for every model of a seed; what fills no batch is left out."""
    generator = torch.Generator(train.images.device).manual_seed(1000 + seed)
    while True:
        order = torch.randperm(len(train.labels), generator=generator, device=train.images.device)
        for batch in order[: len(order) // batch_of(train) * batch_of(train)].split(batch_of(train)):
            yield augmented(prepared(train.images[batch]), generator), train.labels[batch]


def batch_of(split: Split) -> int:
    return min(BATCH, len(split.labels))


@torch.no_grad()
def correct(model: nn.Module, test: Split) -> int:
    """Images classified right."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=test.images.device)
    for images, labels in zip(test.images.split(BATCH), test.labels.split(BATCH), strict=True):
        with autocast(images.device):
            right += (model(prepared(images)).argmax(1) == labels).sum()
    return int(right)


def epochs_that_fit(train: Split, args: argparse.Namespace) -> int:
    """Epochs for which all runs take --seconds, from some steps of each model after its warm-up."""
    spent = 0.0
    for name in MODELS:
        training, source = Training(ready(name, 0, args), 1000, args.device), batches(train, 0)
        for count in (5, 10):
            if args.device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                training.step(*next(source))
            if args.device.type == "cuda":
                torch.cuda.synchronize()
        spent += (time.perf_counter() - start) / count
    return max(1, int(args.seconds / (args.seeds * spent * (len(train.labels) // batch_of(train)))))


def run(
    name: str, seed: int, train: Split, epochs: int, args: argparse.Namespace
) -> tuple[nn.Module, IndicatorLog, float]:
    """One training: the model, its indicators at start, half-way and end, and the seconds of the steps."""
    log = IndicatorLog(prepared(train.images[:LOGGED]).cpu())

    def record(epoch: int) -> None:
        copy = build(name, seed, args.tau)
        copy.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
        log.record(copy, epoch)

    model = ready(name, seed, args)
    per_epoch = len(train.labels) // batch_of(train)
    training, source, seconds = Training(model, epochs * per_epoch, args.device), batches(train, seed), 0.0
    record(0)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        for _ in range(per_epoch):
            training.step(*next(source))
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - start
        if epoch in (epochs // 4, epochs // 2, epochs):
            record(epoch)
    return model, log, seconds


def pruning(model: nn.Module, right: int, test: Split) -> list[dict]:
    """Accuracy and attention MACs for every share of energy kept, without training afterwards; 1 is the model as is."""
    layers = svda.layers(model).values()
    whole, n = sum(attention_macs(layer, TOKENS) for layer in layers), len(test.labels)
    rows = [{"rho": 1.0, "directions": sum(sum(x.directions) for x in layers), "macs": whole, "accuracy": right / n}]
    for rho in RETAIN:
        pruned = prune(model, rho, TOKENS)
        macs, kept = int(pruned.table["macs_pruned"].sum()), int(pruned.table["kept"].sum())
        rows.append({"rho": rho, "directions": kept, "macs": macs, "accuracy": correct(pruned.model, test) / n})
    return rows


def write(out: Path, accuracy: list[dict], logs: list[pd.DataFrame], pruned: list[dict], about: str) -> None:
    """Everything known so far; called after every run, so that a run that is cut short leaves what it has."""
    frames = {"accuracy": pd.DataFrame(accuracy), "indicators": pd.concat(logs), "pruning": pd.DataFrame(pruned)}
    for name, frame in frames.items():
        if len(frame):
            order = ["model", "seed", *(column for column in frame.columns if column not in ("model", "seed"))]
            csv_text.save(frame[order], out / f"cifar10_{name}.csv", "%.5g")
    by_model = frames["accuracy"].groupby("model", sort=False)
    overview = by_model["accuracy"].agg(["mean", "min", "max", "count"]).rename(columns={"count": "seeds"})
    overview["parameters"], overview["seconds"] = by_model["parameters"].first(), by_model["seconds"].mean()
    logged = frames["indicators"]
    six = logged.groupby(["model", "epoch"], sort=False)[list(INDICATORS)].mean().reset_index()
    parts = [about, "## Accuracy", markdown(overview.reset_index(), 4)]
    pairs = frames["accuracy"].pivot(index="seed", columns="model", values="accuracy").dropna()
    if set(pairs) == set(MODELS) and len(pairs) > 1:
        lines, mean, n = [], overview["mean"].mean(), int(frames["accuracy"]["test_images"].iloc[0])
        for one, other in (("SVDA", "softmax"), (CONTROL, "softmax"), ("SVDA", CONTROL)):
            gain = 100 * (pairs[one] - pairs[other])
            error = gain.std(ddof=1) / len(gain) ** 0.5
            lines.append(f"{one} minus {other} {gain.mean():.2f} (standard error {error:.2f})")
        parts.append(
            f"Percentage points, mean over {len(pairs)} seeds: {', '.join(lines)}. `{CONTROL}` is softmax attention "
            f"with q and k weights {LARGER} times larger at the start: what it gains over softmax is the start's, not "
            f"a layer's. One model's accuracy has a standard error of {100 * (mean * (1 - mean) / n) ** 0.5:.2f} "
            "points from the number of test images alone. The learning rate was not tuned for any."
        )
    parts += [
        "## Indicators",
        f"Means over layers, heads and seeds, on {LOGGED} training images; per layer and head in "
        "`cifar10_indicators.csv`. The spectrum of SVDA is its learned sigma, that of softmax attention the singular "
        "values of Q K^T: their entropies have the same range, but they are not the same quantity.",
        markdown(six),
    ]
    if pruned:
        cut = frames["pruning"].groupby(["model", "rho"], sort=False)[["directions", "macs", "accuracy"]].mean()
        cut["macs"] /= cut["macs"].max()
        parts += [
            "## Pruning by energy, without training afterwards",
            markdown(cut.reset_index().rename(columns={"macs": "share of attention MACs"}), 4),
        ]
    (out / "cifar10.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train SVDA and softmax attention on CIFAR-10, side by side.")
    default = Path(__file__).resolve().parents[1] / "reports" / "svda"
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, default=default, help="folder of the report (default: reports/svda)")
    parser.add_argument("--seconds", type=float, default=180, help="of all training steps together (default: 180)")
    parser.add_argument("--epochs", type=int, help="instead of what --seconds allows")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default: 3)")
    parser.add_argument("--tau", type=float, default=svda.TAU, help=f"initial temperature (default: {svda.TAU:g})")
    parser.add_argument("--limit", type=int, help="images of each split, to try the script out")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="run the blocks as they are")
    args = parser.parse_args()
    args.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch._dynamo.config.suppress_errors = True  # without a compiler the blocks run as they are
    torch.backends.cuda.matmul.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    train, test = (read(args.data / f"{split}.parquet", args.limit, args.device) for split in ("train", "test"))
    epochs = args.epochs or epochs_that_fit(train, args)
    device = torch.cuda.get_device_name() if args.device.type == "cuda" else "CPU"
    print(f"{len(train.labels)} images read, {epochs} epochs; {time.perf_counter() - start:.0f} s so far", flush=True)
    about = (
        "# SVDA beside softmax attention, trained on CIFAR-10\n\n"
        f"`python scripts/train_svda_cifar10.py --data DIR --epochs {epochs} --seeds {args.seeds} --tau {args.tau:g}` "
        f"on {device}, torch {torch.__version__}{', bf16 autocast' if args.device.type == 'cuda' else ''}.\n\n"
        f"ViT-Ti for 32x32 pixels in patches of 4 ({TOKENS} tokens with the class token, depth 12, D=192, 3 heads), "
        f"{len(train.labels)} training and {len(test.labels)} test images (JPEG copies of CIFAR-10), {epochs} epochs, "
        f"batch {batch_of(train)}, AdamW {RATE}, weight decay {WEIGHT_DECAY}, label smoothing {SMOOTHING}, random "
        f"shifts of 4 pixels and flips. The models of a seed start from the same weights, but for {CONTROL}, and see "
        f"the same batches; the learning rate of sigma is {RATE} times its initial value. Weights after the last "
        "epoch, test split looked at once per model. A budget of minutes: no model has converged."
    )
    accuracy, logs, pruned = [], [], []
    for seed in range(args.seeds):
        for name in MODELS:
            model, log, seconds = run(name, seed, train, epochs, args)
            right, n, identity = correct(model, test), len(test.labels), {"model": name, "seed": seed}
            size = sum(p.numel() for p in model.parameters())
            accuracy.append(identity | {"accuracy": right / n, "correct": right, "test_images": n, "parameters": size})
            accuracy[-1]["seconds"] = round(seconds, 1)
            logs.append(log.frame.assign(**identity))
            if name == "SVDA":
                plain = build(name, seed, args.tau).to(args.device)
                plain.load_state_dict(model.state_dict())
                pruned += [identity | row for row in pruning(plain, right, test)]
            if seed == 0:
                figure = indicator_figure(log.frame)
                (args.out / f"cifar10-indicators-{name.lower()}.svg").write_text(to_svg(figure), encoding="utf-8")
                (args.out / f"cifar10-indicators-{name.lower()}.png").write_bytes(to_png(figure, dpi=110))
            write(args.out, accuracy, logs, pruned, about)
            spent = time.perf_counter() - start
            print(f"{name}, seed {seed}: {right}/{n} right, {seconds:.0f} s; {spent:.0f} s so far", flush=True)


if __name__ == "__main__":
    main()

"""Attention regularisation of one image: the authors' code beside ours, on the same ViT-S/16 with the same weights.

--theirs is a checkout of github.com/ncchung/AttentionRegularization (Apache-2.0), which runs unedited; what it imports
and is not installed is stood in for (see `stand_ins`). Their code takes any model with `get_last_selfattention`: here
timm's blocks with fused kernels up to the last attention, and nothing behind it. Without --theirs the same loop as
described in the paper runs instead: one replicate at a time, gradients on, maps at the size of the image, statistics on
pixels.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention import replicates as engine
from spikeattn.attention.local_fdr import local_fdr
from spikeattn.attention.nulls import draw_inputs
from spikeattn.attention.significance import assess

from .attend_estimators import compare
from .timing import alternate, joined, medians, ratio, wait, write

MODEL, SIZE, PATCH = "vit_small_patch16_224", 224, 16
MASKS = ("p", "lfdr", "pi0")
BATCHES = {"cpu": (1, 8, 32), "cuda": (25, 100)}


class LastAttention(nn.Module):
    """A timm ViT with the method that the authors' wrapper calls: softmax of the last block, [B, heads, N, N]."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit = vit

    def get_last_selfattention(self, x: Tensor) -> Tensor:
        vit = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))
        for block in vit.blocks[:-1]:
            x = block(x)
        last = vit.blocks[-1]
        qkv = last.attn.qkv(last.norm1(x)).unflatten(-1, (3, last.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return (qkv[0] @ qkv[1].mT * last.attn.scale).softmax(-1)


def stand_ins() -> list[str]:
    """Modules in the place of what the authors' code imports and this environment lacks; their names.

    None of them is in the path that is timed but `local_fdr` (ours, which is statsmodels' to 1e-5) and `pi0est` (the
    share of p above .89 over .11, as their package computes it).
    """

    def pi0est(p: Any) -> float:
        return min(1.0, max(1, int((np.asarray(p) > 0.89).sum())) / (0.11 * np.size(p)))

    wanted = {
        "statsmodels.stats.multitest": {"local_fdr": lambda z, null_proportion=1.0: local_fdr(z, null_proportion)},
        "qvalue.qvalue": {"pi0est": pi0est, "qvalue": None, "plot_qvalue": None},
        "pytorch_lightning": {"LightningModule": nn.Module},
        "torchmetrics": {},
        "seaborn": {},
        "cmasher": {},
    }
    made = []
    for name, content in wanted.items():
        try:
            importlib.import_module(name)
        except ImportError:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                path = ".".join(parts[:depth])
                sys.modules.setdefault(path, types.ModuleType(path))
            vars(sys.modules[name]).update(content)
            made.append(name)
    return made


def authors(folder: Path, vit: nn.Module, device: str) -> tuple[Callable[..., dict[str, np.ndarray]], list[str]]:
    """A function (image, replicates, draws or None) -> masks [h, w] by their code, and what was stood in for."""
    missing = stand_ins()
    sys.path.insert(0, str(folder))
    from attnreg.attention import ViTWrapper
    from attnreg.regularization import attention_uncertainty, regularize_attention_all

    wrapper = ViTWrapper(LastAttention(vit), img_size=(SIZE, SIZE), patch_size=PATCH, device=device)

    def run(image: Tensor, B: int, draws: Tensor | None = None) -> dict[str, np.ndarray]:
        image = image[None].clone().requires_grad_()  # as their load_img does
        given = {} if draws is None else {"bootstrap_method": lambda x, n, **options: draws[None]}
        found = attention_uncertainty(wrapper, image, bootstrap_N=B, **given)
        lfdr, z, _, p, pi0, observed = found[:6]
        maps = regularize_attention_all(lfdr, z, p, pi0, observed)
        return {name: maps[at][::PATCH, ::PATCH] > 0 for name, at in (("p", 0), ("lfdr", 2), ("pi0", 3))}

    return run, missing


def described(vit: nn.Module) -> Callable[..., dict[str, np.ndarray]]:
    """The same loop written down from the description."""
    model = LastAttention(vit)

    def pixels(image: Tensor) -> np.ndarray:
        row = model.get_last_selfattention(image[None])[:, :, 0, 1:].unflatten(-1, (SIZE // PATCH, -1))
        return F.interpolate(row, scale_factor=PATCH).mean(1)[0].detach().cpu().numpy()

    def run(image: Tensor, B: int, draws: Tensor | None = None) -> dict[str, np.ndarray]:
        image = image.clone().requires_grad_()
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        draws = torch.randn(B, *image.shape, device=image.device) * std + mean if draws is None else draws
        observed, null = pixels(image), np.stack([pixels(one) for one in draws])
        found = assess(observed, null, "published")
        maps = {name: sa.attention.regularize.regularize(observed, found, name) for name in MASKS}
        return {name: kept[::PATCH, ::PATCH] > 0 for name, kept in maps.items()}

    return run


def ours(vit: nn.Module, dtype: torch.dtype | None) -> Callable[[Tensor, int], dict[str, np.ndarray]]:
    def run(image: Tensor, B: int) -> dict[str, np.ndarray]:
        found = sa.attend(vit, image[None], "normal", B, estimator="published", dtype=dtype)
        return {name: found.regularized(name)[0] > 0 for name in MASKS}

    return run


def pictures(n: int) -> Tensor:
    """Seeded images [n, 3, 224, 224]: a smooth random field with a textured disc on it."""
    g = torch.Generator().manual_seed(0)
    field = F.interpolate(torch.randn(n, 3, 8, 8, generator=g), size=SIZE, mode="bicubic")
    at = torch.arange(SIZE)
    centres = torch.randint(60, SIZE - 60, (n, 2), generator=g)
    square = [(at[None] - centres[:, i, None]) ** 2 for i in (0, 1)]
    disc = (square[0][:, :, None] + square[1][:, None] < 45**2)[:, None]
    return torch.where(disc, 1.5 * torch.randn(n, 3, SIZE, SIZE, generator=g).sign(), field)


def parts_of(vit: nn.Module, image: Tensor, B: int, device: str, only: list[str] | None) -> dict[str, float]:
    """Milliseconds per replicate: the draws, the forward pass by batch and type, the statistics."""

    def clock(call: Callable[[], Any], n: int) -> float:
        call()
        times = []
        for _ in range(3):
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            times.append(time.perf_counter() - start)
        return 1e3 * sorted(times)[1] / n

    rng = np.random.default_rng(0)
    null = np.exp(0.1 * rng.standard_normal((B, SIZE // PATCH, SIZE // PATCH)))
    found = {
        "draws": clock(lambda: draw_inputs("normal", image, range(B)), B),
        "statistics": clock(lambda: assess(null[0] * 1.01, null, "published"), B),
    }
    for name, dtype in kinds(device).items():
        if only and name not in only:
            continue
        model = vit if dtype is None else engine.lower(vit, dtype, torch.device(device))
        for b in BATCHES["cpu" if device == "cpu" else "cuda"]:
            batch = image.expand(b, -1, -1, -1).to(dtype or torch.float32).contiguous()
            found[f"pass, {name}, batch {b}"] = clock(lambda m=model, x=batch: sa.attention_map(m, x), b)
    return found


def kinds(device: str) -> dict[str, torch.dtype | None]:
    usual: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
    return usual if device == "cpu" else usual | {"fp16": torch.float16}


def run(args: argparse.Namespace) -> None:
    """Seconds per replicate, agreement of the masks, and where the time goes."""
    torch.manual_seed(0)
    vit = timm.create_model(MODEL, num_classes=10).eval().to(args.device)
    B, images = args.replicates, pictures(args.images).to(args.device)
    missing: list[str] = []
    if args.theirs:
        them, missing = authors(Path(args.theirs), vit, args.device)
        label = "the authors' code, fp32"
    else:
        print("no --theirs: the loop as described runs in the place of the authors' code", file=sys.stderr)
        them, label = described(vit), "their loop as described, fp32"
    chosen = {f"ours, {name}": ours(vit, dtype) for name, dtype in kinds(args.device).items()}
    if args.only:
        chosen = {name: call for name, call in chosen.items() if name.removeprefix("ours, ") in args.only}
    contestants = {label: lambda: them(images[0], B)}
    contestants |= {name: (lambda call=call: call(images[0], B)) for name, call in chosen.items()}
    what = f"{MODEL}, random weights, one image of {SIZE} px, null normal, B={B}, p, lfdr and pi0 masks at .1"
    name = "attend" if args.device == "cpu" else "attend-cuda"
    rounds = joined(Path(args.out) / f"{name}.json", what, alternate(contestants, args.rounds, args.device), args.merge)
    agree: dict[str, dict[str, float]] = {key: dict.fromkeys(MASKS, 0.0) for key in chosen}
    kept = dict.fromkeys(MASKS, 0.0)
    for image in images:
        draws = draw_inputs("normal", image, range(B))
        expected = them(image, B, draws)
        for mask in MASKS:
            kept[mask] += expected[mask].mean() / len(images)
        for key, call in chosen.items():
            found = call(image, B)
            for mask in MASKS:
                agree[key][mask] += (found[mask] == expected[mask]).mean() / len(images)
    middle = medians(rounds)
    table = [("", "ms per replicate", f"{label} / this", *(f"same {mask} mask" for mask in MASKS))]
    for key, seconds in middle.items():
        times = ratio(rounds, label, key)
        same = [f"{agree[key][mask]:.2%}" for mask in MASKS] if key in agree else ["", "", ""]
        table.append((key, f"{1e3 * seconds / B:.2f}", f"{times:.2f}", *same))
    parts = parts_of(vit, images[0], B, args.device, args.only)
    estimators, beside = compare(vit, images[0], B, args.rounds, args.device)
    rows = [("part of ours", "ms per replicate"), *((key, f"{value:.3f}") for key, value in parts.items())]
    notes = [
        f"{len(rounds)} rounds, alternating in one process after one that is not counted; masks compared on "
        f"{len(images)} images, both on the same replicates; of the tokens they keep "
        + ", ".join(f"{kept[mask]:.1%} ({mask})" for mask in MASKS),
        f"stood in for in the authors' imports: {', '.join(missing) or 'nothing'}" if args.theirs else label,
    ]
    result = {"rounds": rounds, "agreement": agree, "kept": kept, "parts_ms": parts, "stood_in": missing}
    result["estimators"] = estimators
    write(Path(args.out), name, what, args.device, result, [table, beside, rows], notes)

"""Noise planted in images: what attention it keeps, and what the object keeps, on trained models and on real photos.

    python scripts/evaluate_attention.py --photos ../shared/data/imagenet_sample/val

Which map, layer, head, null and threshold serve a model best is chosen on digits of the training split, by two rules
(what the digit keeps beyond the noise: share of its tokens, and part of the map's total), and measured on digits of the
test split beside the defaults. Writes evaluation.csv, chosen.csv, randomised.csv and evaluation.md into
reports/attention; with --models only the rows of these models are measured anew.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from evaluation_page import page
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.evaluate import Evaluation, object_scores, ratio, region_scores
from spikeattn.attention.planted import coverage, noise_square
from spikeattn.attention.regularize import regularize
from spikeattn.attention.sanity import randomisation_check
from spikeattn.attention.significance import AttentionWarning, assess
from spikeattn.data.decoding import decode
from spikeattn.storage import csv_text

INK = 0.5  # of a pixel of a digit: from here on it belongs to the object
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
SPIKES = ("Vhat_S", "V_S", "gate", "drive")
KINDS = {"sdt_digits": SPIKES, "vit_digits": ("cls", "received"), "sdt_digits_scenes": SPIKES}
DATA = {"sdt_digits": "digits", "vit_digits": "digits", "sdt_digits_scenes": "digits-scenes"}
NULLS = ("normal", "patch")
TABLES = {"evaluation": "%.6g", "chosen": "%.5g", "randomised": "%.5g"}  # digits of their numbers
CHOICE, TEST = 21, 11  # seeds of the planted noise and its nulls


@dataclass(frozen=True)
class Setting:
    """One way to ask what is significant; a head of None is their mean."""

    kind: str
    layer: int
    head: int | None = None
    null: str = "normal"
    estimator: str = "plus-one"
    threshold: float = 0.1

    @property
    def name(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        return f"{self.kind}, layer {self.layer}{head}, {self.estimator}, p <= {self.threshold:g}"

    def maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """The map of every image, [B, h, w]."""
        if self.head is None:
            return sa.attention_map(model, images, self.kind, layer=self.layer).values
        return sa.attention_map(model, images, self.kind, layer=self.layer, heads="each").values[:, self.head]

    @property
    def options(self) -> dict[str, Any]:
        """Of `attend`, which knows no single heads and takes a function for one."""
        which = {"statistic": self.kind, "layer": self.layer} if self.head is None else {"statistic": self.maps}
        return which | {"estimator": self.estimator}


def demo_model(name: str) -> nn.Module:
    return timm.create_model(name, pretrained=True).eval()


def digits(name: str, model: nn.Module, split: str, number: int) -> tuple[Tensor, np.ndarray]:
    """Images [B, 1, H, W] of the model's data and the pixels of the digit."""
    images = sa.open_dataset(DATA[name], model, split=split).images[:number]
    return images, images[:, 0].numpy() >= INK


def candidates(
    name: str, model: nn.Module, images: Tensor, B: int
) -> Iterator[tuple[Setting, np.ndarray, np.ndarray, float | None]]:
    """Every map of a model and its replicates: setting, [image, h, w], [image, replicate, h, w], value of a spike."""
    for null in NULLS:
        for kind in KINDS[name]:
            single = name.startswith("vit")  # a head of the SDT has a spike or two per token
            found = sa.attend(
                model, images, null, B, kind, layer="all", heads="each" if single else "mean", seed=CHOICE
            )
            unit = sa.attention_map(model, images[:1], kind).unit
            for layer in range(found.maps.shape[1]):
                maps, replicates = found.maps[:, layer], found.null_maps[:, :, layer]
                if not single:
                    yield Setting(kind, layer, None, null), maps, replicates, unit
                    continue
                yield Setting(kind, layer, None, null), maps.mean(1), replicates.mean(2), unit
                for head in range(maps.shape[1]):
                    yield Setting(kind, layer, head, null), maps[:, head], replicates[:, :, head], unit


def choose(name: str, model: nn.Module, number: int, B: int) -> tuple[dict[str, Setting], pd.DataFrame]:
    """The best settings for a model on training digits with a noise square, by two rules, and the table of all.

    `auc` is the chance that a digit's token scores higher than one of noise: no null and no threshold that is the same
    for all tokens can tell them apart better than it.
    """
    images, things = digits(name, model, "train", number)
    planted = [noise_square(image, 0.375, seed=CHOICE, index=i) for i, image in enumerate(images)]
    noisy, masks = torch.stack([image for image, _ in planted]), [mask for _, mask in planted]
    rows, settings = [], []
    for base, maps, replicates, unit in candidates(name, model, noisy, B):
        grid = maps.shape[1:]
        noise = [coverage(mask, grid) for mask in masks]
        shown = [coverage(thing & ~mask, grid) for thing, mask in zip(things, masks, strict=True)]
        auc = float(np.nanmean([separation(*one) for one in zip(maps, shown, noise, strict=True)]))
        for estimator in ("plus-one", "per-token"):
            found = [assess(*pair, estimator, unit=unit) for pair in zip(maps, replicates, strict=True)]
            for threshold in THRESHOLDS:
                kept = [regularize(a, s, "p", threshold) for a, s in zip(maps, found, strict=True)]
                scores = [
                    region_scores(a, b, n) | object_scores(a, b, o)
                    for a, b, n, o in zip(maps, kept, noise, shown, strict=True)
                ]
                setting = Setting(base.kind, base.layer, base.head, base.null, estimator, threshold)
                rows.append({"model": name} | vars(setting) | {"auc": auc} | pd.DataFrame(scores).mean().to_dict())
                settings.append(setting)
    table = pd.DataFrame(rows)
    rules = {
        "by tokens": table["object_kept"] - table["nonzero_after"],
        "by share": table["object_share_after"] - table["share_after"],
    }
    return {rule: settings[int(score.argmax())] for rule, score in rules.items()}, table


def separation(scores: np.ndarray, thing: np.ndarray, noise: np.ndarray) -> float:
    """Area under the ROC curve of tokens of the object (at least half) against tokens of noise; NaN without either."""
    inside, outside = scores[(thing >= 0.5) & (noise < 0.5)], scores[noise >= 0.5]
    if not inside.size or not outside.size:
        return np.nan
    ranks = rankdata(np.concatenate([inside, outside]))[: inside.size]
    return float((ranks.sum() - inside.size * (inside.size + 1) / 2) / (inside.size * outside.size))


def measured(
    about: dict[str, str], model: nn.Module, images: Tensor, things: np.ndarray | None, region: str, B: int,
    setting: Setting,
) -> list[dict]:  # fmt: skip
    """Rows of one setting on one kind of noise: regularised, as it was, and as many tokens drawn at random."""
    found = sa.evaluate_regularization(
        model, images, setting.null, B, region=region, objects=things, seed=TEST, threshold=setting.threshold,
        **setting.options,
    )  # fmt: skip
    kept = found.attention.regularized("p", setting.threshold)
    visible = None if things is None else objects_left(found, images, things)
    rows = []
    for method, after in (("none", found.attention.maps), ("p", kept), ("random", at_random(found, kept))):
        scores = []
        for a, b, noise, i in zip(found.attention.maps, after, found.coverage, range(len(images)), strict=True):
            scores.append(region_scores(a, b, noise) | ({} if visible is None else object_scores(a, b, visible[i])))
        columns = pd.DataFrame(scores)
        if method == "p":
            columns["srmsd"] = found.frame.loc[found.frame["method"] == "p", "srmsd"].to_numpy()
        D, error = ratio(columns["percentile_before"].to_numpy(), columns["percentile_after"].to_numpy())
        row = about | {"map": setting.name, "null": setting.null, "region": region, "method": method}
        row |= {"images": len(images), "replicates": B, "D": D, "D_se": error}
        for name in columns:
            row |= {name: columns[name].mean(), f"{name}_se": columns[name].sem()}
        rows.append(row)
    return rows


def objects_left(found: Evaluation, images: Tensor, things: np.ndarray) -> list[np.ndarray]:
    """Share of each token's pixels that show the object, without what noise covers."""
    same = (found.images == images).all(1).cpu().numpy()  # noise never gives a pixel its old value
    grid = found.attention.maps.shape[1:]
    return [coverage(thing & unchanged, grid) for thing, unchanged in zip(things, same, strict=True)]


def at_random(found: Evaluation, kept: np.ndarray, seed: int = 0) -> np.ndarray:
    """The maps with as many tokens as were kept, drawn at random in each image."""
    rng, maps = np.random.default_rng(seed), found.attention.maps
    chosen = np.zeros((len(maps), maps[0].size), bool)
    for row, after in zip(chosen, kept, strict=True):
        row[rng.permutation(row.size)[: int((after > 0).sum())]] = True
    return np.where(chosen.reshape(maps.shape), maps, 0.0)


def photos(folder: Path, number: int, size: int = 224) -> Tensor:
    """Photos at equal steps through a folder of folders: their centres, normalised as timm's ViTs want them."""
    files = sorted(folder.glob("*/*"))
    images = []
    for file in files[:: max(1, len(files) // number)][:number]:
        image = decode(file.read_bytes(), "RGB")
        scale = size / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - size) // 2 for side in image.size)
        images.append(np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255)
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) - 0.5) / 0.5


def randomised(name: str, number: int, setting: Setting, B: int) -> pd.DataFrame:
    """The randomisation check of a model's map and of what is significant in it, layer by layer."""
    model = demo_model(name)
    images, _ = digits(name, model, "test", number)

    def significant(network: nn.Module, batch: Tensor) -> np.ndarray:
        found = sa.attend(network, batch, setting.null, B, seed=TEST, **setting.options)
        return found.regularized("p", setting.threshold) > 0

    table = randomisation_check(model, images, setting.maps, significant, seed=1)
    means = table.groupby("layer", sort=False)[["spearman", "jaccard", "constant"]].agg(["mean", "sem"])
    means.columns = ["_".join(pair) for pair in means.columns]
    return means.reset_index().assign(model=name, images=number)


def merged(file: Path, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Those measured now, and of a table written before the rows of models that are not, or not yet."""
    before = csv_text.read(file) if file.exists() else pd.DataFrame({"model": []})
    others = before[~before["model"].isin({name for part in parts for name in part["model"]})]
    order = [*KINDS, "ViT-Ti/16, untrained"]
    table = pd.concat([others, *parts], ignore_index=True) if len(others) or parts else before
    return table.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=30, help="test digits (default: 30)")
    parser.add_argument("--choice", type=int, default=16, help="training digits for the choice (default: 16)")
    parser.add_argument("--replicates", type=int, default=100, help="of each image (default: 100)")
    parser.add_argument("--photos", type=Path, help="folder of folders of photos; left out, digits alone")
    parser.add_argument("--number", type=int, default=6, help="photos (default: 6)")
    parser.add_argument("--checked", type=int, default=4, help="digits of the randomisation check (default: 4)")
    parser.add_argument("--models", nargs="+", choices=tuple(KINDS), default=tuple(KINDS), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("reports/attention"))
    args = parser.parse_args(given)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", AttentionWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}

    def write() -> None:  # after every part: a run cut short leaves what it has
        tables = {}
        for name, parts in found.items():
            tables[name] = merged(args.out / f"{name}.csv", parts)
            csv_text.save(tables[name], args.out / f"{name}.csv", TABLES[name])
        (args.out / "evaluation.md").write_text(page(args, **tables, seconds=time.time() - start), encoding="utf-8")

    best = {}
    for name in args.models:
        model = demo_model(name)
        best[name], table = choose(name, model, args.choice, args.replicates)
        found["chosen"].append(table)
        images, things = digits(name, model, "test", args.images)
        depth = int(table["layer"].max())
        for which, setting in (("default", Setting(KINDS[name][0], depth)), *best[name].items()):
            for region in ("square", "clusters"):
                about = {"model": name, "setting": which}
                rows = measured(about, model, images, things, region, args.replicates, setting)
                found["evaluation"].append(pd.DataFrame(rows))
        write()
        print(*best[name].values(), f"{time.time() - start:.0f} s", sep="\n", flush=True)
    if args.photos is not None:
        torch.manual_seed(0)
        vit = timm.create_model("vit_tiny_patch16_224").eval()
        for region in ("square", "clusters"):
            about = {"model": "ViT-Ti/16, untrained", "setting": "default"}
            setting = Setting("cls", 11)
            rows = measured(about, vit, photos(args.photos, args.number), None, region, args.replicates, setting)
            found["evaluation"].append(pd.DataFrame(rows))
        write()
    for name in args.models if args.checked else ():
        found["randomised"].append(randomised(name, args.checked, best[name]["by tokens"], args.replicates // 2))
        write()
        print(f"{name}: randomisation; {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

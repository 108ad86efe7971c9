"""How often attend calls noise significant, and how much of a planted signal it finds: simulated and on the demo model.

    python scripts/calibrate_attention.py

writes reports/attention/calibration.csv and calibration.md. Some two minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import spikeattn as sa
from spikeattn.attention.nulls import draw_inputs
from spikeattn.attention.significance import AttentionWarning, Significance, assess
from spikeattn.storage import csv_text

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]

LEVEL = 0.05
Q = 0.10
REPLICATES = (19, 39, 99, 200)
TOKENS = (49, 64, 196)
EFFECT = 4.0
ROW = ["part", "what", "tokens", "replicates", "signals", "estimator", "ties", "quantity", "value", "se", "maps", "bar"]


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.exp(rng.standard_normal(shape))


def spikes(mean: float) -> Draw:
    return lambda rng, shape: rng.poisson(mean, shape).astype(float)


NOISE: dict[str, tuple[Draw, float | None]] = {
    "continuous": (lognormal, None),
    **{f"spike counts, mean {mean:g}": (spikes(mean), 1.0) for mean in (0.5, 1, 3)},
}


def mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def verdict(value: float, low: float, high: float) -> str:
    return "met" if low <= value <= high else "missed"


def size_under_noise(maps: int, tokens: int = 64) -> Iterator[dict]:
    """P(p < .05) of the per-token +1 p-values where there is nothing to find."""
    for name, (draw, unit) in NOISE.items():
        for B in REPLICATES:
            for ties in ("plain", "random") if unit else ("plain",):
                rng, shares = np.random.default_rng(1), []
                for number in range(maps):
                    observed, null = draw(rng, (tokens,)), draw(rng, (B, tokens))
                    found = assess(observed, null, "per-token", unit=unit, ties=ties, seed=number)
                    shares.append(float((found.p < LEVEL).mean()))
                value, error = mean_and_error(shares)
                exact = unit is None or ties == "random"
                bar = verdict(value, 0.03 if exact else 0.0, 0.07) if B == 200 else ""
                yield dict(
                    zip(
                        ROW,
                        ("noise", name, tokens, B, 0, "per-token", ties, "P(p < .05)", value, error, maps, bar),
                        strict=True,
                    )
                )


def planted(maps: int, B: int = 100) -> Iterator[dict]:
    """Realised FDR and power at q = .10, signals of 4 standard deviations of the log scores."""
    for N in TOKENS:
        for k in (5, max(6, N // 10)):
            variants = {"BH on pooled +1 p": ("plus-one", "bh"), "published p and pi0": ("published", "published")}
            outcome: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in variants}
            rng = np.random.default_rng(N + k)
            for _ in range(maps):
                x = rng.standard_normal(N)
                signal = rng.permutation(N) < k
                observed, null = np.exp(x + EFFECT * signal), lognormal(rng, (B, N))
                for name, (estimator, pi0) in variants.items():
                    called = assess(observed, null, estimator, pi0=pi0).q <= Q
                    outcome[name][0].append(float((called & ~signal).sum() / max(1, called.sum())))
                    outcome[name][1].append(float(called[signal].mean()))
            for name, (wrong, right) in outcome.items():
                ours = name.startswith("BH")
                for quantity, values, low, high in (("FDR", wrong, 0.0, 0.12), ("power", right, 0.8, 1.0)):
                    value, error = mean_and_error(values)
                    bar = verdict(value, low, high) if ours else ""
                    yield dict(
                        zip(
                            ROW,
                            ("planted", f"{EFFECT:g} sd", N, B, k, name, "plain", quantity, value, error, maps, bar),
                            strict=True,
                        )
                    )


def zero_heavy(maps: int, N: int = 196, B: int = 40) -> Iterator[dict]:
    """Share of tokens called by q and by lfdr at .10 in maps of hardly any spikes, where there is nothing to find."""
    for mean in (0.01, 0.1, 0.5):
        for estimator in ("published", "plus-one"):
            rng, called = np.random.default_rng(7), {"q <= .10": [], "lfdr <= .10": []}
            for _ in range(maps):
                found: Significance = assess(
                    rng.poisson(mean, N).astype(float), rng.poisson(mean, (B, N)).astype(float), estimator, unit=1.0
                )
                called["q <= .10"].append(float((found.q <= Q).mean()))
                called["lfdr <= .10"].append(float((found.lfdr <= Q).mean()))
            for quantity, values in called.items():
                value, error = mean_and_error(values)
                what = f"spike counts, mean {mean:g}"
                yield dict(
                    zip(
                        ROW,
                        ("zero-heavy", what, N, B, 0, estimator, "plain", quantity, value, error, maps, ""),
                        strict=True,
                    )
                )


def noise_through_the_network(images: int, B: int = 200) -> Iterator[dict]:
    """P(p < .05) of Vhat_S of the trained demo model on images that are themselves noise.

    Noise "anew" is assessed against a null drawn from it, as a user would; pixels drawn from drawn pixels are fewer
    different ones. "left out" takes every tenth replicate of that null as the observed map and the others as its null:
    these are exchangeable to the letter.
    """
    model = sa.create_model("sdt_digits", pretrained=True)
    digits = sa.open_dataset("digits", model).images[:images]
    for null in ("normal", "pixel"):
        noise = torch.cat([draw_inputs(null, image, [0], seed=9, index=i) for i, image in enumerate(digits)])
        ran = sa.attend(model, noise, null, B, seed=10)
        unit = sa.attention_map(model, noise[:1]).unit
        for estimator, ties in (("per-token", "plain"), ("per-token", "random"), ("plus-one", "plain")):
            anew = list(zip(ran.maps, ran.null_maps, strict=True))
            others = [(drawn[r], np.delete(drawn, r, axis=0)) for drawn in ran.null_maps for r in range(0, B, 10)]
            for what, pairs, replicates in (("anew", anew, B), ("left out", others, B - 1)):
                found = [
                    assess(one, drawn, estimator, unit=unit, ties=ties, seed=i) for i, (one, drawn) in enumerate(pairs)
                ]
                shares = np.array([float((each.p < LEVEL).mean()) for each in found]).reshape(images, -1).mean(1)
                value, error = mean_and_error(shares.tolist())
                bar = "" if estimator == "plus-one" else verdict(value, 0.03 if ties == "random" else 0.0, 0.07)
                name = f"Vhat_S, {null} {what}"
                yield dict(
                    zip(
                        ROW,
                        (
                            "network",
                            name,
                            64,
                            replicates,
                            0,
                            estimator,
                            ties,
                            "P(p < .05)",
                            value,
                            error,
                            len(pairs),
                            bar,
                        ),
                        strict=True,
                    )
                )


def report(table: pd.DataFrame, seconds: float) -> str:
    """The Markdown beside the table."""
    shown = table.copy()
    shown["value"] = [f"{value:.3f} ({error:.3f})" for value, error in zip(table["value"], table["se"], strict=True)]
    titles = {
        "noise": "Nothing to find: simulated maps, per-token +1 p. Bar at B = 200: .03 to .07; plain ties at most .07.",
        "planted": f"Signals of {EFFECT:g} sd in the log scores, q = {Q:.2f}. Bar: FDR <= .12 and power >= .8 for BH.",
        "zero-heavy": "Maps of hardly any spikes, nothing to find: share of tokens called.",
        "network": "Noise through the trained demo model; standard errors over images.",
    }
    lines = [
        "# Calibration of the significance of attention maps",
        "",
        f"`python scripts/calibrate_attention.py`: {seconds:.0f} s on one thread. In brackets: standard errors.",
    ]
    columns = [name for name in ROW if name not in ("part", "se")]
    for part, title in titles.items():
        rows = shown[shown["part"] == part][columns]
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows.itertuples(index=False)]
    judged = table[table["bar"] != ""]
    lines += ["", f"{(judged['bar'] == 'met').sum()} of {len(judged)} bars are met."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=400, help="simulated maps per row")
    parser.add_argument("--images", type=int, default=30, help="images through the network")
    parser.add_argument("--out", type=Path, default=Path("reports/attention"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", AttentionWarning)
    start = time.time()
    rows = [
        *size_under_noise(options.maps),
        *planted(options.maps),
        *zero_heavy(options.maps),
        *noise_through_the_network(options.images),
    ]
    table = pd.DataFrame(rows, columns=ROW)
    options.out.mkdir(parents=True, exist_ok=True)
    csv_text.save(table, options.out / "calibration.csv", "%.6g")
    (options.out / "calibration.md").write_text(report(table, time.time() - start))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

"""How often a 95 % interval over images covers the truth: simulated per-image tables of known mean, n = 20 to 1000.

    python scripts/simulate_coverage.py

writes reports/statistics/coverage.csv (every family, n and method) and coverage.md. Some four minutes on an idle core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markdown_table import markdown_table
from numpy.typing import NDArray

from spikeattn.stats.bootstrap import CONFIDENCE, bootstrap_means, percentile_limits, studentised_limits
from spikeattn.stats.intervals import mean_intervals, t_limits
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.stats.two_part import BOUNDED_FROM
from spikeattn.storage import csv_text

Floats = NDArray[np.float64]
Limits = tuple[Floats, Floats, NDArray[np.str_]]

IMAGES = (20, 50, 200, 1000)
BESIDE = (10, 500)
COMPARED = 500  # images at which the alternatives stand side by side
TOGETHER = 100  # data sets that share the draws of one resampling seed
MODERATE = 2.005  # skewness
BAR = (0.93, 0.97)


@dataclass(frozen=True)
class Family:
    """A distribution of one number per image; `draw(rng, n, sets)` gives [n, sets] of mean `mean`."""

    name: str
    moments: tuple[float, float, float]  # of the first three powers
    draw: Callable[[np.random.Generator, int, int], Floats]
    ceiling: float = np.inf  # the largest number there can be; a firing rate is at most 1

    @property
    def mean(self) -> float:
        return self.moments[0]

    @property
    def skewness(self) -> float:
        m1, m2, m3 = self.moments
        return (m3 - 3 * m1 * m2 + 2 * m1**3) / (m2 - m1**2) ** 1.5


def normal() -> Family:
    return Family("normal, mean 10", (10.0, 101.0, 1030.0), lambda rng, n, sets: rng.normal(10, 1, (n, sets)))


def gamma(shape: float) -> Family:
    moments = (shape, shape * (shape + 1), shape * (shape + 1) * (shape + 2))
    return Family(f"gamma, shape {shape:.3g}", moments, lambda rng, n, sets: rng.gamma(shape, 1.0, (n, sets)))


def lognormal(sigma: float) -> Family:
    moments = tuple(float(np.exp(power**2 * sigma**2 / 2)) for power in (1, 2, 3))
    return Family(f"lognormal, sigma {sigma:.3g}", moments, lambda rng, n, sets: rng.lognormal(0, sigma, (n, sets)))


def beta(a: float, b: float) -> Family:
    moments = tuple(np.cumprod([(a + i) / (a + b + i) for i in range(3)]).tolist())
    return Family(f"rate, beta({a:g}, {b:g})", moments, lambda rng, n, sets: rng.beta(a, b, (n, sets)), 1.0)


def silent(share: float, family: Family) -> Family:
    """The family on a share of the images, 0 on the others."""
    moments = tuple((1 - share) * moment for moment in family.moments)
    name = f"{share:.0%} of images silent, else {family.name}"
    return Family(
        name,
        moments,
        lambda rng, n, sets: np.where(rng.random((n, sets)) < share, 0, family.draw(rng, n, sets)),
        family.ceiling,
    )


def binary(share: float) -> Family:
    return Family(
        f"0 or 1, P(1) = {share:g}", (share,) * 3, lambda rng, n, s: (rng.random((n, s)) < share).astype(float), 1.0
    )


CONTINUOUS = (
    normal(),
    gamma(16),
    gamma(4),
    beta(0.5, 5),
    lognormal(0.5513),
    gamma(1),
    lognormal(0.9929),
    gamma(1 / 9),
)
SILENT = (
    binary(0.5),
    silent(0.4, beta(2, 8)),
    silent(0.5, gamma(4)),
    silent(0.7, gamma(1)),
    binary(0.05),
    silent(0.9, beta(2, 8)),
    silent(0.98, beta(2, 8)),
)
PAIRS = (gamma(4), gamma(1), lognormal(0.9929))


def used(ceiling: float) -> Callable[[Floats, int], Limits]:
    """What spikeattn prints."""

    def method(table: Floats, seed: int) -> Limits:
        found = mean_intervals(table, seed=seed, ceiling=ceiling)
        spikes = np.count_nonzero(table, axis=0) >= BOUNDED_FROM
        if not np.isfinite(found.high[spikes]).all():
            raise SystemExit("a column with two spiking images or more has no upper limit")
        return found.low, found.high, found.method

    return method


def named(name: str, limits: Callable[[Floats, int], tuple[Floats, Floats]]) -> Callable[[Floats, int], Limits]:
    def method(table: Floats, seed: int) -> Limits:
        low, high = limits(table, seed)
        return low, high, np.full(len(low), name)

    return method


OTHERS = {
    "percentile": named("percentile", lambda table, seed: percentile_limits(bootstrap_means(table, seed=seed))),
    "studentised": named("studentised", lambda table, seed: studentised_limits(table, seed=seed)),
    "t": named("t", lambda table, seed: t_limits(table)),
}


def simulate(family: Family, n: int, sets: int, method: Callable[[Floats, int], Limits], seed: int) -> pd.DataFrame:
    """Limits of `sets` data sets of n images; the data depend on the family, n and the seed, not on the method."""
    rng, blocks = np.random.default_rng([seed, n]), []
    for block in range(sets // TOGETHER):
        low, high, name = method(family.draw(rng, n, TOGETHER), block)
        blocks.append(pd.DataFrame({"low": low, "high": high, "method": name}))
    return pd.concat(blocks, ignore_index=True)


def simulate_ratio(family: Family, n: int, sets: int, seed: int) -> pd.DataFrame:
    """Two models on the same images: each multiplies the image's number by noise of its own; the true ratio is 2."""
    rng, blocks = np.random.default_rng([seed, n]), []
    for block in range(sets // TOGETHER):
        image = family.draw(rng, n, TOGETHER)
        over, under = (image * rng.gamma(9, 1 / 9, image.shape) for _ in range(2))
        found = ratio_intervals(2 * over, under, seed=block)
        blocks.append(pd.DataFrame({"low": found.low, "high": found.high, "method": found.method}))
    return pd.concat(blocks, ignore_index=True)


def row(family: Family, n: int, quantity: str, in_use: bool, truth: float, limits: pd.DataFrame) -> dict[str, object]:
    methods = limits["method"].value_counts(normalize=True)
    limits = limits[limits["high"].notna()]  # "none" is no interval: shown, not judged
    below, above = truth < limits["low"], truth > limits["high"]
    coverage = 1 - float((below | above).mean())
    return {
        "family": family.name,
        "skewness": round(family.skewness, 2),
        "n": n,
        "quantity": quantity,
        "method": ", ".join(f"{name} {share:.1%}" if share < 1 else name for name, share in methods.items()),
        "in_use": in_use,
        "data_sets": len(limits),
        "coverage": round(coverage, 4),
        "standard_error": round(float(np.sqrt(coverage * (1 - coverage) / len(limits))), 4),
        "truth_above": round(float(above.mean()), 4),
        "truth_below": round(float(below.mean()), 4),
        "median_width": float(f"{(limits['high'] - limits['low']).median():.4g}"),
    }


def run(sets: int, seed: int) -> pd.DataFrame:
    rows = []
    for n in (*IMAGES, *BESIDE):
        for place, family in enumerate(CONTINUOUS):
            for name, method in {"": used(family.ceiling), **(OTHERS if n == COMPARED else {})}.items():
                limits = simulate(family, n, sets, method, seed * 1000 + place)
                rows.append(row(family, n, "mean", not name, family.mean, limits))
    for n in IMAGES:
        for place, family in enumerate(SILENT):
            limits = simulate(family, n, sets, used(family.ceiling), seed * 1000 + 100 + place)
            rows.append(row(family, n, "mean, silent images", True, family.mean, limits))
        for place, family in enumerate(PAIRS):
            limits = simulate_ratio(family, n, sets, seed * 1000 + 200 + place)
            rows.append(row(family, n, "paired ratio", True, 2.0, limits))
    return pd.DataFrame(rows)


def few_spiking_images(n: int = 1000) -> str:
    """Limits of one rate of n images as more and more images spike, each at some 0.4 % of its elements."""
    values, counts = np.random.default_rng(0).gamma(4, 0.001, n), (0, 1, 2, 3, 5, 8, 9, 10, 11, 20, 50, 200, n - 1)
    found = mean_intervals(np.where(np.arange(n)[:, None] < counts, values[:, None], 0), ceiling=1.0)
    rows = [
        [count, found.method[at], f"{found.value[at]:.2g}", f"{found.low[at]:.2g}", f"{found.high[at]:.2g}"]
        for at, count in enumerate(counts)
    ]
    return markdown_table(["spiking images", "method", "mean rate", "low", "high"], rows)


PAGE = """\
# Coverage of the 95 % intervals over images

`{command}`: {seconds:.0f} s on one thread. {sets} simulated data sets per row, 2000 replicates each; the standard
error of a coverage near 95 % is {error:.2%}. A data set is one number per image (a firing rate, an energy) of known
mean. "Truth above" is the share of data sets whose upper limit is too low. All rows, with widths: coverage.csv.
Data sets without an interval (method "none": no largest rate is known, and fewer than two images spike) are not judged;
no other one has an infinite limit. The intervals are about the choice of images: another training seed or another data
set is not in them.

## Continuous numbers up to skewness 2: {inside} of {judged} rows lie in {bar[0]:.0%} to {bar[1]:.0%}

Farthest from 95 %: {worst.family}, n = {worst.n}: {worst.coverage:.1%}.

{moderate}

## Beyond skewness 2, as it is: {steep_inside} of {steep_judged} rows reach {bar[0]:.0%}

{steep}

## Silent images: {silent_inside} of {silent_judged} rows reach {bar[0]:.0%}

Some images are 0. Lowest: {lowest.family}, n = {lowest.n}: {lowest.coverage:.1%}. With very few spiking images the
two-part interval is wide and covers nearly always. It sees silent images in the sample only: where all of 20 images
spike and one in ten of all images does not, nothing in the sample says so.

{silent}

## One rule for few spiking images

A rate of 1000 images, of which the first ones spike; a tensor can spike at all its elements, so the ceiling is 1.

{few}

## Ratios of two models on the same images: {ratio_inside} of {ratio_judged} rows reach {bar[0]:.0%}

{ratios}

## Other numbers of images

{beside}

## Why studentised below 1000 images: the alternatives at n = {compared}

{alternatives}
"""


def page(table: pd.DataFrame, seconds: float, command: str) -> str:
    mean, listed = (table["quantity"] == "mean") & table["in_use"], table["n"].isin(IMAGES)
    moderate = table["skewness"] <= MODERATE
    judged, steep = table[mean & listed & moderate], table[mean & listed & ~moderate]
    silent, ratios = table[table["quantity"] == "mean, silent images"], table[table["quantity"] == "paired ratio"]
    others = table[(table["quantity"] == "mean") & ~table["in_use"]]
    compared = others.pivot(index=["skewness", "family"], columns="method", values="coverage")
    alternatives = [
        [family, f"{skewness:.2f}", *(f"{coverage:.1%}" for coverage in coverages)]
        for (skewness, family), coverages in zip(compared.index, compared.to_numpy(), strict=True)
    ]
    sets = int(table["data_sets"].max())
    reached = {
        f"{name}_{key}": int(value)
        for name, rows in (("steep", steep), ("silent", silent), ("ratio", ratios))
        for key, value in (("inside", (rows["coverage"] >= BAR[0]).sum()), ("judged", len(rows)))
    }
    return PAGE.format(
        command=command,
        seconds=seconds,
        sets=sets,
        error=np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / sets),
        bar=BAR,
        inside=int(judged["coverage"].between(*BAR).sum()),
        judged=len(judged),
        worst=judged.loc[(judged["coverage"] - CONFIDENCE).abs().idxmax()],
        lowest=silent.loc[silent["coverage"].idxmin()],
        moderate=_markdown(judged),
        steep=_markdown(steep),
        silent=_markdown(silent),
        few=few_spiking_images(),
        ratios=_markdown(ratios),
        beside=_markdown(table[mean & ~listed]),
        compared=COMPARED,
        alternatives=markdown_table(["family", "skewness", *compared.columns], alternatives),
        **reached,
    )


def _markdown(table: pd.DataFrame) -> str:
    rows = [
        [
            *(row.family, f"{row.skewness:.2f}", row.n, row.method),
            f"{row.coverage:.1%} +- {row.standard_error:.1%}",
            *(f"{row.truth_above:.1%}", f"{row.truth_below:.1%}"),
        ]
        for row in table.itertuples()
    ]
    return markdown_table(["family", "skewness", "n", "method", "coverage", "truth above", "truth below"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=4000, help="per row, a multiple of 100 (default: 4000)")
    parser.add_argument("--seed", type=int, default=0)
    folder = Path(__file__).resolve().parents[1] / "reports" / "statistics"
    parser.add_argument("--out", type=Path, default=folder, help="folder (default: reports/statistics)")
    options = parser.parse_args()
    start = time.perf_counter()
    table = run(options.data_sets, options.seed)
    command = "python scripts/simulate_coverage.py"
    command += f" --data-sets {options.data_sets}" if options.data_sets != 4000 else ""
    command += f" --seed {options.seed}" if options.seed else ""
    options.out.mkdir(parents=True, exist_ok=True)
    csv_text.save(table, options.out / "coverage.csv")
    text = page(table, time.perf_counter() - start, command)
    (options.out / "coverage.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

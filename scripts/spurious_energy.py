"""Which share of the demo model's energy goes to tokens whose attention is no more than noise; what silencing costs.

    python scripts/spurious_energy.py

writes reports/spurious/: shares.csv, heads.csv, outside.csv, curve.csv, spurious.md and the figure. Some 20 minutes on
one busy core, most of them in the replicates of the nulls.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import spikeattn as sa
from spikeattn.attention.attend import Attention
from spikeattn.attention.significance import AttentionWarning
from spikeattn.report.drawing import INK, MUTED, PALETTE, RULE, WIDTH, figure_style, finish, to_png, to_svg
from spikeattn.spurious import SpuriousEnergy, silencing_curve, spurious_energy

NULLS = ("normal", "pixel")
RULES = {"lfdr > 0.1": ("lfdr", 0.1), "q > 0.1": ("q", 0.1), "p > 0.1": ("p", 0.1), "lfdr as weight": ("soft", None)}
LEVELS = (1.0, 0.8, 0.5, 0.2, 0.1, 0.05, 0.01, -1.0)
LOOK = {
    "significance": ("o", "significant tokens kept"),
    "random": ("s", "as many, at random"),
    "score": ("^", "as many, highest attention"),
    "spikes": ("D", "as many, most spikes"),
}


def attended(
    model: torch.nn.Module, loader: object, null: str, replicates: int, heads: str = "mean"
) -> list[Attention]:
    """Attention of every layer, one per batch of the loader: the batches of the profile."""
    return [
        sa.attend(
            model, batch.images, null, replicates, layer="all", heads=heads, tokens=True, indices=batch.index.tolist()
        )
        for batch in loader
    ]


def shares_of(found: SpuriousEnergy, **labels: object) -> pd.DataFrame:
    return found.parts.assign(**labels)


def heads_of(found: SpuriousEnergy) -> pd.DataFrame:
    """Energy and spurious energy by layer and head, mean over images in mJ."""
    rows = found.frame.dropna(subset="head")
    sums = rows.groupby(["layer", "head"])[["energy_mj", "spurious_mj"]].sum() / len(found.images)
    return sums.assign(share=sums["spurious_mj"] / sums["energy_mj"]).reset_index()


def figure_of(shares: pd.DataFrame, curves: pd.DataFrame, n: int) -> Figure:
    """Shares by layer and part on the left, accuracy over the blocks' energy on the right."""
    with figure_style():
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        draw_shares(left, shares)
        draw_curve(right, curves)
        left.set_title("Energy at tokens with lfdr > 0.1")
        right.set_title("Accuracy when tokens fall silent")
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
        return finish(figure, f"sdt_digits, {n} test images, 64 tokens; bars: 95 % over images")


def draw_shares(axes: Axes, shares: pd.DataFrame) -> None:
    rows = shares[(shares["rule"] == "lfdr > 0.1") & (shares["layer"] != "all")]
    names = list(dict.fromkeys(zip(rows["layer"], rows["part"], strict=True)))
    for i, null in enumerate(NULLS):
        of_null = rows[rows["null"] == null].reset_index(drop=True)
        y = np.arange(len(of_null)) + 0.22 * (i - 0.5)
        bars = np.abs(of_null[["ci_low", "ci_high"]].to_numpy(float).T - of_null["share"].to_numpy(float))
        look = {"color": PALETTE[(0, 5)[i]], "marker": "os"[i], "markersize": 4, "linestyle": "none"}
        axes.errorbar(of_null["share"], y, xerr=bars, label=f"null: {null}", elinewidth=1.2, **look)
    axes.set_yticks(range(len(names)), [f"block {layer} {part}" for layer, part in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share of the part's energy")
    axes.grid(axis="x", color=RULE)
    axes.legend(fontsize=8, loc="lower left")


def draw_curve(axes: Axes, curves: pd.DataFrame) -> None:
    rows = curves[(curves["null"] == NULLS[0]) & (curves["method"] == "p") & (curves["below"] == "keep")]
    for i, (order, (marker, label)) in enumerate(LOOK.items()):
        mean = rows[rows["order"] == order].groupby("threshold").mean(numeric_only=True).sort_values("blocks_share")
        colour = (PALETTE[0], MUTED, PALETTE[5], PALETTE[3])[i]
        axes.plot(
            mean["blocks_share"],
            mean["accuracy"],
            marker=marker,
            color=colour,
            markersize=4,
            linewidth=1.3,
            label=label,
        )
        if order == "significance":
            axes.fill_between(
                mean["blocks_share"], mean["accuracy_low"], mean["accuracy_high"], color=colour, alpha=0.15, linewidth=0
            )
    axes.axhline(0.1, color=INK, linewidth=0.8, linestyle=":")
    axes.text(1.0, 0.115, "chance", ha="right", fontsize=8, color=MUTED)
    axes.set_xlabel("energy of the blocks, share of the whole network's")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(0, 1.02)
    axes.grid(color=RULE)


def table(frame: pd.DataFrame) -> list[str]:
    """Markdown lines."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(frame.columns)} |", "|" + "---|" * len(frame.columns)]
    return lines + [f"| {' | '.join(map(cell, row))} |" for row in frame.itertuples(index=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=int, default=120, help="test images, drawn by the seed 0; default: %(default)s"
    )
    parser.add_argument("--replicates", type=int, default=100, help="of each null; default: %(default)s")
    parser.add_argument("--heads", type=int, default=32, help="images assessed head by head; default: %(default)s")
    parser.add_argument("--draws", type=int, default=2, help="of random tokens; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("reports/spurious"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", AttentionWarning)
    begun = time.time()

    model = sa.create_model("sdt_digits", pretrained=True)
    digits = sa.open_dataset("digits", model)
    loader = sa.make_loader(digits, batch_size=32, sample=given.images)
    profile = sa.profile(model, loader)
    accuracy = profile.over_time().iloc[-1]
    shares, curves, outside, found = [], [], None, {}
    for null in NULLS:
        attention = attended(model, loader, null, given.replicates)
        for rule, (method, threshold) in RULES.items():
            found[null, rule] = spurious_energy(profile, attention, method=method, threshold=threshold)
            shares.append(shares_of(found[null, rule], null=null, rule=rule))
        settings = [("p", "keep", LEVELS), ("lfdr", "keep", (0.5, 0.1))]
        settings += [("p", "silence", LEVELS)] if null == NULLS[0] else []
        for method, below, thresholds in settings:
            curve = silencing_curve(
                model, loader, attention, method=method, below=below, thresholds=thresholds, draws=given.draws
            )
            curves.append(curve.assign(null=null, method=method, below=below))
        outside = found[null, "lfdr > 0.1"].outside
    few = sa.make_loader(digits, batch_size=32, sample=given.heads)
    heads = heads_of(spurious_energy(sa.profile(model, few), attended(model, few, NULLS[0], given.replicates, "each")))

    given.out.mkdir(parents=True, exist_ok=True)
    every, drawn = pd.concat(shares, ignore_index=True), pd.concat(curves, ignore_index=True)
    first = ["null", "rule", "layer", "part"]
    every = every[first + [name for name in every if name not in first]]
    first = ["null", "method", "below"]
    drawn = drawn[first + [name for name in drawn if name not in first]]
    for name, frame in (("shares", every), ("heads", heads), ("outside", outside), ("curve", drawn)):
        frame.to_csv(given.out / f"{name}.csv", index=False, float_format="%.6g")
    figure = figure_of(every, drawn, given.images)
    (given.out / "spurious.svg").write_text(to_svg(figure))
    (given.out / "spurious.png").write_bytes(to_png(figure))
    text = report(given, profile, accuracy, every, heads, outside, drawn, found, time.time() - begun)
    (given.out / "spurious.md").write_text(text)
    print(text)


def report(
    given: argparse.Namespace,
    profile: sa.Profile,
    accuracy: pd.Series,
    shares: pd.DataFrame,
    heads: pd.DataFrame,
    outside: pd.DataFrame,
    curves: pd.DataFrame,
    found: dict[tuple[str, str], SpuriousEnergy],
    seconds: float,
) -> str:
    """The Markdown beside the tables: numbers alone; what they mean stands in docs/attention.md."""
    total = shares[(shares["layer"] == "all") & (shares["part"] == "all")]
    total = total.assign(
        of_the_network=[found[key].of_everything.value for key in zip(total["null"], total["rule"], strict=True)]
    )
    by_part = shares[(shares["rule"] == "lfdr > 0.1") & (shares["layer"] != "all")]
    columns = ["energy_mj", "spurious_mj", "share", "ci_low", "ci_high", "interval", "below_share"]
    called = [
        (
            null,
            *(f"{(1 - found[null, 'lfdr > 0.1'].spurious_layer_maps.astype(bool)[:, k].mean()):.3f}" for k in range(2)),
        )
        for null in NULLS
    ]
    points = curves.groupby(["null", "method", "below", "threshold", "order"], sort=False).mean(numeric_only=True)
    points = points[
        ["silenced", "accuracy", "accuracy_low", "accuracy_high", "same_prediction", "energy_share", "blocks_share"]
    ]
    energy = profile.energy().total
    lines = [
        "# Energy on noise: sdt_digits on scikit-learn's digits",
        "",
        f"`python scripts/spurious_energy.py --images {given.images} --replicates {given.replicates} --heads "
        f"{given.heads} --draws {given.draws}`: {seconds:.0f} s on one thread of a busy machine, torch "
        f"{torch.__version__}. Tables: shares.csv, heads.csv, outside.csv, curve.csv. Definition, assumptions and "
        "limits: docs/attention.md.",
        "",
        f"{given.images} test images; accuracy {accuracy['accuracy']:.4f} [{accuracy['accuracy_low']:.4f}, "
        f"{accuracy['accuracy_high']:.4f}]; {energy.value:.4g} mJ per image [{energy.low:.4g}, {energy.high:.4g}] "
        "(exact, horowitz-45nm-fp32), of which SPS and head, which have no attention, take "
        f"{outside['share'].sum():.1%}. Map: Vhat_S rate of each block; +1 p-values pooled over tokens.",
        "",
        "## Share of the blocks' energy at tokens that are indistinguishable from the null",
        "",
        *table(total[["null", "rule", *columns, "of_the_network"]]),
        "",
        "Tokens with lfdr <= 0.1, of all tokens that spend energy or not, blocks 0 and 1: "
        + "; ".join(f"{null} {first}, {second}" for null, first, second in called)
        + ".",
        "",
        "## By layer and part, lfdr > 0.1",
        "",
        *table(by_part[["null", "layer", "part", *columns]]),
        "",
        f"## By head, lfdr > 0.1, null {NULLS[0]}, {given.heads} images",
        "",
        *table(heads),
        "",
        "## When tokens fall silent",
        "",
        "Energy recounted on the silenced passes; a threshold below 0 keeps no token; random is the mean over draws.",
        "",
        *table(points.reset_index()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

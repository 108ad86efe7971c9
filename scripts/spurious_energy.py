"""Which share of the demo model's energy goes to tokens whose attention is no more than noise; what silencing costs.

    python scripts/spurious_energy.py

writes reports/spurious/: shares.csv, heads.csv, outside.csv, curve.csv, run.json, spurious.md and the figure. Some four
minutes of one core, most of them in the replicates of the nulls. --redraw makes text and figure from the tables anew.
"""

from __future__ import annotations

import argparse
import json
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
from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.significance import AttentionWarning
from spikeattn.reporting.figures.drawing import MUTED, PALETTE, RULE, WIDTH, figure_style, finish, to_png, to_svg
from spikeattn.spurious import silencing_curve, spurious_energy
from spikeattn.storage import csv_text

NULLS = ("normal", "pixel")
RULES = {"lfdr > 0.1": ("lfdr", 0.1), "q > 0.1": ("q", 0.1), "p > 0.1": ("p", 0.1), "lfdr as weight": ("soft", None)}
LEVELS = (1.0, 0.8, 0.5, 0.2, 0.1, 0.05, 0.01, -1.0)
TABLES = ("shares", "heads", "outside", "curve")
LOOK = {
    "significance": ("o", "-", "significant tokens kept"),
    "random": ("s", "--", "as many, at random"),
    "score": ("^", "-.", "as many, highest attention"),
    "spikes": ("D", ":", "as many, most spikes"),
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


def run(given: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Everything that needs the network."""
    model = sa.create_model("sdt_digits", pretrained=True)
    digits = sa.open_dataset("digits", model)
    loader = sa.make_loader(digits, batch_size=32, sample=given.images)
    profile = sa.profile(model, loader)
    shares, curves, outside = [], [], pd.DataFrame()
    for null in NULLS:
        attention = attended(model, loader, null, given.replicates)
        for rule, (method, threshold) in RULES.items():
            found = spurious_energy(profile, attention, method=method, threshold=threshold)
            shares.append(found.parts.assign(null=null, rule=rule))
            outside = found.outside
        settings = [("p", "keep", LEVELS), ("lfdr", "keep", (0.5, 0.1))]
        settings += [("p", "silence", LEVELS)] if null == NULLS[0] else []
        for method, below, thresholds in settings:
            curve = silencing_curve(
                model, loader, attention, method=method, below=below, thresholds=thresholds, draws=given.draws
            )
            curves.append(curve.assign(null=null, method=method, below=below))
    few = sa.make_loader(digits, batch_size=32, sample=given.heads)
    by_head = attended(model, few, NULLS[0], given.replicates, "each")
    heads = spurious_energy(sa.profile(model, few), by_head).heads
    tables = [pd.concat(shares), heads, outside, pd.concat(curves)]
    return dict(zip(TABLES, tables, strict=True))


def figure_of(shares: pd.DataFrame, curves: pd.DataFrame, images: int) -> Figure:
    """Shares by layer and part on the left, accuracy over the blocks' energy on the right."""
    with figure_style():
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        draw_shares(left, shares)
        draw_curve(right, curves)
        left.set_title("Energy at tokens with lfdr > 0.1")
        right.set_title("Accuracy when tokens fall silent")
        figure.suptitle(
            f"sdt_digits, {images} test images, 64 tokens; bars and band: 95 % over images",
            fontsize=8, color=MUTED, x=0.01, ha="left",
        )  # fmt: skip
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
        return finish(figure)


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
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the part's energy")
    axes.grid(axis="x", color=RULE)
    axes.legend(fontsize=8, loc="lower left")


def draw_curve(axes: Axes, curves: pd.DataFrame) -> None:
    rows = curves[(curves["null"] == NULLS[0]) & (curves["method"] == "p") & (curves["below"] == "keep")]
    for i, (order, (marker, line, label)) in enumerate(LOOK.items()):
        mean = rows[rows["order"] == order].groupby("threshold").mean(numeric_only=True).sort_values("blocks_share")
        colour = (PALETTE[0], MUTED, PALETTE[5], PALETTE[3])[i]
        look = {"marker": marker, "color": colour, "markersize": 4, "linewidth": 1.3, "linestyle": line}
        axes.plot(mean["blocks_share"], mean["accuracy"], label=label, **look)
        if order == "significance":
            limits = (mean[f"accuracy_{end}"] for end in ("low", "high"))
            axes.fill_between(mean["blocks_share"], *limits, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("energy left in the blocks")
    axes.set_ylabel("accuracy (chance: 10%)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(max(0.0, float(rows["accuracy"].min()) - 0.15), 1.02)
    axes.grid(color=RULE)


def table(frame: pd.DataFrame) -> list[str]:
    """Markdown lines."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(frame.columns)} |", "|" + "---|" * len(frame.columns)]
    return lines + [f"| {' | '.join(map(cell, row))} |" for row in frame.itertuples(index=False)]


def points_of(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per null, method and threshold: what is silenced and left, and the accuracy by order of silencing."""
    keys = ["null", "method", "below", "threshold"]
    mean = curves.groupby([*keys, "order"], sort=False).mean(numeric_only=True)
    ours = mean.xs("significance", level="order")[["silenced", "energy_share", "blocks_share", "accuracy"]]
    others = mean["accuracy"].unstack("order")[["random", "score", "spikes"]].add_prefix("accuracy_")
    energy = mean["blocks_share"].unstack("order")[["random"]].add_prefix("blocks_share_")
    return ours.join(others).join(energy).reset_index()


def in_words(total: pd.DataFrame, curves: pd.DataFrame, images: object) -> list[str]:
    """What the tables show under the first null, and what they do not."""
    hard, soft = (
        total[(total["null"] == NULLS[0]) & (total["rule"] == name)].iloc[0]
        for name in ("lfdr > 0.1", "lfdr as weight")
    )
    points = points_of(curves)
    mine = points[(points["null"] == NULLS[0]) & (points["below"] == "keep")]
    called, none = (
        mine[(mine["method"] == "lfdr") & (mine["threshold"] == 0.1)].iloc[0],
        mine[mine["threshold"] < 0].iloc[0],
    )
    before = mine[mine["threshold"] == 1].iloc[0]
    return [
        f"Under the null {NULLS[0]}, {limits(hard)} of the blocks' energy goes to tokens that the lfdr does not call, "
        f"{hard['of_the_network']:.1%} of the network's; weighed by the lfdr it is {limits(soft)}. What lies between "
        "the two is energy of tokens that may be more than noise and were not called: the hard share is an upper "
        "bound.",
        "",
        f"Silencing the tokens that are not called ({called['silenced']:.1%} of all) leaves "
        f"{called['blocks_share']:.1%} of the blocks' energy and an accuracy of {called['accuracy']:.1%} instead of "
        f"{before['accuracy']:.1%}. As many tokens at random leave {called['blocks_share_random']:.1%} and "
        f"{called['accuracy_random']:.1%}, those with the most spikes kept {called['accuracy_spikes']:.1%}. Where "
        "random tokens do as well, significance has not been shown to tell which tokens the prediction needs. With "
        f"every token of the blocks silent the accuracy is {none['accuracy']:.1%}: so much SPS, the head and the "
        "blocks' biases do alone.",
        "",
        f"One network of 2 blocks and 64 tokens, one training seed, {images} images of one easy data set; energies are "
        "counted operations times table prices, and silencing is no pruning method.",
    ]


def limits(row: pd.Series) -> str:
    return f"{row['share']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"


def report(settings: dict[str, object], tables: dict[str, pd.DataFrame]) -> str:
    """The Markdown beside the tables."""
    shares, curves = tables["shares"], tables["curve"]
    whole = curves[curves["threshold"] == 1].iloc[0]
    total = shares[(shares["layer"] == "all") & (shares["part"] == "all")]
    total = total.assign(of_the_network=total["spurious_mj"] / whole["energy_mj"])
    by_part = shares[(shares["rule"] == "lfdr > 0.1") & (shares["layer"] != "all")]
    columns = ["energy_mj", "spurious_mj", "share", "ci_low", "ci_high", "interval", "below_share"]
    options = " ".join(f"--{name} {settings[name]}" for name in ("images", "replicates", "heads", "draws"))
    lines = [
        "# Energy on noise: sdt_digits on scikit-learn's digits",
        "",
        f"`python scripts/spurious_energy.py {options}`: {settings['seconds']} s on one thread of a busy machine, "
        f"torch {settings['torch']}. Tables: {', '.join(f'{name}.csv' for name in TABLES)}. Definition, assumptions "
        "and limits: docs/attention.md.",
        "",
        f"{settings['images']} test images; accuracy {whole['accuracy']:.4f} [{whole['accuracy_low']:.4f}, "
        f"{whole['accuracy_high']:.4f}]; {whole['energy_mj']:.4g} mJ per image [{whole['ci_low']:.4g}, "
        f"{whole['ci_high']:.4g}] (exact, horowitz-45nm-fp32), of which SPS and head, which have no attention, take "
        f"{tables['outside']['share'].sum():.1%}. Map: Vhat_S rate of each block; +1 p-values pooled over tokens.",
        "",
        "## In words",
        "",
        *in_words(total, curves, settings["images"]),
        "",
        "## Share of the blocks' energy at tokens that are indistinguishable from the null",
        "",
        *table(total[["null", "rule", *columns, "of_the_network"]]),
        "",
        "## By layer and part, lfdr > 0.1",
        "",
        *table(by_part[["null", "layer", "part", *columns]]),
        "",
        f"## By head, lfdr > 0.1, null {NULLS[0]}, {settings['heads']} images",
        "",
        *table(tables["heads"]),
        "",
        "## When tokens fall silent",
        "",
        "Energy counted on the silenced passes; a threshold below 0 keeps no token; random is the mean over draws. "
        f"One accuracy has a standard error of about {np.sqrt(0.09 / settings['images']):.1%} at 90 %, but the orders "
        "share their images.",
        "",
        *table(points_of(curves)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=int, default=100, help="test images, drawn by the seed 0; default: %(default)s"
    )
    parser.add_argument("--replicates", type=int, default=64, help="of each null; default: %(default)s")
    parser.add_argument("--heads", type=int, default=16, help="images assessed head by head; default: %(default)s")
    parser.add_argument("--draws", type=int, default=2, help="of random tokens; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("reports/spurious"))
    parser.add_argument("--redraw", action="store_true", help="text and figure from the tables in OUT")
    given = parser.parse_args()
    if not given.redraw:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore", AttentionWarning)
        begun = time.time()
        made = run(given)
        given.out.mkdir(parents=True, exist_ok=True)
        for name, frame in made.items():
            csv_text.save(frame, given.out / f"{name}.csv", "%.6g")
        settings = {name: getattr(given, name) for name in ("images", "replicates", "heads", "draws")}
        settings |= {"seconds": round(time.time() - begun), "torch": torch.__version__}
        (given.out / "run.json").write_text(json.dumps(settings, indent=2) + "\n")
    settings = json.loads((given.out / "run.json").read_text())
    tables = {name: csv_text.read(given.out / f"{name}.csv") for name in TABLES}
    figure = figure_of(tables["shares"], tables["curve"], settings["images"])
    (given.out / "spurious.svg").write_text(to_svg(figure))
    (given.out / "spurious.png").write_bytes(to_png(figure))
    text = report(settings, tables)
    (given.out / "spurious.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Which share of the demo model's energy goes to tokens whose attention is no more than noise; what silencing costs.

    python scripts/spurious_energy.py

writes reports/spurious/: specifications.csv, shares.csv, heads.csv, outside.csv, curve.csv, run.json, spurious.md and
the figure. Some minutes of one core, most of them in the replicates of the nulls. --redraw makes text and figure from
the tables anew.
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
from spikeattn.spurious.specification_text import MARK, chosen_text, lines_of, range_text, share_text
from spikeattn.storage import csv_text

NULLS = ("pixel", "normal", "patch")  # the first is the chosen one
CHOSEN = "q <= 0.1"  # what "significant" means in the package; asked "how much"
LEVELS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.01, -1.0)
# What is silenced: method, question and thresholds; the curve of p has points from all tokens to none.
CURVES = (("p", "how much", LEVELS), ("q", "how much", (0.2, 0.1, 0.05)), ("p", "where", (0.5, 0.1, 0.05)))
TABLES = ("specifications", "shares", "heads", "outside", "curve")
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
    attentions = {null: attended(model, loader, null, given.replicates) for null in NULLS}
    chosen, *others = attentions.values()
    energy = spurious_energy(profile, chosen, also=[one for each in others for one in each])
    print(energy, flush=True)
    curves = [
        silencing_curve(
            model, loader, chosen, method=method, question=question, thresholds=thresholds, draws=given.draws
        ).assign(null=NULLS[0], method=method, question=question)
        for method, question, thresholds in CURVES
    ]
    few = sa.make_loader(digits, batch_size=32, sample=given.heads)
    by_head = attended(model, few, NULLS[0], given.replicates, "each")
    heads = spurious_energy(sa.profile(model, few), by_head).heads
    tables = [energy.specifications, energy.parts, heads, energy.outside, pd.concat(curves)]
    return dict(zip(TABLES, tables, strict=True))


def figure_of(tables: dict[str, pd.DataFrame], images: int) -> Figure:
    """The share by specification on the left, accuracy over the blocks' energy on the right."""
    with figure_style():
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        draw_specifications(left, tables["specifications"])
        draw_curve(right, tables["curve"])
        left.set_title("Energy at insignificant tokens")
        right.set_title("Accuracy when tokens fall silent")
        figure.suptitle(
            f"sdt_digits, {images} test images, 64 tokens; bars: 95 % over images and replicates, band: over images",
            fontsize=8, color=MUTED, x=0.01, ha="left",
        )  # fmt: skip
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
        return finish(figure)


def draw_specifications(axes: Axes, grid: pd.DataFrame) -> None:
    """A line per rule and question, a marker per null; the chosen rule is set in bold."""
    names = list(dict.fromkeys(zip(grid["question"], grid["rule"], strict=True)))
    names.sort(key=lambda name: name[0])  # "how much" above "where"
    for i, null in enumerate(NULLS):
        of_null = grid[grid["null"] == null].set_index(["question", "rule"]).loc[names]
        y = np.arange(len(names)) + 0.24 * (i - 1)
        bars = np.abs(of_null[["low", "high"]].to_numpy(float).T - of_null["share"].to_numpy(float))
        look = {"color": PALETTE[(0, 5, 3)[i]], "marker": "os^"[i], "markersize": 3.5, "linestyle": "none"}
        axes.errorbar(of_null["share"], y, xerr=bars, label=f"null: {null}", elinewidth=1, **look)
    axes.set_yticks(range(len(names)), [f"{question}, {rule}" for question, rule in names], fontsize=7)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == ("how much", CHOSEN) else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the blocks' energy")
    axes.grid(axis="x", color=RULE)
    axes.legend(fontsize=7, loc="lower left")


def draw_curve(axes: Axes, curves: pd.DataFrame) -> None:
    rows = curves[(curves["method"] == "p") & (curves["question"] == "how much")]
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
    """One row per method, question and threshold: what is silenced and left, and the accuracy by order of silencing."""
    keys = ["method", "question", "threshold"]
    if (curves.groupby(keys)["silenced"].nunique() > 1).any():
        raise ValueError("an order silences another number of tokens than significance does at the same threshold")
    mean = curves.groupby([*keys, "order"], sort=False).mean(numeric_only=True)
    ours = mean.xs("significance", level="order")[["silenced", "energy_share", "blocks_share", "accuracy"]]
    others = mean["accuracy"].unstack("order")[["random", "score", "spikes"]].add_prefix("accuracy_")
    energy = mean["blocks_share"].unstack("order")[["random", "score"]].add_prefix("blocks_share_")
    return ours.join(others).join(energy).reset_index()


def in_words(tables: dict[str, pd.DataFrame], images: object) -> list[str]:
    """What the tables show, the range first, and what they do not."""
    grid, points = tables["specifications"], points_of(tables["curve"])
    row = grid[grid["chosen"]].iloc[0]
    how_much = grid[grid["question"] == "how much"]["share"]
    nulls = grid[(grid["rule"] == CHOSEN) & (grid["question"] == "how much")]["share"]
    called = points[(points["method"] == "q") & (points["threshold"] == 0.1)].iloc[0]
    curve = points[(points["method"] == "p") & (points["question"] == "how much")]
    before, none = curve[curve["threshold"] == 1].iloc[0], curve[curve["threshold"] < 0].iloc[0]
    inner = points[(points["threshold"] > 0) & (points["threshold"] < 1)]
    ahead = {order: inner["accuracy"] - inner[f"accuracy_{order}"] for order in ("random", "score", "spikes")}
    means = ", ".join(
        f"{100 * lead.mean():+.1f} points against {name} ({100 * lead.min():+.1f} to {100 * lead.max():+.1f})"
        for name, lead in zip(("random tokens", "the raw score", "the number of spikes"), ahead.values(), strict=True)
    )
    return [
        f'**By specification: {range_text(grid)}.** Asked "how much", it is {how_much.min():.1%} to '
        f"{how_much.max():.1%}; between the nulls at {CHOSEN} it is {nulls.min():.1%} to {nulls.max():.1%}. The chosen "
        f"line ({chosen_text(grid)}) says {share_text(row['share'], row['low'], row['high'])}, an interval over images "
        "and replicates that says nothing of the choice.",
        "",
        f"Silencing the tokens that are not significant by the chosen line ({called['silenced']:.1%} of all) leaves "
        f"{called['blocks_share']:.1%} of the blocks' energy and an accuracy of {called['accuracy']:.1%} instead of "
        f"{before['accuracy']:.1%}. As many tokens at random leave {called['blocks_share_random']:.1%} and "
        f"{called['accuracy_random']:.1%}; as many with the lowest raw score {called['blocks_share_score']:.1%} and "
        f"{called['accuracy_score']:.1%}; with the most spikes kept {called['accuracy_spikes']:.1%}. With every token "
        f"of the blocks silent the accuracy is {none['accuracy']:.1%}: so much SPS, the head and the blocks' biases do "
        "alone.",
        "",
        f"Over all {len(inner)} thresholds between all tokens and none, keeping the significant ones is ahead in "
        f"accuracy by, on average: {means}. One image is {1 / float(str(images)):.1%}. Where random tokens or the raw "
        "score do as well, significance has not been shown to tell which tokens the prediction needs, and the energy "
        "at the others has not been shown to be waste.",
        "",
        f"One network of 2 blocks and 64 tokens, one training seed, {images} images of one easy data set; energies are "
        "counted operations times table prices, and silencing is no pruning method.",
    ]


def report(settings: dict[str, object], tables: dict[str, pd.DataFrame]) -> str:
    """The Markdown beside the tables."""
    grid, curves, shares = tables["specifications"], tables["curve"], tables["shares"]
    whole = curves[curves["threshold"] == 1].iloc[0]
    options = " ".join(f"--{name} {settings[name]}" for name in ("images", "replicates", "heads", "draws"))
    lines = [
        "# Energy on noise: sdt_digits on scikit-learn's digits",
        "",
        *in_words(tables, settings["images"]),
        "",
        f"`python scripts/spurious_energy.py {options}`: {settings['seconds']} s on one thread of a busy machine, "
        f"torch {settings['torch']}. Tables: {', '.join(f'{name}.csv' for name in TABLES)}. Definition, assumptions "
        "and limits: docs/attention.md.",
        "",
        f"{settings['images']} test images; accuracy {whole['accuracy']:.4f} [{whole['accuracy_low']:.4f}, "
        f"{whole['accuracy_high']:.4f}]; {whole['energy_mj']:.4g} mJ per image [{whole['ci_low']:.4g}, "
        f"{whole['ci_high']:.4g}] (exact, horowitz-45nm-fp32), of which SPS and head, which have no attention, take "
        f"{tables['outside']['share'].sum():.1%}. Map: Vhat_S rate of each block; standardised one-sided p, "
        f"B = {settings['replicates']}.",
        "",
        "## Share of the blocks' energy by specification",
        "",
        f"`{MARK}` marks the chosen line; limits over images and replicates.",
        "",
        *table(pd.DataFrame(lines_of(grid))),
        "",
        f"## By layer and part, {chosen_text(grid)}",
        "",
        *table(shares),
        "",
        f"## By head, {chosen_text(grid)}, {settings['heads']} images",
        "",
        *table(tables["heads"]),
        "",
        "## When tokens fall silent",
        "",
        f"Null {NULLS[0]}. At a threshold every order silences as many tokens of every image and block. Energy counted "
        "on the silenced passes; a threshold below 0 keeps no token; random is the mean over draws. One accuracy has a "
        f"standard error of about {np.sqrt(0.09 / float(str(settings['images']))):.1%} at 90 %, but the orders share "
        "their images.",
        "",
        *table(points_of(curves)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60, help="test images, drawn by the seed 0; default: %(default)s")
    parser.add_argument("--replicates", type=int, default=100, help="of each null; default: %(default)s")
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
    figure = figure_of(tables, settings["images"])
    (given.out / "spurious.svg").write_text(to_svg(figure))
    (given.out / "spurious.png").write_bytes(to_png(figure))
    text = report(settings, tables)
    (given.out / "spurious.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

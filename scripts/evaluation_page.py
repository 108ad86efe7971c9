"""The page that evaluate_attention.py writes."""

from __future__ import annotations

import argparse

import pandas as pd

SHOWN = {
    "D": "D",
    "nonzero_after": "noise kept, %",
    "mass_after": "noise attention left, %",
    "share_before": "noise share before",
    "share_after": "and after",
    "object_kept": "digit kept, %",
    "object_mass": "digit attention left, %",
    "object_share_before": "digit share before",
    "object_share_after": "and after ",
    "kept_outside": "kept outside, %",
    "srmsd": "srmsd",
}

HOW = """Noise: N(mean, std) of the image in a square of 3/8 of its side, or in as many pixels in clusters. Columns: D,
the region's percentiles after over before (0: all attention on noise is gone, 1: none is); the share of the region and
of the digit (pixels with at least half ink, outside the noise) that keeps attention, by tokens; their parts of the
map's total before and after. Method `none` is the map as it was; `p` the regularised one; `random` keeps as many tokens
as `p`, drawn at random: where `p` keeps the digit and drops the noise no better than `random`, it has found neither."""

AUC = """For every map, layer, head and null of the choice: `auc` is the chance that a token of the digit scores higher
than a token of noise in the same image. A null shared by all tokens and any threshold keep the tokens above some score,
so they cannot separate the two better than the raw scores do: with an AUC of 0.5 the share of the digit that is kept
equals that of the noise, whatever the null. The best map of each kind, p <= .1, on training digits:"""


def shown(table: pd.DataFrame, columns: list[str]) -> str:
    """The Markdown of one table: values with their standard errors in brackets."""
    names = [name for name in SHOWN if name in table and table[name].notna().any()]
    head = columns + [SHOWN[name] for name in names]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.to_dict("records"):
        cells = [str(row[name]) for name in columns]
        for name in names:
            places = 1 if "%" in SHOWN[name] else 3
            error = row.get(f"{name}_se")
            bracket = "" if error is None or pd.isna(error) else f" ({error:.{places}f})"
            cells.append("" if pd.isna(row[name]) else f"{row[name]:.{places}f}{bracket}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(
    args: argparse.Namespace, evaluation: pd.DataFrame, chosen: pd.DataFrame, randomised: pd.DataFrame, seconds: float
) -> str:
    """evaluation.md."""
    table, checks = evaluation, randomised
    photos = f" --photos DIR --number {args.number}" if args.photos is not None else ""
    others = set(chosen["model"]) - set(args.models)
    only = f" --models {' '.join(args.models)}" if others else ""
    untrained = table["model"].str.contains("untrained")
    parts = [
        "# Noise planted in images: what attention it keeps, and what the object keeps",
        f"`python scripts/evaluate_attention.py --images {args.images} --choice {args.choice} --replicates "
        f"{args.replicates}{photos}{only}`: {seconds:.0f} s on one thread of a busy machine"
        f"{'; the rows of the other models are those of an earlier run' if others else ''}. In brackets: standard "
        "errors over images. How `sdt_digits_scenes` came about, and what it shows: [scenes.md](scenes.md); "
        "real photos with B = 200: [photos.md](photos.md).",
        HOW,
        f"## Trained models, {args.images} digits of the test split",
        "`default`: the model's default map of the last layer, null `normal`, p <= .1. Best on "
        f"{args.choice} training digits, of "
        f"{', '.join(f'{n} settings of {name}' for name, n in chosen.groupby('model', sort=False).size().items())}: "
        "`by tokens`, the share of the digit's tokens that keep attention minus that of the noise; `by share`, the "
        "digit's part of the regularised map minus the noise's.",
        shown(table[~untrained], ["model", "setting", "map", "null", "region", "method"]),
        verdict(table[~untrained]),
        "## How far digit and noise can be told apart at all",
        AUC,
        best_of_each_kind(chosen),
    ]
    if untrained.any():
        parts += [
            f"## An untrained ViT on {int(table.loc[untrained, 'images'].iloc[0])} real photos",
            "ViT-Ti/16 of timm with random weights, 224x224 pixels, 196 tokens. Its attention follows nothing but the "
            "pixels, so it shows what the evaluation gives where nothing has been learned.",
            shown(table[untrained], ["map", "null", "region", "method"]),
        ]
    if len(checks):
        parts += [
            "## Randomisation check",
            f"The maps chosen by tokens, of {int(checks['images'].iloc[0])} test digits while weights are permuted "
            "layer by layer, last to first: Spearman's correlation with the trained model's maps, Jaccard index "
            "of what is significant, share of maps that are constant. Layers behind the map change nothing.",
        ]
        for name, rows in checks.groupby("model", sort=False):
            lines = ["| layer | Spearman | Jaccard of what is significant | constant |", "|---|---|---|---|"]
            for row in rows.to_dict("records"):
                lines.append(
                    f"| {row['layer']} | {row['spearman_mean']:.2f} ({row['spearman_sem']:.2f}) | "
                    f"{row['jaccard_mean']:.2f} ({row['jaccard_sem']:.2f}) | {row['constant_mean']:.2f} |"
                )
            parts += [f"### {name}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def verdict(table: pd.DataFrame) -> str:
    """A line per model and setting: what the digit keeps beyond the noise and beyond chance, with rough errors."""
    lines = []
    for (model, setting, region), rows in table.groupby(["model", "setting", "region"], sort=False):
        row, chance, before = (rows[rows["method"] == method].iloc[0] for method in ("p", "random", "none"))
        gap = row["object_kept"] - row["nonzero_after"]
        error = (row["object_kept_se"] ** 2 + row["nonzero_after_se"] ** 2) ** 0.5
        luck = row["object_kept"] - chance["object_kept"]
        luck_error = (row["object_kept_se"] ** 2 + chance["object_kept_se"] ** 2) ** 0.5
        parted = gap > 2 * error and luck > 2 * luck_error
        lines.append(
            f"- {model}, {setting}, {region}: attention on {before['nonzero_after']:.0f} % of the noise tokens before "
            f"and {row['nonzero_after']:.0f} % after, on {before['object_kept']:.0f} % of the digit's before and "
            f"{row['object_kept']:.0f} % after; the noise's part of the map {row['share_before']:.3f} before and "
            f"{row['share_after']:.3f} after. Digit minus noise {gap:.1f} ({error:.1f}) percentage points, digit minus "
            f"chance {luck:.1f} ({luck_error:.1f}): {'told apart' if parted else 'NOT told apart'}."
        )
    return "\n".join(["Told apart: both differences exceed twice their errors (taken as independent).", "", *lines])


def best_of_each_kind(chosen: pd.DataFrame) -> str:
    """Of every model, kind and null the map with the highest AUC, at p <= .1 of the pooled null."""
    one = chosen[(chosen["estimator"] == "plus-one") & (chosen["threshold"] == 0.1)].copy()
    one["head"] = [("mean" if pd.isna(head) else str(int(head))) for head in one["head"]]
    lines = [
        "| model | map | layer | head | null | AUC | digit kept, % | noise kept, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, rows in one.groupby(["model", "kind", "null"], sort=False):
        row = rows.sort_values("auc").iloc[-1]
        lines.append(
            f"| {row['model']} | {row['kind']} | {row['layer']} | {row['head']} | {row['null']} | {row['auc']:.2f} | "
            f"{row['object_kept']:.1f} | {row['nonzero_after']:.1f} |"
        )
    return "\n".join(lines)

"""The page of `train_svda.py`: its tables in words, the conclusion by rule from the accuracies, never by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from markdown_table import markdown_table

from spikeattn.attention.indicators import INDICATORS
from spikeattn.storage import csv_text, files

# timm starts weights with a standard deviation of 0.02, so that q and k of normalised tokens of 64 channels have one of
# 0.02 * 8 = 0.16. The 1/sqrt(d) of softmax attention presumes 1, which a factor of 6 all but gives: 0.96.
LARGER = 6
CONTROL = f"softmax x {LARGER}"
LAYERS = ("SVDA", "SVDA shared")
CLEAR = 2  # standard errors from which a difference counts


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """A frame as a Markdown table."""
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row] for row in frame.itertuples(False)]
    return markdown_table(list(frame.columns), cells)


def difference(accuracy: pd.DataFrame, one: str, other: str) -> tuple[float, float]:
    """Accuracy of one model less that of another over all seeds, and its standard error, in percentage points.

    The larger of two errors: the binomial one of all seeds' test images together, as if they were independent, and from
    two seeds on that of the mean of the seeds' differences, since trainings differ by more than the images tell.
    """
    total = accuracy.groupby("model")[["correct", "test_images"]].sum()
    p = total["correct"] / total["test_images"]
    variance = p * (1 - p) / total["test_images"]
    binomial = float(variance[one] + variance[other]) ** 0.5
    rates = accuracy.assign(rate=accuracy["correct"] / accuracy["test_images"])
    by_seed = rates.pivot(index="seed", columns="model", values="rate")
    each = by_seed[one] - by_seed[other]
    scatter = float(each.std(ddof=1)) / len(each) ** 0.5 if len(each) > 1 else 0.0
    return 100 * float(p[one] - p[other]), 100 * max(binomial, scatter)


def conclusion(accuracy: pd.DataFrame) -> str:
    """What the accuracies say of the layer and of its start, in sentences; differences count from `CLEAR` errors.

    accuracy: model ("softmax", `CONTROL` and those of `LAYERS`), correct and test_images of every seed.
    """
    over_softmax = {name: difference(accuracy, name, "softmax") for name in (CONTROL, *LAYERS)}
    over_control = {name: difference(accuracy, name, CONTROL) for name in LAYERS}
    better = [name for name, (points, error) in over_control.items() if points > 0 and points >= CLEAR * error]
    points, error = over_softmax[CONTROL]
    if better:
        verdict = f"{' and '.join(better)}: better than the control too, so the start does not explain the whole gain."
    elif points > 0 and points >= CLEAR * error:
        verdict = (
            "SVDA is not shown to be better than the control, and the control is better than softmax: **the gain is "
            "the start, not the layer.**"
        )
    else:
        verdict = "SVDA is not shown to be better than the control, nor the control than softmax."
    return (
        f"`{CONTROL}` is softmax attention whose q and k weights are {LARGER} times larger at the start, with no other "
        f"change. Percentage points above softmax: {_listed(over_softmax)}. Above this control: "
        f"{_listed(over_control)}. {verdict}"
    )


def _listed(differences: dict[str, tuple[float, float]]) -> str:
    return ", ".join(
        f"{name} {points:+.1f} (standard error {error:.1f})" for name, (points, error) in differences.items()
    )


def write_page(out: Path, about: str) -> None:
    """svda.md from accuracy.csv, pruning.csv and indicators.csv in the folder; `about` is its head."""
    accuracy, pruned, logs = (csv_text.read(out / f"{name}.csv") for name in ("accuracy", "pruning", "indicators"))
    parts = [about, *_accuracy(accuracy), *_indicators(logs), *_pruning(pruned, logs)]
    files.write(out / "svda.md", "\n\n".join(parts) + "\n")


def _accuracy(accuracy: pd.DataFrame) -> list[str]:
    by_model = accuracy.groupby("model", sort=False)
    overview = by_model["accuracy"].agg(["mean", "min", "max"]).reset_index()
    overview["parameters"] = by_model["parameters"].first().to_list()
    overview["seconds"] = by_model["seconds"].mean().round().astype(int).to_list()
    seeds, n, mean = accuracy["seed"].nunique(), int(accuracy["test_images"].iloc[0]), overview["mean"].mean()
    return [
        "## Accuracy",
        markdown(overview, 4),
        conclusion(accuracy),
        f"Mean, min and max over the seeds ({seeds}), {n} test images. One seed's accuracy has a standard error of "
        f"about {100 * (mean * (1 - mean) / n) ** 0.5:.1f} points from the number of test images alone. Standard "
        "errors of differences are the larger of that of all seeds' test images together and that between seeds; from "
        f"{CLEAR} of them a difference counts. Seconds are of training, on a machine with other work. The learning "
        "rate was not tuned for each model. Patch size and epochs were set after 25 epochs with patches of 2 pixels, "
        "whose test accuracies were seen, had left softmax attention and one SVDA model unconverged.",
    ]


def _indicators(logs: pd.DataFrame) -> list[str]:
    last = logs[logs["epoch"].isin([0, logs["epoch"].max()])]
    six = last.groupby(["model", "epoch"], sort=False)[list(INDICATORS)].mean().reset_index()
    return [
        "## Indicators",
        "Means over layers, heads and seeds; per layer, head and epoch in `indicators.csv`, drawn for the first seed "
        "in `indicators-*.svg`. The spectrum of SVDA is its learned sigma, that of softmax attention the singular "
        "values of Q K^T: their entropies have the same range, but they are not the same quantity.",
        markdown(six),
    ]


def _pruning(pruned: pd.DataFrame, logs: pd.DataFrame) -> list[str]:
    cut = pruned.groupby(["model", "rho"], sort=False)[["directions", "macs", "accuracy"]].mean().reset_index()
    cut["macs"] = (cut["macs"] / cut.groupby("model")["macs"].transform("max")).to_list()
    cut = cut.rename(columns={"macs": "share of attention MACs"})
    cut["directions"] = [f"{left:.0f}" for left in cut["directions"]]
    spectra = logs[logs["kind"] == "svda"]
    ranks = spectra.loc[spectra["epoch"] == spectra["epoch"].max(), "effective_rank"]
    d = spectra.loc[spectra["epoch"] == 0, "effective_rank"].max()  # a flat start has the rank d
    return [
        "## Pruning by energy, without training afterwards",
        markdown(cut, 4),
        "rho is the share of the sum of sigma^2 that every head keeps; directions are those of all heads and layers, "
        "the mean over seeds; MACs of the attention layers, projections included. How much the rule can know depends "
        f"on how far the spectra have left their flat start: their effective rank at the end is {ranks.min():.2f} to "
        f"{ranks.max():.2f} of {d:.0f} directions. Close to {d:.0f}, sigma hardly ranks them, and the table says what "
        "removing about so many of them costs.",
    ]

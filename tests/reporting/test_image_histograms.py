"""Energy and operations image by image: the table, the histograms, and the classes that are shown."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from spikeattn.boundary.number_format import significant
from spikeattn.reporting.figures.drawing import to_svg
from spikeattn.reporting.figures.image_histograms import image_histograms
from spikeattn.reporting.tables.image_tables import classes_said, classes_shown, image_table


@pytest.fixture
def images(profile) -> pd.DataFrame:
    return image_table(profile, profile.energy())


def made(n: int, classes: int) -> pd.DataFrame:
    """Images whose energy is their number; image i is of class i modulo the number of classes, none without."""
    labels = pd.array([i % classes for i in range(n)] if classes else [pd.NA] * n, dtype="Int64")
    numbers = np.arange(1, n + 1, dtype=float)
    return pd.DataFrame({"label": labels, "energy_mj": numbers * 1e-3, "sops": numbers * 1e4})


def test_the_rows_are_those_of_the_run_and_their_means_are_the_totals(profile, images) -> None:
    energy, rows = profile.energy(), profile.counts.rows
    assert list(images["id"]) == list(rows["id"]) and list(images["label"]) == list(rows["label"])
    assert list(images["prediction"]) == list(rows[f"pred_{profile.time_steps}"])
    assert images["energy_mj"].mean() == pytest.approx(energy.total.value)
    for column in ("sops", "macs", "acs", "mask_ops"):
        assert images[column].mean() == pytest.approx(energy.iloc[-1][column])
    by_hand = profile.operations(per_image=True).groupby("image")["sops"].sum()
    assert list(images["sops"]) == pytest.approx(list(by_hand[images["image"]]))


def test_another_convention_has_its_own_operations(profile) -> None:
    energy = profile.energy(convention="input-rate")
    found = image_table(profile, energy)
    assert found["sops"].mean() == pytest.approx(energy.iloc[-1]["sops"])
    assert found["energy_mj"].mean() == pytest.approx(energy.total.value)


def test_without_labels_and_answers_they_are_unknown_and_not_minus_one(foreign) -> None:
    found = image_table(foreign, foreign.energy())
    assert found["label"].isna().all() and classes_shown(found) == ([], 0) and classes_said(found) == ""


@pytest.mark.parametrize(("n", "classes"), [(1, 0), (1, 1), (2, 0), (2, 2), (30, 3), (300, 2), (60, 30)])
def test_every_image_is_in_one_bar(n: int, classes: int) -> None:
    figure = image_histograms(made(n, classes))
    svg = to_svg(figure)
    bars = [int(count) for count in re.findall(r"<title>[^<:]* to [^<:]*: (\d+) image", svg)]
    assert sum(bars) == 2 * n  # energies, and operations
    assert len(re.findall(r"<title>class ", svg)) == 2 * min(classes, 20)
    mean = (n + 1) / 2
    assert f"mean {significant(mean)} µJ" in svg  # energies are whole µJ here, and operations 10 k


def test_images_that_are_all_alike_share_one_bar() -> None:
    same = made(5, 0).assign(energy_mj=2e-6, sops=0.0)
    svg = to_svg(image_histograms(same, "UNTRAINED"))
    assert re.findall(r": (\d+) images?</title>", svg) == ["5", "5"] and "UNTRAINED" in svg


def test_of_many_classes_the_lowest_and_the_highest_are_shown_and_that_is_said() -> None:
    frame = made(300, 30)
    chosen, n = classes_shown(frame)
    assert n == 30 and chosen == [*range(10), *range(20, 30)]  # class k has the mean energy k + const
    assert classes_said(frame).startswith("Of 30 classes the 10 with the lowest and the 10 with the highest")
    assert "20 of 30: lowest and highest" in to_svg(image_histograms(frame))
    assert classes_said(made(9, 3)) == "The 3 classes stand in rising order of their mean energy."


def test_a_large_class_is_a_line_and_not_thousands_of_dots() -> None:
    assert len(to_svg(image_histograms(made(2_000, 10)))) < 200_000

"""Tables of many images are made a block of rows and columns at a time, and nothing moves by it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.energy import amounts, get_convention, get_costs
from spikeattn.energy.amounts import amounts_by_part
from spikeattn.energy.by_part import amounts_by_part_and_block, energies_of, scopes_of
from spikeattn.energy.profile_argument import counted
from spikeattn.stats import column_blocks, intervals
from spikeattn.stats.intervals import Intervals
from tests.counting.networks import batches, tiny_sdt
from tests.models.sdt_oracle import exact_input

IMAGES = 24


@pytest.fixture(scope="module")
def profile() -> sa.Profile:
    return sa.profile(tiny_sdt(), batches(exact_input(IMAGES, 3, 16, 16), 6))


def _tables(profile: sa.Profile) -> dict[str, pd.DataFrame]:
    compared = sa.compare(profile)
    return {
        "energy": profile.energy(),
        "rates": profile.rates(),
        "parts": compared.parts,
        "blocks": compared.blocks,
    }


def test_rows_in_blocks_give_the_same_tables(profile, monkeypatch) -> None:
    whole = _tables(profile)
    monkeypatch.setattr(amounts, "_ROWS", 7)  # 24 images in blocks of 7, 7, 7 and 3
    monkeypatch.setattr(intervals, "_ROWS", 7)
    for name, table in _tables(profile).items():
        pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(whole[name]), rtol=1e-15, obj=name)


def test_columns_in_blocks_give_the_same_limits(profile, monkeypatch) -> None:
    whole, taken, inside = _tables(profile), [], column_blocks.mean_intervals

    def taking(table: np.ndarray, *rest: object, **more: object) -> Intervals:
        taken.append(table.shape)
        return inside(table, *rest, **more)

    monkeypatch.setattr(column_blocks, "_BYTES", 8 * IMAGES * 11)  # 11 columns at a time
    monkeypatch.setattr(column_blocks, "mean_intervals", taking)
    for name, table in _tables(profile).items():
        pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(whole[name]), rtol=1e-12, obj=name)
    assert len(taken) > 2 and max(columns for _, columns in taken) == 11


def test_energy_models_in_blocks_give_the_same_tables(profile, monkeypatch) -> None:
    whole, taken, inside = profile.energy_models(), [], intervals.mean_intervals

    def taking(table: np.ndarray, *rest: object, **more: object) -> Intervals:
        taken.append(table.shape)
        return inside(table, *rest, **more)

    monkeypatch.setattr(column_blocks, "_BYTES", 8 * IMAGES * 60)  # two or three models at a time
    monkeypatch.setattr(intervals, "mean_intervals", taking)
    made = profile.energy_models()
    for each, expected in ((made, whole), (made.parts, whole.parts), (made.per_image, whole.per_image)):
        pd.testing.assert_frame_equal(pd.DataFrame(each), pd.DataFrame(expected), rtol=1e-12)
    assert made.missing == whole.missing and made.notes == whole.notes
    assert len(taken) > 2 and max(columns for _, columns in taken) <= 60


def test_the_mean_is_that_of_the_whole_table_to_the_last_digit(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    columns = {(key, kind): generator.lognormal(0, 9, 1000) for key, kind in ((0, 1), (2, 0), (2, 3))}
    made = amounts.Amounts(("a", "b", "c"), 1000, columns, *np.zeros((3, 3, 4)))
    monkeypatch.setattr(amounts, "_ROWS", 64)
    assert np.array_equal(made.mean(), made.per_image.mean(axis=0))
    assert np.array_equal(np.concatenate([block for _, block in made.blocks()]), made.per_image)


def test_amounts_keep_only_what_there_is(profile) -> None:
    """One column per part and kind of operation; and a block of rows at a time is what prices meet."""
    found = amounts_by_part(counted(profile), get_convention("exact"))
    assert len(found.columns) < found.per_image[0].size
    assert all(column.shape == (IMAGES,) for column in found.columns.values())
    several = amounts_by_part_and_block(counted(profile), get_convention("exact"))
    scopes = scopes_of(several.keys)
    total = next(i for i, scope in enumerate(scopes) if (scope.table, scope.part) == ("parts", "total"))
    energies = energies_of(several, get_costs(), scopes)[:, total]
    assert energies == pytest.approx(profile.energy().per_image, rel=1e-12)

"""One rule of what is significant: the page, `spikeattn attend` and `sa.spurious_energy` agree on one run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.attention.study import Study, StudySettings, look
from spikeattn.boundary.number_format import percent
from spikeattn.energy import get_convention, get_costs
from spikeattn.reporting.page.from_python import gallery_of
from spikeattn.reporting.page.gallery import Gallery, read_gallery
from spikeattn.reporting.study.arrays import write_tables
from spikeattn.reporting.study.gallery_pictures import draw_gallery
from spikeattn.reporting.study.summary import summary_of
from spikeattn.spurious.study_energy import study_energy

from .test_page import Page

IMAGES, REPLICATES = 3, 40


class SameRun(NamedTuple):
    profile: sa.Profile
    attention: sa.Attention
    images: torch.Tensor
    ids: list[str]
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SameRun:
    """The shipped model on some digits: profiled, attended from Python, and attended into a folder as the CLI does."""
    from spikeattn.cli.output import to_json

    folder = tmp_path_factory.mktemp("one_rule")
    model = sa.load_model("sdt_digits", pretrained=True)
    data = sa.open_dataset("digits", model)
    profile = sa.profile(model, sa.make_loader(data, batch_size=IMAGES, limit=IMAGES))
    images = torch.stack([data[i][0] for i in range(IMAGES)])
    attention = sa.attend(model, images, "pixel", REPLICATES, layer="all", tokens=True)
    study = Study(model, data, StudySettings("pixel", REPLICATES, layer="all"))
    indices, _ = look([study], range(IMAGES))
    energy = study_energy(study, profile, indices, get_costs("horowitz-45nm-fp32"), get_convention("exact"))
    files, key = draw_gallery(folder, study, indices, energy)
    summary = summary_of([study], energy=energy) | {"gallery": key}
    summary["files"] = [*files, *write_tables(folder, [study], energy=energy)]
    (folder / "summary.json").write_text(to_json(summary))
    return SameRun(profile, attention, images, study.ids, folder)


@pytest.fixture(scope="module")
def galleries(run: SameRun) -> tuple[Gallery, Gallery]:
    """Of the folder, and of what `sa.attend` returned."""
    here = gallery_of(run.attention, run.images, run.ids, run.profile)
    return read_gallery(run.folder, "sdt_digits"), here


def test_the_page_and_spurious_energy_call_the_same_tokens(run: SameRun, galleries) -> None:
    significant = run.attention.q <= 0.1  # [image, layer, h, w]
    energy = sa.spurious_energy(run.profile, run.attention)
    by_hand = energy.layer_maps[~significant].sum() / energy.layer_maps.sum()
    assert 0.05 < by_hand < 0.95 and energy.total.value == pytest.approx(by_hand)
    for gallery in galleries:
        assert gallery.images["significant"].to_numpy() == pytest.approx(significant.mean((2, 3)).ravel())
        assert gallery.summary["energy"]["share_of_blocks"]["value"] == pytest.approx(by_hand)
        assert gallery.spurious["share_of_blocks"].startswith(percent(by_hand).removesuffix(" %"))
    arrays = np.load(run.folder / "attention.npz")
    assert np.array_equal(arrays["significant"], significant)
    assert arrays["spurious_mj"] == pytest.approx(~significant * arrays["energy_mj"])


def test_python_shows_what_the_command_line_shows(run: SameRun, galleries, tmp_path) -> None:
    there, here = galleries
    columns = [name for name in there.images if name != "warned"]
    assert there.images[columns].equals(here.images[columns])
    for name in ("title", "details", "rule", "questions", "promise"):
        assert there.summary["networks"][0][name] == here.summary["networks"][0][name], name
    assert there.key == here.key
    sizes = [[(tile.title, tile.width, tile.height) for tile in each.tiles] for each in there.pictures]
    assert sizes == [[(tile.title, tile.width, tile.height) for tile in each.tiles] for each in here.pictures]
    assert all(len(each) > 1 for each in sizes)
    assert [(each.name, each.text) for each in there.pictures] == [(each.name, each.text) for each in here.pictures]
    pages = []
    for attention, options in ((run.folder, {}), (run.attention, {"images": run.images, "ids": run.ids})):
        done = sa.report(run.profile, attention, tmp_path / str(len(pages)), **options)
        page = done.page.read_text(encoding="utf-8")
        section = page[page.index('<section id="attention"') :].partition("</section>")[0]
        pages.append(Page(section).words)
    assert pages[0] == pages[1] and "How much" in pages[0]

"""`sa.report`: from a profile, a folder of attention, or what `sa.attend` returned; and the old name of the room."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch

import spikeattn as sa
from spikeattn.attention.bootstrap_test import Attention
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.page.from_python import gallery_of
from spikeattn.reporting.page.stages import about_attention
from spikeattn.structure import Entry, Structure
from tests.structure import odd_networks as odd


@pytest.fixture(scope="module")
def made() -> tuple[sa.Profile, Attention, torch.Tensor]:
    torch.manual_seed(0)
    model, images = odd.Net(), torch.rand(3, 3, 16, 16) * 4
    return sa.profile(model, [images]), sa.attend(model, images[:2], "pixel", 20, "q", layer="all"), images[:2]


def test_attention_in_memory_stands_on_the_page(made, tmp_path) -> None:
    profile, attention, images = made
    done = sa.report(profile, attention=attention, out=tmp_path / "a", images=images, ids=["cat.png", "dog.png"])
    page = done.page.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2 * 4 and "cat.png" in page  # four tiles of each
    rows = (tmp_path / "a" / "attention_images.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2 and rows[0].startswith("model,image,layer,tokens")
    assert "<iframe srcdoc=" in done._repr_html_() and "spiking profile" in done._repr_html_()
    blank = sa.report(profile, attention, tmp_path / "b").page.read_text(encoding="utf-8")
    assert "image 0" in blank and blank.count("data:image/png;base64,") == 2 * 4


def test_without_attention(made, tmp_path) -> None:
    page = sa.report(made[0], out=tmp_path).page.read_text(encoding="utf-8")
    assert "This network has attention in blocks 1, 2, which was not looked at" in page


def test_the_last_block_is_named_and_an_unknown_one_is_not_guessed(made, tmp_path) -> None:
    profile, _, images = made
    last = sa.attend(odd.Net(), images, "pixel", 20, "q")
    assert gallery_of(last, images, None, profile).images["layer"].tolist() == [1, 1]  # of two blocks, not -1
    old = sa.Profile(dataclasses.replace(profile.ledger, structure={}), profile.counts)
    assert "Whether this network has attention is not known: the run is of a version" in page_of(old, tmp_path)


def test_of_a_map_of_ones_own_no_block_and_no_unit_is_guessed(made) -> None:
    def brightness(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        return images.abs().mean(1) + 0.1

    profile, _, images = made
    gallery = gallery_of(sa.attend(odd.Net(), images, "normal", 8, brightness), images, None, profile)
    assert gallery.images["layer"].isna().all()
    assert gallery.summary["networks"][0]["details"] == "brightness; null: normal, B = 8; standardised p"
    assert gallery.key is not None and gallery.key.attention.measure == "brightness"


def test_a_structure_that_could_not_be_read_is_no_network_without_attention(made, monkeypatch, tmp_path) -> None:
    def failing(*args: object) -> None:
        raise SpikeattnError("it has no image")

    monkeypatch.setattr("spikeattn.structure.reading.structure_of", failing)
    profile = sa.profile(odd.Net(), [torch.rand(2, 3, 16, 16)])
    assert profile.ledger.structure == {}
    page = page_of(profile, tmp_path)
    assert "not known: nothing is known of it, since it has no image" in page and "has no attention" not in page


def test_layers_that_nobody_knows_leave_it_open_whether_there_is_attention() -> None:
    known, strange = Entry("a", "conv", known="dataflow"), Entry("b")
    found = about_attention(Structure({"synapses": (known, strange), "products": ()}))
    assert "1 layer that nobody knows, the first is b" in found and "has no attention" not in found
    plain = about_attention(Structure({"synapses": (known,), "products": ()}))
    assert plain.startswith("This network has no attention")


def page_of(profile: sa.Profile, folder: Path) -> str:
    return sa.report(profile, out=folder / "page").page.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments, message", [
    ({"images": torch.rand(3, 3, 16, 16)}, r"images are \(3, 3, 16, 16\); give the 2 that were attended"),
    ({"images": torch.rand(2, 3, 8, 8)}, "of 16 x 16 pixels"),
    ({"ids": ["a", "a"]}, "no two the same"),
])  # fmt: skip
def test_misuse(made, tmp_path, arguments, message) -> None:
    with pytest.raises(SpikeattnError, match=message):
        sa.report(made[0], made[1], tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_attention_of_another_model_is_refused(made, tmp_path) -> None:
    other = sa.profile(odd.ClassToken(), [torch.rand(2, 3, 16, 16)])
    with pytest.raises(SpikeattnError, match="attention is of Net, and the profile of ClassToken"):
        sa.report(other, made[1], tmp_path / "out")


def test_the_old_name_of_the_room_warns_and_the_function_stays(made, tmp_path) -> None:
    import spikeattn.report as room

    with pytest.warns(DeprecationWarning, match="import it from spikeattn.reporting"):
        assert room.write_report is sa.reporting.write_report
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert sa.report(made[0], out=tmp_path).page.is_file()

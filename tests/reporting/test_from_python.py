"""`sa.report`: from a profile, a folder of attention, or what `sa.attend` returned; and the old name of the room."""

from __future__ import annotations

import warnings

import pytest
import torch

import spikeattn as sa
from spikeattn.attention.attend import Attention
from spikeattn.errors import SpikeattnError
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
    assert page.count("data:image/png;base64,") == 2 and "cat.png" in page
    rows = (tmp_path / "a" / "attention_images.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2 and rows[0].startswith("model,image,layer,tokens")
    assert "<iframe srcdoc=" in done._repr_html_() and "spiking profile" in done._repr_html_()
    blank = sa.report(profile, attention, tmp_path / "b").page.read_text(encoding="utf-8")
    assert "image 0" in blank and blank.count("data:image/png;base64,") == 2


def test_without_attention(made, tmp_path) -> None:
    page = sa.report(made[0], out=tmp_path).page.read_text(encoding="utf-8")
    assert "This network has attention in blocks 1, 2, which was not looked at" in page


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

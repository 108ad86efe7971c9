"""The gallery: what is read from a folder of `spikeattn attend`, what the page makes of it, and other folders."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import spikeattn as sa
from spikeattn.reporting import write_report
from spikeattn.reporting.page.gallery import MOST, WIDE, read_gallery

from .conftest import HOSTILE
from .test_page import Page


def opened(tile) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(tile.uri.partition(",")[2])))


def test_pictures_fit_a_page_and_keep_their_colours(attended):
    gallery = read_gallery(attended, "sdt_digits")
    assert [picture.name for picture in gallery.pictures] == ["digits/11", HOSTILE]
    for shade, picture in enumerate(gallery.pictures):
        (tile,) = picture.tiles  # an older folder: the panel as it is
        with opened(tile) as image:
            assert image.size == (tile.width, tile.height) == (WIDE, round(800 * WIDE / 1000))
            assert np.abs(np.array(image.convert("RGB"))[5, 5].astype(int) - (40 * shade, 90, 200)).max() <= 1
    assert gallery.pictures[0].text.startswith("digits/11: image, attention over it, and significant tokens (25.0 %);")
    assert gallery.pictures[1].text.endswith("50 % of 4.00 µJ spent on noise")


def test_energies_stand_beside_the_rows_of_their_image(attended):
    images = read_gallery(attended, "sdt_digits").images
    assert list(images["spurious_mj"]) == [1e-3, 1e-3, 2e-3, 2e-3]
    assert len(images) == 4


def test_no_more_pictures_than_a_page_holds(attended, tmp_path):
    folder = tmp_path / "many"
    shutil.copytree(attended, folder)
    summary = json.loads((folder / "summary.json").read_text())
    row, names = summary["images"][0], [f"n{i}" for i in range(MOST + 3)]
    summary |= {"images": [row | {"image": n} for n in names], "files": [f"panels/{n}.png" for n in names]}
    del summary["energy"]
    for name in names:
        Image.new("RGB", (20, 20)).save(folder / "panels" / f"{name}.png")
    np.savez(folder / "attention.npz", images=np.array(names))
    (folder / "summary.json").write_text(json.dumps(summary))
    gallery = read_gallery(folder, "sdt_digits")
    assert len(gallery.pictures) == MOST and len(gallery.images) == MOST + 3
    assert gallery.spurious is None and "blocks_mj" not in gallery.images


def test_the_page_shows_it_and_nothing_breaks_out(profile, attended, tmp_path):
    report = write_report(profile, tmp_path, attention=attended, command=f"spikeattn report {HOSTILE}")
    html = report.page.read_text()
    page = Page(html)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 2 and all(each["src"].startswith("data:image/png;base64,") for each in pictures)
    assert pictures[1]["alt"].startswith(HOSTILE)
    assert "<script>alert" not in html
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "downloads"},
        {},
    ]
    for text in (
        f"spikeattn attend --images {HOSTILE}",
        f"spikeattn report {HOSTILE}",
        "40.0\u00a0%\u00a0[30.0,\u00a050.0\u00a0%] of the blocks' energy goes to tokens",
        'Energy on noise: between 40.0 % and 70.0 % of the blocks\' energy by how "significant" is specified',
        "(4 specifications; nulls: pixel, <script>",
        "As chosen here (q ≤ 0.1, how much, null pixel)",
        "40.0 % [30.0, 90.0 %] *",
        "Intervals over images and replicates",
        "these maps describe nothing",
        "significant: p ≤ 0.1",
    ):
        assert " ".join(text.split(" ")) in page.words.replace("  ", " ") or text in "".join(page.text), text
    read = pd.read_csv(report.files["attention_images.csv"])
    assert list(read["image"]) == ["digits/11", "digits/11", HOSTILE, HOSTILE]


def test_a_folder_without_a_grid_stays_readable(profile, attended, tmp_path):
    folder = tmp_path / "earlier"
    shutil.copytree(attended, folder)
    summary = json.loads((folder / "summary.json").read_text())
    del summary["energy"]["specifications"], summary["energy"]["interval"]
    (folder / "summary.json").write_text(json.dumps(summary))
    words = Page(write_report(profile, tmp_path / "out", attention=folder).page.read_text()).words
    assert "of the blocks' energy goes to tokens" in words and "Intervals over images alone" in words
    assert "by how" not in words and "As chosen here" not in words


def test_a_damaged_grid_is_one_error(attended, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(attended, folder)
    summary = json.loads((folder / "summary.json").read_text())
    rows = summary["energy"]["specifications"]
    for grid, message in (
        ([row | {"chosen": False} for row in rows], "not one alone is the chosen one"),
        ([{"null": "pixel"}], "is damaged, or of another program"),
        ([rows[0] | {"share": "most"}], r'specifications\[0\].share is "most"; a finite number'),
    ):
        summary["energy"]["specifications"] = grid
        (folder / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(sa.SpikeattnError, match=message):
            read_gallery(folder, "sdt_digits")


def test_a_folder_of_an_older_version_keeps_its_panels_and_its_rule(profile, attended, tmp_path):
    gallery = read_gallery(attended, "sdt_digits")
    assert (gallery.meanings, gallery.promise, gallery.key) == ([], "", None)
    html = write_report(profile, tmp_path, attention=attended).page.read_text()
    assert (
        "Outlined tokens are significant; the others are pale." in html
        and "gallery-key" not in html.split("</style>")[1]
    )
    assert "Where</button>" not in html


def test_a_panel_is_cut_into_its_pictures_and_the_page_sets_their_titles(profile, attended, tmp_path):
    folder = tmp_path / "tiled"
    shutil.copytree(attended, folder)
    (folder / "panels").rename(folder / "gallery")
    summary = json.loads((folder / "summary.json").read_text())
    files = [name.replace("panels", "gallery") for name in summary["files"]]
    halves = Image.new("RGB", (400, 200), (200, 0, 0))
    halves.paste((0, 0, 200), (200, 0, 400, 200))
    halves.save(folder / files[0])
    tiles = [{"title": "Left", "box": [0, 0, 0.5, 1]}, {"title": HOSTILE, "box": [0.5, 0.25, 0.5, 0.5]}]
    scales = {"score": "spikes", "low": 0.0, "high": 1.0, "most_mj": None, "blocks": "", "tiles": {files[0]: tiles}}
    summary |= {"gallery": scales, "files": files}
    (folder / "summary.json").write_text(json.dumps(summary))
    gallery = read_gallery(folder, "sdt_digits")
    assert [tile.title for tile in gallery.pictures[0].tiles] == ["Left", HOSTILE]
    assert [(tile.width, tile.height) for tile in gallery.pictures[0].tiles] == [(200, 200), (200, 100)]
    colours = [opened(tile).convert("RGB").getpixel((50, 50)) for tile in gallery.pictures[0].tiles]
    assert colours == [(200, 0, 0), (0, 0, 200)]
    page = Page(write_report(profile, tmp_path / "page", attention=folder).page.read_text())
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 3 and [bool(attrs["alt"]) for attrs in pictures] == [True, False, True]
    assert "Left" in page.words and HOSTILE in page.words
    for wrong in ([-0.1, 0, 0.5, 1], [0, 0, 2, 1], [0, 0, 0, 0], [0, 0]):  # nowhere inside: the panel as it is
        tiles[0]["box"] = wrong
        (folder / "summary.json").write_text(json.dumps(summary))
        assert len(read_gallery(folder, "sdt_digits").pictures[0].tiles) == 1
    tiles[0]["box"] = "all"
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(sa.SpikeattnError, match="box"):
        read_gallery(folder, "sdt_digits")


def test_a_folder_says_both_answers_and_has_one_key(profile, attended, tmp_path):
    folder = tmp_path / "now"
    shutil.copytree(attended, folder)
    (folder / "panels").rename(folder / "gallery")
    summary = json.loads((folder / "summary.json").read_text())
    sentences = {"how much": "More attention (null: pixel, B = 9).", "where": "A larger share."}
    summary["networks"][0] |= {"questions": sentences, "promise": "One in ten is noise (q ≤ 0.1)."}
    scales = {"score": "spikes", "low": 0.0, "high": 0.0512, "most_mj": 9.27e-5, "blocks": "block 2"}
    summary |= {"gallery": scales, "files": [name.replace("panels", "gallery") for name in summary["files"]]}
    summary["images"] = [row | {"significant_where": 0.125, "pi0": 1.0} for row in summary["images"]]
    (folder / "summary.json").write_text(json.dumps(summary))
    gallery = read_gallery(folder, "sdt_digits")
    assert "(25.0 % for how much, 12.5 % for where)" in gallery.pictures[0].text and len(gallery.pictures) == 2
    assert (gallery.key.attention.low, gallery.key.attention.high) == ("0", "0.051")
    html = write_report(profile, tmp_path / "page", attention=folder).page.read_text()
    for text in (
        "<dt>How much</dt>",
        "<dt>Where</dt>",
        "B\u00a0=\u00a09",
        "q\u00a0≤\u00a00.1",
        "Energy per token, block 2;",
    ):
        assert text in html, text
    assert html.count('<ul class="gallery-key"') == 1 and "92.7 nJ" in html
    read = pd.read_csv(tmp_path / "page" / "attention_images.csv")
    assert read["significant_where"].tolist() == [0.125] * 4
    sheet = html[html.index('id="table-attention"') :].partition("</table>")[0]
    assert "How much" in sheet and "Where" in sheet and "π₀" not in sheet


def test_folders_that_are_none(profile, attended, tmp_path):
    with pytest.raises(sa.SpikeattnError, match="summary.json cannot be read .* `spikeattn attend --out` wrote"):
        read_gallery(tmp_path, "sdt_digits")
    with pytest.raises(sa.SpikeattnError, match="is of sdt_digits, and the run of sdt_8_512"):
        read_gallery(attended, "sdt_8_512")
    damaged = tmp_path / "damaged"
    shutil.copytree(attended, damaged)
    for content, message in (
        ("{", "summary.json: not valid JSON"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("[]", r"summary.json: it is \[\]; a record is expected"),
        ('{"images": [], "networks": [{"title": 5}]}', r"networks\[0\].title is 5; text is expected"),
        ('{"images": []}', "is damaged, or of another program"),
    ):
        (damaged / "summary.json").write_text(content)
        with pytest.raises(sa.SpikeattnError, match=message):
            write_report(profile, tmp_path / "out", attention=damaged)
    assert not (tmp_path / "out").exists()

"""Plots take axes and give them back; a map lies on the pixels of its image, what is significant in an outline."""

from __future__ import annotations

import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  # after the backend is chosen
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402

import spikeattn as sa  # noqa: E402
from spikeattn.attention.bootstrap_test import Attention  # noqa: E402
from spikeattn.errors import SpikeattnError  # noqa: E402
from spikeattn.stats.intervals import Interval  # noqa: E402

from .conftest import KINDS  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def attention() -> Attention:
    """Three images, by layer and time step."""
    model = sa.create_model("sdt_digits", pretrained=True)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=3, limit=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sa.attend(model, next(iter(loader)).images, "pixel", 60, layer="all", steps="each")


@pytest.mark.parametrize("kind", KINDS)
def test_axes_in_are_axes_out_and_no_other_figure_is_made(results, kind) -> None:
    plt.close("all")
    figure, axes = plt.subplots()
    assert results[kind].plot(axes) is axes
    assert axes.has_data() and plt.get_fignums() == [figure.number]
    figure.canvas.draw()


@pytest.mark.parametrize("kind", KINDS)
def test_without_axes_there_is_a_white_figure_of_pyplot(results, kind) -> None:
    axes = results[kind].plot()
    assert axes.has_data() and plt.gca() is axes
    assert axes.figure.get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_axes_is_an_error(results, kind) -> None:
    with pytest.raises(SpikeattnError, match="ax is a Figure; give axes of matplotlib"):
        results[kind].plot(plt.figure())


def test_the_settings_of_matplotlib_stay(results) -> None:
    before = dict(matplotlib.rcParams)
    for kind in KINDS:
        results[kind].plot()
    assert dict(matplotlib.rcParams) == before


def test_plots_of_a_profile(results) -> None:
    profile = results["profile"]
    energy = profile.energy()
    widths = [bar.get_width() for bar in profile.plot().patches]
    parts = energy[energy["part"] != "total"]["energy_mj"].to_numpy()
    np.testing.assert_allclose(np.array(widths) / sum(widths), parts / parts.sum(), rtol=1e-9)
    assert [text.get_text() for text in profile.plot(what="blocks").get_yticklabels()] == [
        "SPS", "Block1", "Block2", "Head",
    ]  # fmt: skip
    cells = profile.plot(what="rates").collections[0].get_array()
    rates = profile.rates()
    spikes = rates[(rates["kind"] != "real") & (rates["t"] != "mean")]
    np.testing.assert_allclose(np.sort(cells.filled(0)), np.sort(spikes["nonzero_rate"].to_numpy(float)))
    with pytest.raises(SpikeattnError, match="unknown plot 'power'"):
        profile.plot(what="power")


def test_the_map_lies_over_the_image_at_its_resolution(attention) -> None:
    axes = attention.visualize(1)
    (image,) = axes.images
    assert image.get_extent() == [0, 16, 16, 0] and image.get_array().shape[0] >= 16
    bare = attention.visualize(1, outline=False)
    np.testing.assert_array_equal(bare.images[0].get_array(), image.get_array())
    assert not [each for each in bare.collections if isinstance(each, LineCollection)]
    assert "block 2" in axes.get_title("left") and "step 4" in axes.get_title("left")


def test_what_is_significant_is_outlined(attention) -> None:
    first = attention.visualize(0, layer=0, step=3)
    marked = (attention.q[0, 0, 3] <= 0.1) & (attention.z[0, 0, 3] > 0)
    lines = [each for each in first.collections if isinstance(each, LineCollection)]
    assert len(lines) == 1 and bool(len(lines[0].get_segments())) == bool(marked.any())
    assert f"{marked.mean() * 100:.0f} %"[:2].strip("%. ") in first.get_title("left")


def test_all_images_share_the_scale_of_a_map(attention) -> None:
    """A colour means one score: the bars beside two images have the same ends."""
    ends = [attention.visualize(i).child_axes[0].get_ylim() for i in (0, 2)]
    maps = attention.maps[:, -1, -1]
    assert ends[0] == ends[1] == pytest.approx((maps.min(), maps.max()))
    assert attention.visualize(0, colour_bar=False).child_axes == []


def test_another_picture_behind_the_map(attention) -> None:
    black = attention.visualize(0, images=torch.zeros(3, 1, 16, 16), outline=False).images[0].get_array()
    assert not np.array_equal(black, attention.visualize(0, outline=False).images[0].get_array())


@pytest.mark.parametrize("arguments, message", [
    ({"i": 3}, "image 3: the attention is of 3 images; give 0 to 2"),
    ({"i": 0.5}, "image 0.5: the attention is of 3 images"),
    ({"layer": 2}, "layer is 2; give a whole number from -2 to 1"),
    ({"head": 0}, 'head=0: the maps have no such axis; attend with heads="each"'),
    ({"question": "why"}, "unknown question 'why'"),
    ({"outline": "yes"}, "outline is 'yes'; give True or False"),
    ({"images": torch.rand(3, 1, 8, 8)}, "of 16 x 16 pixels"),
])  # fmt: skip
def test_misuse(attention, arguments, message) -> None:
    with pytest.raises(SpikeattnError, match=message):
        attention.visualize(**arguments)
    assert plt.get_fignums() == []


def test_intervals_below_each_other() -> None:
    _, axes = plt.subplots()
    for place, name in enumerate(("a", "b")):
        Interval(1 + place, 0.5, 3.0).plot(axes, at=place, label=name)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [tuple(line.get_xdata()) for line in axes.lines[:1]] == [(0.5, 3.0)]

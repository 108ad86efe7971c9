"""Pictures of attention: boundaries and polarities by hand, nothing cut off, the same bytes twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spikeattn.attention.significance import assess
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.attention_drawing import Seen, boundary, draw_heat, heat_colours, scale_of
from spikeattn.reporting.figures.attention_grids import agreement, agreement_text, layer_grid
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.attention_rows import beside, overview
from spikeattn.reporting.figures.drawing import to_pdf, to_png, to_svg
from spikeattn.reporting.figures.input_pictures import is_events, picture_of
from spikeattn.reporting.tables.attention_tables import grid_table, rule_of, significant

WARNING = "UNTRAINED: the weights of a_rather_long_name_of_a_model are random; this picture describes nothing"


def seen(h: int = 7, w: int = 7, **others) -> Seen:
    rng = np.random.default_rng(0)
    scores = rng.random((h, w)) / 300
    kept = scores > 0.0022
    values = {
        "name": "n01440764/a_photograph_with_a_long_name_0001.JPEG",
        "model": "UNTRAINED a_rather_long_name_of_a_model",
        "picture": rng.random((64, 64, 3)),
        "score": "attention weight of the class token",
        "map": scores,
        "significant": {"how much": kept},
        "rule": "q ≤ 0.1",
        "details": "cls of block 12 of 12; null: normal, B = 200; standardised p",
    }
    return Seen(**values | others)


def two(h: int, w: int) -> dict[str, np.ndarray]:
    """What is significant to both questions, to "where" a corner."""
    corner = np.zeros((h, w), bool)
    corner[:2, :2] = True
    return {"how much": seen(h, w).significant["how much"], "where": corner}


CASES = {
    "photograph": seen(14, 14),
    "spikes": seen(14, 14, significant=two(14, 14)),
    "events": seen(8, 8, events=True, significant=two(8, 8)),
    "energy": seen(7, 7, energy=np.full((7, 7), 3e-6), spurious=np.eye(7) * 3e-6, significant=two(7, 7)),
    "exact": seen(7, 7, energy=np.full((7, 7), 3e-6), spurious=np.eye(7) * 3e-6),
    "constant": seen(4, 4, map=np.zeros((4, 4)), significant={"how much": np.zeros((4, 4), bool)}),
    "no energy": seen(4, 4, energy=np.zeros((4, 4)), spurious=np.zeros((4, 4))),
    "one token": seen(1, 1),
    "wide": seen(4, 9, picture=np.full((32, 72, 3), 0.5), rule="lowest p, 1 − π₀"),
}


def everything_visible(figure) -> bool:
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    width, height = figure.get_size_inches()
    return box.x0 > -0.03 and box.y0 > -0.03 and box.x1 < width + 0.03 and box.y1 < height + 0.03


@pytest.mark.parametrize("case", CASES)
def test_no_part_of_a_panel_is_cut_off(case: str) -> None:
    one = CASES[case]
    for key in (True, False):
        figure = panel(one, WARNING, key)
        assert everything_visible(figure)
        assert figure.get_size_inches()[0] == 3.5  # a column
        texts = [axes.get_title(loc="left") for axes in figure.axes]
        for question, mask in one.significant.items():
            name = "Significant" if len(one.significant) == 1 else question.capitalize()
            share = f"{mask.mean():.0%}".replace("%", " %")
            assert any(text.startswith(f"{name}: ") and (share in text or "." in text) for text in texts)


def test_how_much_and_where_stand_side_by_side_with_their_own_tokens() -> None:
    figure = panel(CASES["spikes"])
    axes = {each.get_title(loc="left").partition(":")[0]: each for each in figure.axes}
    how_much, where = axes["How much"].get_position(), axes["Where"].get_position()
    assert how_much.y0 == where.y0 and how_much.x1 < where.x0
    lines = {name: axes[name].collections[0].get_segments() for name in ("How much", "Where")}
    assert len(lines["Where"]) == 4  # a corner of 2 x 2 tokens
    assert len(lines["How much"]) > 4


def test_colours_of_the_heat_map_are_those_of_the_key_whatever_the_image() -> None:
    """Over black and over white, a colour lies nearest to its own place on the bar, within a tenth of the scale."""
    ramp = np.linspace(0, 1, 16).reshape(1, 16).repeat(16, 0)
    bar = heat_colours()(np.linspace(0, 1, 256))[:, :3]
    for shade in (0.0, 0.5, 1.0):
        one = seen(16, 16, map=ramp, significant={"how much": ramp > 2}, picture=np.full((16, 16, 3), shade))
        axes = Figure().add_subplot()
        draw_heat(axes, one, "")
        shown = np.asarray(axes.images[0].get_array())
        row = shown[0, :: shown.shape[1] // 16]
        read = np.array([np.linalg.norm(bar - colour, axis=1).argmin() / 255 for colour in row])
        assert np.abs(read - ramp[0]).max() < 0.1, shade


def test_all_images_of_a_network_share_one_scale() -> None:
    dim, bright = seen(4, 4, map=np.full((4, 4), 0.2)), seen(4, 4, map=np.full((4, 4), 0.8))
    scale = scale_of(dim.map, bright.map)
    figure = overview([replace(each, scale=scale) for each in (dim, bright)])
    heats = [axes.images[0].get_array()[0, 0] for axes in (figure.axes[1], figure.axes[4])]
    assert not np.allclose(heats[0], heats[1])
    assert replace(dim, scale=scale).colours is scale and dim.colours(0.2) == pytest.approx(0.5)


def test_two_networks_side_by_side_show_the_shared_question_alone() -> None:
    spikes, softmax = CASES["spikes"], CASES["photograph"]
    figure = beside(spikes, softmax, ("where",), "Both are asked where.")
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        "Attention", "Where", "Attention", "Where",
    ]  # fmt: skip
    shares = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert shares[0].startswith("2.0 %")  # the corner of "where", 4 of 196; not what "how much" calls
    assert shares[1].startswith(f"{softmax.significant['how much'].mean():.0%}".removesuffix("%"))
    both = beside(spikes, CASES["spikes"], ("how much", "where"))
    assert [axes.get_title(loc="left") for axes in both.axes][:3] == ["Attention", "How much", "Where"]


@pytest.mark.parametrize("case", CASES)
def test_other_figures_are_whole_too(case: str) -> None:
    one = CASES[case]
    rows = [one, replace(one, name="b")]
    maps = np.stack([one.map] * 6).reshape(2, 3, *one.map.shape)
    outlined = {(1, 2): one.mask("how much")}
    for figure in (
        overview(rows, WARNING),
        overview(rows[:1]),
        beside(one, CASES["spikes"], ("where",), "Both are asked where.", WARNING),
        layer_grid(one, maps, ["block 1", "block 2"], ["t = 1", "t = 2", "mean"], outlined, WARNING),
        layer_grid(one, maps.swapaxes(0, 1), ["block 1", "block 2", "block 3"], ["head 1", "head 2"]),
    ):
        assert everything_visible(figure)


def test_more_layers_than_columns_turn_the_page() -> None:
    one = CASES["photograph"]
    figure = layer_grid(one, np.zeros((12, 3, 14, 14)), [f"block {i}" for i in range(12)], ["a", "b", "c"])
    assert [axes.get_title(loc="left") for axes in figure.axes[:12]] == [f"block {i}" for i in range(12)]


def test_the_same_numbers_give_the_same_bytes() -> None:
    one, other = (panel(CASES["energy"], WARNING) for _ in range(2))
    assert to_svg(one) == to_svg(other)
    assert to_pdf(one) == to_pdf(other)
    assert to_png(one, 60) == to_png(other, 60)
    assert b"CreationDate" not in to_pdf(one)


def test_the_boundary_of_a_mask_is_its_edges() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True  # a block of 1 x 2 tokens
    lines = sorted(tuple(map(tuple, segment.tolist())) for segment in boundary(mask))
    assert lines == [((1, 1), (1, 2)), ((1, 1), (3, 1)), ((1, 2), (3, 2)), ((3, 1), (3, 2))]
    assert boundary(np.zeros((3, 4), bool)) == []
    rng = np.random.default_rng(1)
    drawn = rng.random((9, 11)) < 0.5
    padded = np.pad(drawn, 1).astype(int)
    length = sum(np.abs(segment[1] - segment[0]).sum() for segment in boundary(drawn))
    assert length == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


def test_a_constant_map_lies_in_the_middle_of_its_scale() -> None:
    assert scale_of(np.full((3, 3), 0.2))(0.2) == pytest.approx(0.5)
    assert scale_of(np.zeros((3, 3)))(0.0) == pytest.approx(0.5)
    assert scale_of(np.array([1.0, 3.0]))(2.0) == pytest.approx(0.5)


def test_photographs_lose_their_normalisation() -> None:
    rgb = np.random.default_rng(0).random((3, 5, 6))
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.25])
    normalised = (rgb - mean[:, None, None]) / std[:, None, None]
    shown = picture_of(normalised, {"mean": mean.tolist(), "std": std.tolist()})
    assert np.allclose(shown, rgb.transpose(1, 2, 0))
    grey = picture_of(np.full((1, 2, 2), 0.25))
    assert grey.shape == (2, 2, 3)
    assert np.allclose(grey, 0.25)
    assert np.allclose(picture_of(np.stack([np.zeros((1, 2, 2)), np.ones((1, 2, 2))])), 0.5)  # frames: their mean


def test_events_are_shown_by_polarity() -> None:
    frames = np.zeros((2, 2, 1, 4))  # [T, (OFF, ON), H, W]
    frames[0, 1, 0, 1] = frames[1, 1, 0, 1] = 2  # ON
    frames[0, 0, 0, 2] = 4  # OFF
    frames[:, :, 0, 3] = 1  # both alike
    assert is_events(frames)
    assert not is_events(np.zeros((3, 4, 4)))
    white, on, off, both = picture_of(frames)[0]
    assert np.allclose(white, 1)
    assert on.argmax() == 2  # blue
    assert off.argmax() == 0  # vermilion
    assert np.allclose(both, (on + off) / 2)
    assert np.allclose(picture_of(np.zeros((2, 2, 3, 3))), 1)  # a silent recording


@pytest.mark.parametrize("values", [np.zeros((4, 5, 5)), np.zeros((5, 5)), np.full((3, 4, 4), np.nan)])
def test_what_is_no_image_is_refused(values) -> None:
    with pytest.raises(SpikeattnError, match="a picture is made of finite values"):
        picture_of(values)


def test_agreement_of_two_maps() -> None:
    a = np.arange(16.0).reshape(4, 4)
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    fine = a.repeat(2, 0).repeat(2, 1)
    same = agreement((a, left), (fine, left.repeat(2, 0).repeat(2, 1)))
    assert same == pytest.approx({"rank_correlation": 1.0, "both": 0.5, "either": 0.5, "jaccard": 1.0})
    border = np.pad(np.full((2, 2), True), 1)  # pixels of no token do not make two maps alike
    alone = [np.where(border, values, np.nan) for values in (a, 20 - a)]
    assert agreement((alone[0], left), (alone[1], left))["rank_correlation"] == pytest.approx(-1)
    other = agreement((a, left), (-a, ~left))
    assert (other["rank_correlation"], other["both"], other["jaccard"]) == pytest.approx((-1, 0, 0))
    nothing = agreement((np.ones((4, 4)), left & False), (a[:3, :3], np.zeros((3, 3), bool)))  # 4 and 3: on 12 x 12
    assert np.isnan(nothing["rank_correlation"])
    assert np.isnan(nothing["jaccard"])
    assert agreement_text(nothing).startswith("a map is constant")


@pytest.mark.parametrize(
    ("method", "threshold", "rule"),
    [("p", None, "p ≤ 0.1"), ("q", 0.2, "q ≤ 0.2"), ("soft", None, "lfdr ≤ 0.1"), ("pi0", None, "lowest p")],
)
def test_significant_tokens_follow_the_rule(method, threshold, rule) -> None:
    rng = np.random.default_rng(0)
    null = np.exp(0.1 * rng.standard_normal((100, 8, 8)))
    observed = np.exp(0.1 * rng.standard_normal((8, 8)))
    observed[0, :4] = 3.0
    observed[7, 7] = 0.1  # far below: distinguishable, yet no attention
    found = assess(observed, null, "plus-one")
    assert rule_of(method, threshold).startswith(rule)
    kept = significant(found, method, threshold)
    assert kept[0, 0] or method in ("pi0", "soft")  # 64 tokens are too few for a sharp density
    assert not kept[7, 7]
    if method != "pi0":
        measure = getattr(found, "lfdr" if method == "soft" else method)
        assert np.array_equal(kept, (measure <= (threshold or 0.1)) & (found.z >= 0))


def test_the_table_of_a_grid_names_every_cell() -> None:
    grids = np.arange(2 * 3 * 2 * 1 * 2.0).reshape(2, 3, 2, 1, 2)
    table = grid_table(grids, ["a", "b"], [0, 1, 2], ["t = 1", "mean"], "m")
    row = table[(table["image"] == "b") & (table["layer"] == 2) & (table["part"] == "mean") & (table["column"] == 1)]
    assert row["score"].tolist() == [grids[1, 2, 1, 0, 1]]
    assert len(table) == grids.size

"""Maps on the pixels of the image: closed forms for patches, padding and cropping, and impulses through real stems."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention.placement import evenly, tokens_of
from spikeattn.attention.significance import AttentionWarning
from spikeattn.attention.survey import survey
from spikeattn.attention.survey_placement import placement_by_grid
from spikeattn.errors import SpikeattnError


class Stem(nn.Module):
    """A stem of a user's own: convolutions, then tokens row by row or column by column."""

    def __init__(self, *layers: nn.Module, dim: int = 192, columns: bool = False) -> None:
        super().__init__()
        self.layers, self.columns = nn.Sequential(*layers), columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers(x)
        x = x.transpose(-1, -2) if self.columns else x
        return x.flatten(2).transpose(1, 2)


def vit(**options):
    torch.manual_seed(0)
    options = {"depth": 1, "num_classes": 2} | options
    return timm.create_model("vit_tiny_patch16_224", **options).eval()


def with_stem(stem: nn.Module, tokens: int):
    model = vit(img_size=64)
    model.patch_embed = stem
    model.pos_embed = nn.Parameter(torch.randn(1, 1 + tokens, 192) * 0.1)
    return model


def test_patches_that_do_not_fill_the_image_leave_its_end_alone():
    model = vit(patch_size=14, img_size=416)
    found = sa.attention_map(model, torch.randn(1, 3, 416, 416))
    assert found.values.shape == (1, 29, 29)
    whole = found.to_image()
    wanted = found.values.repeat_interleave(14, 1).repeat_interleave(14, 2)
    assert torch.equal(whole[:, :406, :406], wanted)
    assert not whole[:, 406:].any() and not whole[:, :, 406:].any()
    assert found.placement.covered().sum() == 406**2
    half = found.to_image((208, 208))  # pixels of 2: centres at 1, 3, ...
    assert torch.equal(half[:, :203, :203], whole[:, 1::2, 1::2][:, :203, :203])


def test_padding_moves_tokens_by_half_a_pixel_to_the_later_one():
    model = with_stem(Stem(nn.Conv2d(3, 192, 3, 4, 1)), 16 * 16)
    found = sa.attention_map(model, torch.randn(1, 3, 64, 64))
    assert found.placement.rows[:2].tolist() == [[-1.5, 2.5], [2.5, 6.5]]  # about pixel 4 i, whose centre is 4 i + 1/2
    rows, _ = found.placement.tokens()
    assert rows.tolist() == [0, 0, *(1 + i // 4 for i in range(60)), -1, -1]
    assert (found.to_image()[0, :62, 0] == found.values[0].repeat_interleave(4, 0)[2:, 0]).all()


def test_a_stem_that_reads_column_by_column_is_put_right():
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 192, 16, 16)
    straight, turned = (with_stem(Stem(conv, columns=columns), 12) for columns in (False, True))
    pos = straight.pos_embed.data
    order = torch.arange(12).view(3, 4).T.flatten()
    turned.load_state_dict(straight.state_dict())
    turned.pos_embed.data = torch.cat([pos[:, :1], pos[:, 1:][:, order]], 1)
    images = torch.randn(2, 3, 48, 64)
    one, other = (sa.attention_map(model, images) for model in (straight, turned))
    assert one.values.shape == (2, 3, 4)
    torch.testing.assert_close(one.values, other.values)


STEMS = {
    "padding": (nn.Conv2d(3, 192, 7, 4, 3),),
    "dilation": (nn.Conv2d(3, 8, 3, 2, 2, dilation=2), nn.Conv2d(8, 192, 2, 2)),
    "pools": (nn.Conv2d(3, 8, 3, 1, 1), nn.AvgPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.AvgPool2d(2),
              nn.Conv2d(8, 192, 1)),
    "cropping": (nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(3, 192, 5, 4), nn.ZeroPad2d(-1)),
    "shuffled": (nn.PixelUnshuffle(4), nn.Conv2d(48, 192, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", STEMS)
def test_places_are_the_reach_of_impulses(name):
    """Away from the border: what a token reads is where the gradient of its sum is not 0, weights being positive."""
    stem = Stem(*STEMS[name]).double()
    for parameter in stem.parameters():
        parameter.data.abs_().add_(0.1)
    size = 48
    images = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    seen = survey(stem, images.detach()).outputs["layers"][0]
    tokens = tokens_of(seen.place.row, seen.place.column, (size, size))
    row, column = (field.map(torch.flatten) for field in (seen.place.row, seen.place.column))
    features = stem.layers(images)
    h, w = features.shape[-2:]
    assert tokens is not None and tokens.grid == (h, w)
    for i, j in ((h // 2, w // 2), (h // 2 - 1, w // 2 + 1)):
        gradient = torch.autograd.grad(features[0, :, i, j].sum(), images, retain_graph=True)[0].sum((0, 1))
        touched = [gradient.any(1 - axis).nonzero().flatten() for axis in (0, 1)]
        assert [touched[0][0], touched[0][-1]] == [row.low[i], row.high[i]]
        assert [touched[1][0], touched[1][-1]] == [column.low[j], column.high[j]]
        centre = (row.low[i] + row.high[i] + 1) / 2
        assert tokens.placement.rows[i].mean() == centre


def test_what_mixes_the_image_before_the_tokens_is_said():
    class Mixed(nn.Module):
        def forward(self, x):
            return x.reshape(len(x), -1)[:, torch.randperm(x[0].numel())].reshape(x.shape)

    model = with_stem(Stem(Mixed(), nn.Conv2d(3, 192, 16, 16)), 16)
    grid = placement_by_grid(model, torch.randn(1, 3, 64, 64), (4, 4))
    assert not grid.known and "4x4" in grid.note
    found = sa.attend(model, torch.rand(1, 3, 64, 64), replicates=3, statistic=lambda m, x: x.mean(1)[:, ::16, ::16])
    with pytest.warns(AttentionWarning, match="spread evenly"):
        assert found.to_image().shape == (1, 64, 64)


def test_attend_paints_its_maps_alike():
    model = with_stem(Stem(nn.Conv2d(3, 192, 7, 8, 3)), 64)
    images = torch.randn(1, 3, 64, 64)
    found = sa.attend(model, images, replicates=3)
    seen = sa.attention_map(model, images)
    torch.testing.assert_close(torch.from_numpy(found.to_image()).float(), seen.to_image())
    smooth = found.to_image(found.z, mode="bilinear")
    assert smooth.shape == (1, 64, 64) and not smooth[:, 60:].any()
    with pytest.raises(SpikeattnError, match="grid of tokens"):
        found.to_image(found.z[:, :4])
    with pytest.raises(SpikeattnError, match="unknown interpolation"):
        found.to_image(mode="cubic")


def test_even_grids():
    placed = evenly((2, 4), (8, 8), "why")
    assert placed.even and not placed.known and placed.shares().tolist() == [[8.0] * 4] * 2
    mask = torch.zeros(8, 8, dtype=torch.bool).numpy()
    mask[:2] = True
    assert placed.coverage(mask).tolist() == [[0.5] * 4, [0.0] * 4]

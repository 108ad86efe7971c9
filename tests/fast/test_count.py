"""The kernels that count tensors of other people's layers, beside plain numpy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spikeattn.counting import sums
from spikeattn.fast import count, pairs
from spikeattn.tracing.kinds import value_flags, whole

pytestmark = pytest.mark.skipif(not count.usable(), reason="no C compiler")
SHAPES = [(4, 3, 5), (2, 3, 8, 7, 6), (1, 2, 4, 9), (2, 1, 3, 70, 70), (1, 1, 9000)]
KINDS = {"binary": [0, 1], "ternary": [-1, 0, 1], "integer": [0, 1, 2, 5, 300], "real": [0.0, 0.25, -1.5]}


def spikes(kind: str, shape: tuple[int, ...], layout: str = "plain") -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(0).choice(KINDS[kind], shape).astype(np.float32))
    if layout == "transposed":  # images before time steps in memory
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "channels_last" and len(shape) == 5:
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])
    return x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["plain", "transposed", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_count_equals_numpy(
    kind: str, shape: tuple[int, ...], layout: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(count, "_SMALL", 0)
    x = spikes(kind, shape, layout)
    values = x.numpy().astype(np.float64)
    for spatial in range(min(3, len(shape) - 1)):
        fan = torch.from_numpy(np.random.default_rng(1).integers(0, 1 << 19, shape[len(shape) - spatial :], np.int32))
        made = count.fan_out(fan.double()) if spatial else None
        found = count.count(x, None if kind == "binary" else 1.0, made, extremes=kind != "binary")
        if spatial == 1 and layout == "channels_last" and len(shape) == 5:  # a row of the map, between the others
            assert found is None
            continue
        assert found is not None
        axes = tuple(range(2, len(shape)))
        assert np.array_equal(found.nonzero.numpy(), (values != 0).sum(axes))
        assert [found.fraction, found.negative, found.above] == value_flags(x).tolist() or kind == "binary"
        assert found.not_binary == (kind != "binary")
        if kind != "binary":
            assert found.sum is not None
            assert np.array_equal(found.sum.numpy(), np.abs(values).sum(axes))
            assert found.extremes is not None
            assert found.extremes.tolist() == [values.min(), values.max()]
        if made is None:
            assert found.fan_nonzero is found.fan_sum is None
            continue
        assert found.fan_nonzero is not None
        assert np.array_equal(found.fan_nonzero.numpy(), ((values != 0) * made.numpy()).sum(axes))
        if kind != "binary":
            assert found.fan_sum is not None
            assert np.array_equal(found.fan_sum.numpy(), (np.abs(values) * made.numpy()).sum(axes))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["binary", "integer"])
def test_rows_in_pieces(kind: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(count, "_SMALL", 0)
    whole_one = spikes(kind, (2, 3, 12, 20, 30))
    turned = whole_one.unflatten(2, (3, 4)).transpose(0, 1).contiguous().transpose(0, 1)  # images first in memory
    parts = {
        "some channels": (whole_one[:, :, 3:9], 2),
        "heads of q, k and v": (turned[:, :, 1], 2),
        "turned heads": (whole_one[:, :, ::2].transpose(-2, -1), 0),
        "channels apart": (whole_one[:, :, ::2], 2),
    }
    for x, spatial in parts.values():
        fan = torch.arange(x.shape[-2] * x.shape[-1]).view(x.shape[-2:]).int() if spatial else None
        found = count.count(x, None if kind == "binary" else 1.0, None if fan is None else count.fan_out(fan))
        assert found is not None
        assert torch.equal(found.nonzero, (x != 0).flatten(2).sum(2).double())
        if found.sum is not None:
            assert torch.equal(found.sum, x.double().flatten(2).sum(2))
        if fan is not None:
            assert torch.equal(found.fan_nonzero, ((x != 0) * fan).flatten(2).sum(2).double())
            assert found.fan_sum is None or torch.equal(found.fan_sum, (x.double() * fan).flatten(2).sum(2))


@pytest.mark.parametrize("odd", [0.5, 0.999, 2.0, -1.0, float("inf"), float("nan"), 1e-40])
def test_one_odd_value_among_millions_is_seen(odd: float) -> None:
    x = torch.ones(1, 2, 900_000)
    x[0, 0, 5] = -0.0  # no spike, and not odd
    found = count.count(x, None)
    assert found is not None
    assert not found.not_binary
    assert found.nonzero.tolist() == [[899_999, 900_000]]
    x[0, 1, 432_100] = odd
    found = count.count(x, None)
    assert found is not None
    assert found.not_binary
    values = count.count(x, 1.0)
    if odd != odd:
        assert values is None  # torch says what NaN is
    else:
        assert values is not None
        assert [values.fraction, values.negative, values.above] == value_flags(x).tolist()


def test_sums_beyond_float32_are_exact() -> None:
    x = torch.full((1, 1, (1 << 20) + 3), 16_777_215.0)  # the largest odd integer of float32: its sums are not
    found = count.count(x, 1.0)
    assert found is not None
    assert found.sum is not None
    assert int(found.sum) == x.numel() * 16_777_215


@pytest.mark.parametrize("unit", [0.25, 1 / 3, 0.7])
def test_values_in_units_are_rounded_as_elsewhere(unit: float) -> None:
    x = torch.randint(0, 5, (2, 3, 40, 41), generator=torch.Generator().manual_seed(0)).float() * unit
    found, rounded = count.count(x, unit), whole(x, unit)
    assert found is not None
    assert found.sum is not None
    assert torch.equal(found.sum, rounded.double().sum((2, 3)))
    assert not found.fraction
    x[0, 0, 3, 4] = unit / 2
    found = count.count(x, unit)
    assert found is not None
    assert found.fraction


@pytest.mark.parametrize("largest", [4095, 4096, 100_000, 1 << 23])
@pytest.mark.parametrize("weight", [1, 7, (1 << 19) - 1])
def test_large_values_of_small_and_large_fan_outs(largest: int, weight: int) -> None:
    x = torch.arange(1.0, 101.0).view(1, 2, 50)
    x[0, 0, 3] = largest
    found = count.count(x, 1.0, count.fan_out(torch.full((50,), weight)))
    assert found is not None
    assert found.fan_sum is not None
    assert torch.equal(found.fan_sum, x.double().sum(-1) * weight)


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab", "heads"])
@pytest.mark.parametrize("kind", ["binary", "integer"])
def test_pairs_of_a_product_equal_those_by_torch(kind: str, turned: str, by_value: bool) -> None:
    a, b = spikes(kind, (2, 3, 4, 50, 7)), spikes(kind, (2, 3, 4, 7, 30))
    if "a" in turned and turned != "heads":
        a = a.transpose(-2, -1).contiguous().transpose(-2, -1)
    if "b" in turned:
        b = b.transpose(-2, -1).contiguous().transpose(-2, -1)
    if turned == "heads":  # [T, B, N, heads, K] in memory
        a = spikes(kind, (2, 3, 50, 4, 7)).transpose(2, 3)
    reader = pairs.reader(a, b, (1.0, 1.0), by_value)
    assert reader is not None
    read = reader(a, b, count.Slots())
    assert read is not None
    found = read.pairs()
    assert torch.equal(found.pairs, sums.spike_pairs(a, b))
    assert found.by_value is None if not by_value else torch.equal(found.by_value, sums.spike_pairs(a, b, by_value))
    assert found.not_binary == (kind != "binary")


@pytest.mark.parametrize("kept", [1, 3, 500, 600, 5000])
@pytest.mark.parametrize("others", [1, 2, 170, 400])
def test_pairs_of_short_and_long_rows(kept: int, others: int) -> None:
    a, b = spikes("integer", (1, 2, 2, others, kept)), spikes("integer", (1, 1, 2, kept, 3))
    for each in (b, b.transpose(-2, -1).contiguous().transpose(-2, -1)):
        for left, unit in ((a, 1.0), (a / 4, 0.25), (a * 0.3, 0.3)):
            reader = pairs.reader(left, each, (unit, 1.0), by_value=True)
            assert reader is not None
            read = reader(left, each, count.Slots())
            assert read is not None
            found = read.pairs()
            assert found.by_value is not None
            assert torch.equal(found.pairs, sums.spike_pairs(a, each))
            assert torch.equal(found.by_value, sums.spike_pairs(a, each, by_value=True))


def test_what_the_kernels_do_not_take_is_left_to_torch() -> None:
    x = spikes("binary", (2, 3, 4, 5))
    fan = count.fan_out(torch.ones(5))
    assert count.count(x.half(), None) is None
    assert count.count(x[..., :1].expand(2, 3, 4, 5), None) is None
    assert count.count(x.permute(0, 1, 3, 2), None, fan) is None or x.shape[2] != x.shape[3]
    assert count.count(x[:, :, ::2], None) is None
    assert count.fan_out(torch.tensor([1 << 19])) is None
    assert count.fan_out(torch.tensor(3.0)) is None
    reals = spikes("real", (1, 1, 4, 5))
    for by_value in (False, True):
        reader = pairs.reader(reals, reals.transpose(-2, -1), (1.0, 1.0), by_value)
        assert reader is not None
        assert (reader(reals, reals.transpose(-2, -1), count.Slots()) is None) == by_value
    many = torch.full((1, 1, 1 << 13, 2), float(1 << 20))
    reader = pairs.reader(many, many.transpose(-2, -1), (1.0, 1.0), by_value=True)
    assert reader is not None
    assert reader(many, many.transpose(-2, -1), count.Slots()) is None  # 2**67 pairs, more than float64 counts


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1, 5, 2048, 2049, 4096, 4097, 12288, 100_001])
def test_numbers_are_added_in_one_order(n: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(count, "_SMALL", 0)
    x = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(n)) * 10.0 ** torch.arange(n).remainder(20)
    found = count.sum_sizes(x)
    assert found is not None
    assert torch.equal(found, sums.pairwise(x))
    monkeypatch.setattr(sums, "_PIECE", 1 << 15)  # several pieces
    assert torch.equal(found, sums.pairwise(x))
    assert torch.equal(sums.sum_abs(x.transpose(0, 1)), found.T)
    for axes in ((0, 1, 2, 3), (0, 1, 3, 2), (2, 0, 1, 3), (3, 0, 2, 1)):  # whatever the order in memory
        turned = x.unflatten(2, (-1, 1) if n % 3 else (3, -1)).permute(axes).contiguous()
        back = turned.permute(tuple(axes.index(axis) for axis in range(4)))
        assert torch.equal(sums.sum_abs(back), found)
    exact = [[math.fsum(row.double().abs().tolist()) for row in rows] for rows in x]
    assert np.allclose(found.numpy(), exact, rtol=1e-14, atol=0)

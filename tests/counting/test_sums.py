"""Exact counts against plain numpy, on every kind of tensor and memory layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeattn.counting import sums
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import kind_of
from spikeattn.tracing.fanout import ConvGeometry, fan_out_map
from spikeattn.tracing.kinds import value_flags


def spikes(kind: str, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = {"binary": [0, 1], "ternary": [-1, 0, 1], "integer": [0, 1, 2, 5], "real": [0.0, 0.25, -1.5]}[kind]
    return torch.from_numpy(rng.choice(values, shape).astype(np.float32))


@pytest.mark.parametrize("kind", ["binary", "ternary", "integer", "real"])
@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 3, 8, 7, 6), (1, 2, 4, 9)])
@pytest.mark.parametrize("layout", ["plain", "transposed", "channels_last"])
def test_counts_equal_numpy(kind: str, shape: tuple[int, ...], layout: str) -> None:
    x = spikes(kind, *shape)
    if layout == "transposed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "channels_last" and len(shape) == 5:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])
    values = x.numpy().astype(np.float64).reshape(*shape[:2], -1)
    assert np.array_equal(sums.count_nonzero(x).numpy(), (values != 0).sum(-1))
    assert np.array_equal(sums.sum_abs(x).numpy(), np.abs(values).sum(-1))
    ones = sums.count_binary(x)
    if kind == "binary":
        assert np.array_equal(ones.numpy(), (values != 0).sum(-1))
    assert bool(sums.not_binary(x)) == (kind != "binary")
    assert kind_of(*value_flags(x).tolist()) == kind


def test_one_odd_value_among_millions_is_seen() -> None:
    x = torch.ones(1, 2, 9_000_000)
    assert not sums.not_binary(x)
    for odd in (0.5, 0.999, 2.0, -1.0, float("nan")):
        x[0, 1, 4_321_000] = odd
        assert sums.not_binary(x), odd


def test_rows_longer_than_float32_can_count() -> None:
    x = torch.ones(1, 1, 9, (1 << 21) + 1)
    assert sums.count_binary(x).item() == sums.count_nonzero(x).item() == x.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(1, 1, (1 << 25) + 1), (1, 2, 1, (1 << 24) + 3), (1, 1, 3, 11_184_811)])
def test_more_elements_than_float32_can_count(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(1, dtype=dtype).expand(shape)
    elements = x[0, 0].numel()
    assert sums.count_binary(x).unique().tolist() == sums.count_nonzero(x).unique().tolist() == [elements]
    swapped = x.unsqueeze(-1)  # all of them channels of one position
    assert sums.sum_channels(swapped, 1).unique().tolist() == [elements]


def test_channels_of_integer_spikes() -> None:
    x = torch.full((1, 1, (1 << 17) + 1, 1), 255.0)  # 33,423,615, odd and above 2**24
    assert sums.sum_channels(x, 1).item() == 255 * len(x[0, 0])


def test_whole_numbers_that_float64_would_round_are_refused() -> None:
    most = 2**53 - 1
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert sums.sum_abs(torch.tensor([[[2.0**52, 2.0**52 - 1]]], dtype=torch.float64)).item() == most
    assert sums.spike_pairs(one * most, one, by_value=True).item() == most
    assert sums.weigh(one[..., 0], torch.tensor([float(most)], dtype=torch.float64)).item() == most
    refused = {
        "sum of .value.": [
            torch.tensor([[[2.0**53, 1.0]]]),
            torch.full((1, 1, 4), 1 << 62),
            torch.tensor([[[most + 2]]]),
        ],
        "fan-out": [one[..., 0] * 2**30],
        "pairs": [one * 2**40],
    }
    calls = {
        "sum of .value.": sums.sum_abs,
        "fan-out": lambda x: sums.weigh(x, torch.tensor([2.0**30], dtype=torch.float64)),
        "pairs": lambda x: sums.spike_pairs(x, x, by_value=True),
    }
    for what, values in refused.items():
        for x in values:
            with pytest.raises(SpikeattnError, match=rf"{what}.* exact below 2\*\*53"):
                calls[what](x)
    real = torch.tensor([[[1e20, 0.5]]])  # no whole numbers: a float64 sum is all there is
    assert sums.sum_abs(real).item() == pytest.approx(1e20)
    assert sums.sum_abs(torch.tensor([[[np.inf]]])).isinf().all()  # found by the check for infinite values


def test_the_smallest_integer_of_a_type_is_beyond_one() -> None:
    for dtype in (torch.int8, torch.int64):
        x = torch.full((1, 1, 1), torch.iinfo(dtype).min, dtype=dtype)
        assert value_flags(x).tolist() == [False, True, True]
    assert value_flags(torch.tensor([[[0, -1, 1]]], dtype=torch.int8)).tolist() == [False, True, False]
    assert value_flags(torch.tensor([[[0, 255]]], dtype=torch.uint8)).tolist() == [False, False, True]


def test_a_tensor_without_elements_holds_nothing_odd() -> None:
    empty = torch.empty(2, 3, 0)
    assert not sums.not_binary(empty) and not sums.count_binary(empty).any() and not sums.sum_abs(empty).any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_other_types_count_the_same(dtype: torch.dtype) -> None:
    x = spikes("binary", 2, 3, 40, 50)
    y = x.to(dtype)
    assert torch.equal(sums.count_nonzero(y), sums.count_nonzero(x))
    assert torch.equal(sums.count_binary(y), sums.count_nonzero(x))
    assert not sums.not_binary(y)


def test_spike_pairs_are_the_sum_of_the_product() -> None:
    a, b = spikes("binary", 3, 2, 4, 6, 5), spikes("binary", 3, 2, 4, 5, 7, seed=1)
    assert torch.equal(sums.spike_pairs(a, b), (a @ b).flatten(2).sum(2).double())


@pytest.mark.parametrize(
    ("dims", "stride", "padding", "dilation", "groups", "transposed"),
    [
        (2, 1, 1, 1, 1, False), (2, 2, 0, 1, 1, False), (2, 2, 1, 2, 2, False), (1, 3, 2, 1, 1, False),
        (3, 1, 1, 1, 1, False), (2, 2, 1, 1, 1, True), (1, 1, 0, 1, 3, True), (2, 1, 0, 1, 6, False),
    ],
)  # fmt: skip
def test_fan_out_equals_a_convolution_of_ones(dims, stride, padding, dilation, groups, transposed) -> None:
    cin, cout, kernel, size = 6, 12, 3, 9
    each = [(value,) * dims for value in (kernel, stride, padding, dilation)]
    geometry = ConvGeometry(cin, cout, *each, transposed, (0,) * dims, groups)
    x = spikes("integer", 2, 3, cin, *(size,) * dims)
    shape = (cin, cout // groups) if transposed else (cout, cin // groups)
    name = f"conv{'_transpose' * transposed}{dims}d"
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = getattr(F, name)(x.flatten(0, 1), torch.ones(*shape, *(kernel,) * dims), **options)
    expected = y.unflatten(0, (2, 3)).flatten(2).sum(2).double()
    weights = fan_out_map(geometry, x.shape[3:])
    assert torch.equal(sums.weigh(sums.sum_channels(x, dims), weights), expected)

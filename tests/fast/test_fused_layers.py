"""Max-pools and batch norms as kernels: PyTorch's values bit by bit."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from spikeattn.fast import native
from spikeattn.fast.fused_layers import is_layer, layer_of
from spikeattn.fast.fused_neuron import is_identical

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")


def numbers(*shape: int) -> Tensor:
    """Numbers of both signs, zeros of both signs, infinities and NaN, many of them equal."""
    torch.manual_seed(0)
    x = torch.randn(shape).round(decimals=1)
    for value in (0.0, -0.0, float("inf"), float("-inf"), float("nan")):
        x[torch.rand(shape) < (0.2 if value == 0 else 0.01)] = value
    return x


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5), (33, 2)])
@pytest.mark.parametrize("form", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 1, 0), (5, 3, 2), (1, 1, 0), (3, 2, 0)])
@torch.no_grad()
def test_pools(form: tuple[int, int, int], size: tuple[int, int]) -> None:
    pool = nn.MaxPool2d(*form)
    kernel, x = layer_of(pool), numbers(3, 4, *size)
    assert kernel is not None
    try:
        expected = pool(x)
    except RuntimeError:  # a map smaller than the window: PyTorch's own error is to be heard
        assert kernel(x) is None
        return
    made = kernel(x)
    assert made is not None and is_identical(made, expected)
    assert is_identical(kernel(x[0]), pool(x[0]))


@torch.no_grad()
def test_pools_over_time() -> None:
    pool = layer.MaxPool2d(3, 2, 1, step_mode="m")
    kernel, x = layer_of(pool), numbers(2, 3, 4, 9, 10)
    assert kernel is not None and is_identical(kernel(x), pool(x))
    assert kernel(x[0]) is None  # an error of the layer's


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d((3, 2)),
        nn.MaxPool2d(3, dilation=2),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.MaxPool2d(3, return_indices=True),
        nn.AvgPool2d(2),
        nn.MaxPool1d(2),
    ],
)
def test_pools_that_have_no_kernel(pool: nn.Module) -> None:
    assert layer_of(pool) is None


def filled(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, part in norm.state_dict().items():
        if part.is_floating_point():
            part.uniform_(0.01, 3) if name.endswith("var") else part.normal_()
    return norm.eval()


@torch.no_grad()
def test_batch_norms() -> None:
    cases = [
        (nn.BatchNorm2d(5), (3, 5, 7, 9)),
        (nn.BatchNorm1d(5), (3, 5, 33)),
        (layer.BatchNorm2d(5), (3, 5, 7, 9)),
        (layer.BatchNorm2d(5, step_mode="m"), (2, 3, 5, 7, 9)),
        (layer.BatchNorm1d(5, step_mode="m"), (2, 3, 5, 70)),
    ]
    for norm, shape in cases:
        kernel, x = layer_of(filled(norm)), numbers(*shape)
        assert kernel is not None
        made = kernel(x)
        assert made is not None and is_identical(made, norm(x))


@torch.no_grad()
def test_batch_norms_that_stay_as_they_are() -> None:
    norm = filled(nn.BatchNorm2d(5))
    kernel = layer_of(norm)
    assert kernel is not None
    x = torch.randn(2, 5, 4, 4)
    assert kernel(x.to(memory_format=torch.channels_last)) is None and kernel(x.double()) is None
    assert kernel(x[:, :4]) is None and kernel(x[0]) is None
    assert layer_of(norm.train()) is None
    assert layer_of(nn.BatchNorm2d(5, affine=False).eval()) is None
    assert layer_of(nn.BatchNorm2d(5, track_running_stats=False).eval()) is None
    assert layer_of(nn.BatchNorm2d(5).double().eval()) is None


def test_layers_with_gradients_stay_as_they_are() -> None:
    kernel = layer_of(nn.MaxPool2d(2))
    assert kernel is not None and kernel(torch.zeros(1, 1, 4, 4)) is None


@pytest.mark.parametrize(
    ("home", "known"),
    [
        ("spikingjelly.activation_based.layer", True),  # one file, up to 0.0.0.0.14
        ("spikingjelly.activation_based.layer.stateless", True),
        ("spikingjelly.activation_based.layers", False),
        ("my.layer", False),
    ],
)
def test_layers_are_known_wherever_spikingjelly_keeps_them(home: str, known: bool) -> None:
    cls = type("MaxPool2d", (layer.MaxPool2d,), {"__module__": home})
    assert (layer_of(cls(2, 2)) is not None) == is_layer(cls(2, 2), "MaxPool2d") == known
    assert not is_layer(cls(2, 2), "BatchNorm2d")

"""The CUDA kernels against a few lines of torch; what they make of a whole network is in test_fast.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float().cuda()


LAYOUTS = {
    "channels first": lambda: spikes(3, 2, 7, 5, 6),
    "channels last": lambda: spikes(3, 2, 5, 6, 7).permute(0, 1, 4, 2, 3),
    "expanded over time": lambda: spikes(1, 2, 7, 5, 6).expand(3, -1, -1, -1, -1),
    "batch before time": lambda: spikes(2, 3, 7, 5, 6).transpose(0, 1),
    "large": lambda: spikes(2, 2, 64, 112, 112),
    "half": lambda: spikes(2, 2, 3, 9, 9).half(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_count(layout: str) -> None:
    from spikeattn.fast import cuda

    x = LAYOUTS[layout]()
    weights = torch.arange(x[0, 0, 0].numel(), device="cuda").view(x.shape[3:])
    assert cuda.countable(x)
    ones, broken, fans = cuda.count(x, weights)
    assert torch.equal(ones, x.long().sum((2, 3, 4))) and int(broken) == 0
    assert torch.equal(fans, (x.long() * weights).sum((2, 3, 4)))


@pytest.mark.parametrize("value", [float("nan"), 0.5, -1.0, 2.0])
def test_one_value_that_is_no_spike_is_seen(value: float) -> None:
    from spikeattn.fast import cuda

    x = spikes(2, 2, 5, 30, 30)
    x[1, 1, 4, 29, 29] = value
    assert int(cuda.count(x)[1]) == 1


def test_what_it_cannot_read() -> None:
    from spikeattn.fast import cuda

    x = spikes(2, 2, 4, 6, 6)
    assert not cuda.countable(x[..., ::2])
    assert not cuda.countable(x.double())
    assert not cuda.countable(x.bool())
    assert not cuda.countable(x.cpu())


@pytest.mark.parametrize("tau", [2.0, 3.0])
def test_lif_is_spikingjellys_to_the_bit(tau: float) -> None:
    from spikingjelly.activation_based import neuron

    from spikeattn.fast import cuda

    x = (torch.randn((4, 2, 5, 6, 70), generator=torch.Generator().manual_seed(0)) * 3).cuda().permute(0, 1, 4, 2, 3)
    weights = torch.arange(30, device="cuda")
    with torch.no_grad():
        expected = neuron.LIFNode(tau=tau, detach_reset=True, step_mode="m")(x.contiguous())
    for dtype in (torch.bool, torch.float32, torch.bfloat16):
        found, ones, fans, nonfinite = cuda.lif(x, tau, False, 1.0, weights, dtype, True)
        assert found.dtype == dtype and torch.equal(found.float(), expected) and int(nonfinite) == 0
        assert torch.equal(ones, expected.long().sum((2, 3, 4)))
        assert torch.equal(fans, (expected.long().sum(2).flatten(2) * weights).sum(2))

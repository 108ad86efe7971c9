"""The C kernels of the fast path, each against a few lines of torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.fast import native, prepare
from spikeattn.fast.layers import FastLIF

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")


def last(x: Tensor) -> Tensor:
    """The same [T, B, C, H, W] in channels-last memory."""
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    return last(torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_time_constant_that_is_no_power_of_two_is_divided_by() -> None:
    x = torch.full((1, 1, 1, 1, 1), 5.0)
    above = float(x.item() * torch.tensor(1 / 3))  # 5 * (1 / 3) is one bit more than 5 / 3 in float32
    assert above > (x / 3).item()
    own = neuron.LIFNode(tau=3.0, v_threshold=above, detach_reset=True, step_mode="m")
    fast = FastLIF(own, torch.float32, True)
    assert not own(x).any() and not fast(x).any()
    own = neuron.LIFNode(tau=4.0, v_threshold=1.25, detach_reset=True, step_mode="m")
    assert own(x).all() and FastLIF(own, torch.float32, True)(x).all()


@pytest.mark.parametrize("shape", [(4, 2, 5, 3, 7), (3, 1, 130, 2, 2), (2, 2, 5000, 1, 1), (1, 2, 16, 33, 9)])
@pytest.mark.parametrize("tau", [2.0, 3.0])
def test_lif_is_spikingjellys_to_the_bit(shape: tuple[int, ...], tau: float) -> None:
    x = noise(*shape) * 3
    own = neuron.LIFNode(tau=tau, detach_reset=True, step_mode="m")
    weights = torch.arange(shape[3] * shape[4])
    with torch.no_grad():
        expected = own(x)
    found, counts, fans, nonfinite = native.lif(last(x), tau, False, 1.0, weights)
    assert torch.equal(found, expected.bool()) and nonfinite == 0
    assert torch.equal(counts, expected.long().sum((2, 3, 4)))
    assert torch.equal(fans, (expected.long().sum(2).flatten(2) * weights).sum(2))


def test_plif_and_a_still_input() -> None:
    x = noise(1, 2, 6, 4, 4).mul(2).expand(5, -1, -1, -1, -1)
    own = neuron.ParametricLIFNode(init_tau=3.0, detach_reset=True, step_mode="m")
    with torch.no_grad():
        expected = own(x.clone())
    found, counts, fans, _ = native.lif(x, float(own.w.detach().sigmoid()), True, 1.0, None)
    assert torch.equal(found, expected.bool()) and fans is None
    assert torch.equal(counts, expected.long().sum((2, 3, 4)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_potential_that_is_no_number_is_counted(value: float) -> None:
    x = noise(3, 2, 4, 5, 5)
    x[1, 1, 2, 3, 3] = value
    assert native.lif(last(x), 2.0, False, 1.0, None)[3] == 1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 6), (1, 1), (2, 9)])
def test_pools(stride: int, size: tuple[int, int]) -> None:
    x = spikes(2, 3, 20, *size, rate=0.1)
    expected = F.max_pool2d(x.flatten(0, 1).float(), 3, stride, 1).unflatten(0, (2, 3))
    weights = torch.arange(expected[0, 0, 0].numel())
    found, counts, fans = native.pool(x, stride, weights)
    assert torch.equal(found, expected.bool())
    assert torch.equal(counts, expected.long().sum((2, 3, 4)))
    assert torch.equal(fans, (expected.long().sum(2).flatten(2) * weights).sum(2))
    real = last(noise(2, 3, 20, *size))
    expected = F.max_pool2d(real.flatten(0, 1), 3, stride, 1).unflatten(0, (2, 3))
    assert torch.equal(native.pool_real(real, stride), expected)
    real[0, 0, 0, 0, 0] = torch.nan
    assert native.pool_real(real, stride).isnan().any()


@pytest.mark.parametrize("one", [False, True])
def test_mask(one: bool) -> None:
    a, b = spikes(2, 3, 10, 4, 5), spikes(2, 3, 10, *((1, 1) if one else (4, 5)), seed=1)
    found, counts, votes = native.mask(a, b, votes=True)
    expected = a & b
    assert torch.equal(found, expected)
    assert torch.equal(counts, expected.long().sum((2, 3, 4)))
    assert torch.equal(votes, expected.float().sum((3, 4), keepdim=True))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("chans", "outs"), [(3, 5), (64, 64), (70, 130), (9, 200)])
@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
@pytest.mark.parametrize("real", [False, True])
def test_convolution(kernel: int, chans: int, outs: int, size: tuple[int, int], real: bool) -> None:
    weight, bias = noise(outs, chans, kernel, kernel, seed=1), noise(outs, seed=2)
    x = last(noise(2, 3, chans, *size)) if real else spikes(2, 3, chans, *size)
    expected = F.conv2d(x.flatten(0, 1).double(), weight.double(), bias.double(), padding=kernel // 2)
    found = native.conv(x, *native.pack(weight, bias), outs, kernel)
    torch.testing.assert_close(found.flatten(0, 1).double(), expected, rtol=1e-4, atol=1e-4)
    # whole numbers: every order gives the same sum
    weight, bias = (weight * 4).round(), (bias * 4).round()
    x = x.mul(3).round() if real else x
    expected = F.conv2d(x.flatten(0, 1).float(), weight, bias, padding=kernel // 2)
    assert torch.equal(native.conv(x, *native.pack(weight, bias), outs, kernel).flatten(0, 1), expected)


@pytest.mark.parametrize("chans", [65_536, 65_537, 65_600])
def test_a_channel_beyond_16_bits_meets_its_own_weights(chans: int) -> None:
    x = torch.zeros(1, 2, chans, 1, 1, dtype=torch.bool)
    x[0, 0, [3, chans - 1]] = True
    x[0, 1, [64, 65_535]] = True
    weight = torch.arange(chans).float().view(1, chans, 1, 1)
    found = native.conv(x, *native.pack(weight, torch.ones(1)), 1, 1)
    assert found.flatten().tolist() == [chans + 3, 65_600]


def test_spikes_taken_for_real_numbers_give_the_same_bits() -> None:
    x, packed = spikes(2, 3, 70, 5, 9), native.pack(noise(130, 70, 3, 3, seed=1), noise(130, seed=2))
    assert torch.equal(native.conv(x, *packed, 130, 3), native.conv(x.float(), *packed, 130, 3))


def test_counts_that_could_be_wrong_are_refused() -> None:
    huge = torch.tensor([1 << 62, 1, 1, 1])
    x = last(torch.full((1, 1, 1, 2, 2), 9.0))
    for run in (lambda: native.lif(x, 2.0, False, 1.0, huge), lambda: native.pool(x.bool(), 1, huge)):
        with pytest.raises(SpikeattnError, match=r"18,446,744,073,709,551,616 additions .* exact below 2\*\*53"):
            run()
    most = torch.tensor([(1 << 51) - 1] * 4)  # 2**53 - 4 additions: the largest that float64 surely holds
    assert native.lif(x, 2.0, False, 1.0, most)[2].item() == native.pool(x.bool(), 1, most)[2].item() == (1 << 53) - 4
    many = torch.ones(1, 1, 1, 1, dtype=torch.bool).expand(1, 1, 1, 1, (1 << 24) + 1)
    for run in (lambda: native.mask(many, many, votes=True), lambda: native.mean(many)):
        with pytest.raises(SpikeattnError, match="16,777,217"):
            run()
    wide = torch.ones(1, 1, 1, 1, 1).expand(1, 1, 1 << 31, 1, 1)
    with pytest.raises(SpikeattnError, match="channels"):
        native.lif(wide, 2.0, False, 1.0, None)


def test_large_fan_outs_on_a_gpu_in_tritons_interpreter() -> None:
    triton = pytest.importorskip("triton")
    if triton.__version__.startswith("3.0."):
        pytest.skip("Triton 3.0's interpreter hands a kernel's constants over as numbers")
    code = """
import pytest, torch
from spikeattn.errors import SpikeattnError
from spikeattn.fast import cuda as kernels
fans, x = torch.full((4,), 1 << 22), torch.ones(1, 1, 1024, 2, 2)
expected = 4096 << 22
assert kernels.count(x, fans.view(2, 2))[2].item() == expected
assert kernels.count(x[0].contiguous(memory_format=torch.channels_last)[None], fans.view(2, 2))[2].item() == expected
assert kernels.pool(x.bool(), 1, fans, torch.bool, True)[2].item() == expected
assert kernels.lif(x * 9, 2.0, False, 1.0, fans, torch.bool, True)[2].item() == expected
many = torch.ones(1, 1, 1, 1, dtype=torch.bool).expand(1, 1, 128, 1, (1 << 24) + 1)
runs = [
    lambda: kernels.lif(many, 2.0, False, 1.0, None, torch.bool, True),
    lambda: kernels.pool(many, 1, None, torch.bool, True),
    lambda: kernels.mask(many[:, :, :1], many[:, :, :1], True, torch.bool, True),
]
for run in runs:
    with pytest.raises(SpikeattnError, match="2,147,483,776|16,777,217"):
        run()
"""
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_large_image_in_bands() -> None:
    weight, bias = noise(8, 4, 3, 3).round(), torch.zeros(8)
    for size in ((70, 90), (3, 2000)):
        x = spikes(1, 1, 4, *size)
        expected = F.conv2d(x[0].float(), weight, bias, padding=1)
        assert torch.equal(native.conv(x, *native.pack(weight, bias), 8, 3)[0], expected)


def test_a_still_image_is_convolved_once() -> None:
    x = noise(1, 2, 3, 6, 6).expand(4, -1, -1, -1, -1)
    y = native.conv(x, *native.pack(noise(8, 3, 3, 3), noise(8)), 8, 3)
    assert y.shape == (4, 2, 8, 6, 6) and y.stride(0) == 0


def test_fan_out_is_the_ledgers() -> None:
    from spikeattn.tracing.fanout import ConvGeometry, fan_out_map

    for size, kernel in (((7, 5), 3), ((1, 4), 3), ((6, 6), 5), ((3, 3), 1)):
        geometry = ConvGeometry(2, 12, (kernel,) * 2, (1, 1), (kernel // 2,) * 2, (1, 1), False, (0, 0), 1)
        assert torch.equal(prepare.fan_out(size, kernel, 12).double(), fan_out_map(geometry, size).flatten())


def test_mean() -> None:
    x = last(noise(2, 3, 10, 4, 5))
    torch.testing.assert_close(native.mean(x), x.mean((3, 4)))


def test_compiled_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.build.cache_clear()
    try:
        first = native.build()
        assert first.library is not None and first.library.parent == tmp_path / "spikeattn"
        made = first.library.stat().st_mtime_ns
        native.build.cache_clear()
        assert native.build().library.stat().st_mtime_ns == made
        monkeypatch.setattr(native, "SOURCES", (tmp_path / "broken.c",))
        (tmp_path / "broken.c").write_text("this is no C")
        native.build.cache_clear()
        broken = native.build()
        assert broken.library is None and "cannot compile" in broken.reason
    finally:
        native.build.cache_clear()

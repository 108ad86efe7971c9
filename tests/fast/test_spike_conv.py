"""The convolution of spikes against numpy's float32 in the same order, to the bit, compiled for several processors."""

from __future__ import annotations

import ctypes
import platform
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeattn.fast import c_compiler, native

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")
# of the C compiler, beside the usual ones; each takes other lines of the source
PROCESSORS = {
    "this one": (),
    "AVX2": ("-mno-avx512f",),
    "AVX-512 without VBMI2": ("-mno-avx512vbmi2",),
    "any": ("-march=x86-64",),
}


@pytest.fixture(scope="module", params=PROCESSORS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels, compiled without some instructions."""
    made, options = native.build(), PROCESSORS[request.param]
    assert made.kernels is not None and made.compiler is not None, made.reason
    if not options:
        return made.kernels
    if platform.machine() != "x86_64":
        pytest.skip("flags of x86-64")
    path = tmp_path_factory.mktemp("compiled") / "native.so"
    c_compiler.compile_library(shlex.split(made.compiler), (*made.flags, *options), native.SOURCES, path)
    return ctypes.CDLL(str(path))


@pytest.fixture
def compiled(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`native` with that library."""
    monkeypatch.setattr(native, "library", lambda: library)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def spikes(generator: np.random.Generator, shape: tuple[int, ...], rate: float) -> Tensor:
    """Bools [T, B, C, H, W] in channels-last memory."""
    T, B, C, H, W = shape
    return torch.from_numpy(generator.random((T, B, H, W, C)) < rate).permute(0, 1, 4, 2, 3)


def in_order(x: Tensor, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """[T, B, H, W, O]: bias, taps in raster order, channels ascending, every sum rounded to float32."""
    fired = x.permute(0, 1, 3, 4, 2).numpy()
    (*_, H, W, C), (outputs, _, K, _) = fired.shape, weight.shape
    sums = np.broadcast_to(bias, (*fired.shape[:-1], outputs)).copy()
    framed = np.pad(fired, ((0, 0), (0, 0), (K // 2,) * 2, (K // 2,) * 2, (0, 0)))
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(K):
            for j in range(K):
                window = framed[:, :, i : i + H, j : j + W]
                for c in range(C):
                    sums[window[..., c]] += weight[:, c, i, j]
    return sums


def same(found: Tensor, expected: np.ndarray) -> bool:
    """Equal to the bit; any NaN is any other."""
    rows = np.ascontiguousarray(found.permute(0, 1, 3, 4, 2).numpy())
    numbers = ~np.isnan(expected)
    equal = rows.view(np.int32)[numbers] == expected.view(np.int32)[numbers]
    return bool(equal.all()) and bool(np.isnan(rows[~numbers]).all())


def weights(generator: np.random.Generator, outputs: int, inputs: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Of very different sizes, some of them -0.0 and denormal: another order gives other sums."""
    shape = (outputs, inputs, kernel, kernel)
    weight = generator.standard_normal(shape) * 10.0 ** generator.integers(-4, 4, shape)
    kind = generator.random(shape)
    weight[kind < 0.05] = -0.0
    weight[(kind > 0.05) & (kind < 0.1)] *= 1e-41
    bias = generator.standard_normal(outputs)
    bias[generator.random(outputs) < 0.3] = -0.0
    return weight.astype(np.float32), bias.astype(np.float32)


# T, B, C_in, H, W, C_out, kernel
SHAPES = {
    "1x1, full chunks": (2, 2, 256, 7, 9, 64, 1),
    "1x1, odd": (2, 2, 300, 5, 7, 70, 1),
    "1x1, one position": (3, 5, 130, 1, 1, 10, 1),
    "1x1, two superchunks": (1, 2, 2100, 3, 3, 65, 1),
    "1x1, one channel": (2, 1, 1, 40, 11, 1, 1),
    "3x3": (2, 2, 140, 14, 14, 66, 3),
    "3x3, one column": (2, 1, 64, 30, 1, 40, 3),
    "3x3, wide": (1, 1, 5, 2, 900, 8, 3),
    "3x3, tall": (3, 1, 5, 300, 3, 8, 3),
    "5x5": (1, 2, 33, 6, 4, 20, 5),
}
RATES = (0.0, 0.01, 0.05, 0.1, 0.3, 0.7, 1.0)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_order_of_additions_at_any_rate(shape: tuple[int, ...]) -> None:
    *form, outputs, kernel = shape
    generator = np.random.default_rng(sum(shape))
    weight, bias = weights(generator, outputs, form[2], kernel)
    packed = native.pack(torch.from_numpy(weight), torch.from_numpy(bias))
    for number, rate in enumerate(RATES):
        x = spikes(generator, tuple(form), rate)
        torch.set_num_threads(1 + number % 2)
        assert same(native.conv(x, *packed, outputs, kernel), in_order(x, weight, bias)), rate


@pytest.mark.usefixtures("compiled")
def test_a_rate_of_its_own_everywhere() -> None:
    """Silent inputs, full ones and one region of many spikes: groups of unlike lengths, tiles of unlike kinds."""
    generator = np.random.default_rng(0)
    weight, bias = weights(generator, 70, 300, 3)
    x = spikes(generator, (2, 2, 300, 20, 20), 0.02)
    x[:, :, :, 5:9, 2:12] |= spikes(generator, (2, 2, 300, 4, 10), 0.8)
    x[0, 1, :, 3] = False
    x[1, 0, :, :, 7] = True
    x[:, :, 128:256] = False
    packed = native.pack(torch.from_numpy(weight), torch.from_numpy(bias))
    assert same(native.conv(x, *packed, 70, 3), in_order(x, weight, bias))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_weight_that_is_no_number_reaches_those_that_add_it(value: float) -> None:
    generator = np.random.default_rng(1)
    weight, bias = weights(generator, 66, 200, 3)
    weight[generator.random(weight.shape) < 0.001] = value
    weight[0, 0, 0, 0], weight[1] = value, 1.0
    x = spikes(generator, (2, 1, 200, 9, 9), 0.05)
    packed = native.pack(torch.from_numpy(weight), torch.from_numpy(bias))
    expected = in_order(x, weight, bias)
    assert not np.isfinite(expected).all() and np.isfinite(expected[..., 1]).all()
    assert same(native.conv(x, *packed, 66, 3), expected)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("joined", [False, True])
def test_a_neuron_behind_it_makes_the_same_spikes_and_counts(shape: tuple[int, ...], joined: bool) -> None:
    *form, outputs, kernel = shape
    T, B, C, H, W = form
    generator = np.random.default_rng(sum(shape))
    weight = torch.from_numpy(generator.standard_normal((outputs, C, kernel, kernel)).astype(np.float32))
    packed = native.pack(weight, torch.full((outputs,), 2.0))
    # of other strides than the sums: channels first
    shortcut = torch.randn(T, B, outputs, H, W, generator=torch.Generator().manual_seed(0)) if joined else None
    for number, (tau, multiply, threshold) in enumerate(((0.5, True, 1.0), (3.0, False, 0.5), (2.0, False, -0.5))):
        torch.set_num_threads(1 + number % 2)
        x = spikes(generator, tuple(form), (0.03, 0.2, 0.6)[number])
        sums = native.conv(x, *packed, outputs, kernel)
        sums = sums if shortcut is None else shortcut + sums
        for fans in (None, torch.arange(1, H * W + 1)):
            expected = native.lif(sums, tau, multiply, threshold, fans)
            y, found = native.conv_lif(x, *packed, outputs, kernel, shortcut, joined, tau, multiply, threshold, fans)
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1]) and found[3] == 0
            assert found[2] is None if fans is None else torch.equal(found[2], expected[2])
            assert torch.equal(y, sums) if joined else y is None
            assert found[1].sum() > 0


@pytest.mark.usefixtures("compiled")
def test_a_neuron_behind_it_finds_what_is_no_number() -> None:
    generator = np.random.default_rng(2)
    weight, bias = weights(generator, 130, 70, 3)
    weight[1, 2, 1, 1], weight[2, 2, 1, 1], weight[129, 2, 1, 1] = np.nan, np.inf, -np.inf
    packed = native.pack(torch.from_numpy(weight), torch.from_numpy(bias))
    x = spikes(generator, (3, 2, 70, 6, 6), 0.1)
    sums = native.conv(x, *packed, 130, 3)
    expected = native.lif(sums, 2.0, False, 1.0, None)
    found = native.conv_lif(x, *packed, 130, 3, None, False, 2.0, False, 1.0, None)[1]
    assert found[3] == expected[3] > 0
    assert torch.equal(found[0], expected[0])


def test_more_time_steps_than_a_tile_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    packed = native.pack(torch.randn(5, 4, 1, 1), torch.ones(5))
    x = spikes(generator, (7, 1, 4, 2, 3), 0.3)
    whole = native.conv_lif(x, *packed, 5, 1, None, False, 2.0, False, 1.0, None)
    monkeypatch.setattr(native, "_STEPS", 6)
    apart = native.conv_lif(x, *packed, 5, 1, None, False, 2.0, False, 1.0, None)
    assert torch.equal(whole[1][0], apart[1][0]) and torch.equal(whole[1][1], apart[1][1])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("size", [(6, 7), (1, 1)])
def test_many_threads_and_few_positions(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(4)
    weight, bias = weights(generator, 300, 130, 3)
    packed = native.pack(torch.from_numpy(weight), torch.from_numpy(bias))
    x = spikes(generator, (2, 1, 130, *size), 0.2)
    for threads in (1, 3, 8):
        torch.set_num_threads(threads)
        assert same(native.conv(x, *packed, 300, 3), in_order(x, weight, bias)), threads


def test_every_file_of_the_kernels_is_in_the_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = sorted(native.SOURCES[0].parent.glob("*.[ch]"))
    assert sorted((*native.SOURCES, *native.HEADERS)) == files
    before = native._key(("cc",), "", ())
    for name in ("SOURCES", "HEADERS"):
        for file in getattr(native, name):
            changed = tmp_path / file.name
            changed.write_text(file.read_text() + "\n")
            with monkeypatch.context() as patch:
                patch.setattr(native, name, tuple(changed if f == file else f for f in getattr(native, name)))
                assert native._key(("cc",), "", ()) != before, file

"""Random bits that are the same on every device: Philox, a generator whose i-th output is a function of key and i.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011 (Philox4x64-10). On the CPU the bits
come from NumPy's generator; on CUDA from one kernel, or where Triton is missing from the same integer arithmetic in
torch. What is made of them uses integer arithmetic, table look-ups and single roundings alone, so that the results do
not depend on the device either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError

logger = logging.getLogger(__name__)

Key = tuple[int, int, int]

LEVELS = 2**16
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
LOW = 0xFFFFFFFF


def sequence(key: Key) -> np.random.SeedSequence:
    """The seed of (seed, image, replicate).

    Raises:
        SpikeattnError: a part of the key that is no whole number from 0 on.
    """
    if any(isinstance(part, bool) or not isinstance(part, int | np.integer) or part < 0 for part in key):
        raise SpikeattnError(f"seed, image and replicate are {tuple(key)}; they are whole numbers from 0 on")
    return np.random.SeedSequence(key)


def words(keys: Sequence[Key], n: int, device: torch.device | str = "cpu") -> Tensor:
    """The first n words of 64 bits of every key: [keys, n] int64."""
    seeds = [sequence(key) for key in keys]
    device = torch.device(device)
    if device.type == "cuda" and seeds and n:
        state = np.stack([seed.generate_state(2, np.uint64) for seed in seeds]).view(np.int64)
        return _maker(device)(torch.from_numpy(state).to(device), -(-n // 4))[:, :n]
    found = np.empty((len(seeds), n), np.uint64)
    for row, seed in zip(found, seeds, strict=True):
        row[:] = np.random.Philox(seed).random_raw(n)
    return torch.from_numpy(found.view(np.int64)).to(device)


def philox(keys: Tensor, blocks: int) -> Tensor:
    """Philox4x64-10 of keys [b, 2] at the counters 1, 2, ..., blocks, as NumPy runs it: [b, 4 * blocks] int64."""
    factors = torch.tensor([_signed(x) for x in MULTIPLIERS], device=keys.device)[:, None, None]
    step = torch.tensor([_signed(x) for x in WEYL], device=keys.device)[:, None, None]
    key = keys.T[:, :, None]  # [2, b, 1]
    even = torch.zeros((2, len(keys), blocks), dtype=torch.int64, device=keys.device)  # words 0 and 2 of the counter
    even[0] = torch.arange(1, blocks + 1, device=keys.device)
    odd = torch.zeros_like(even)  # words 1 and 3
    for number in range(ROUNDS):
        high, low = _high(even, factors), even * factors
        even, odd = high.flip(0) ^ odd ^ (key + number * step), low.flip(0)
    return torch.stack([even[0], odd[0], even[1], odd[1]], -1).flatten(1)


@cache
def _maker(device: torch.device) -> Callable[[Tensor, int], Tensor]:
    """The kernel where it can be built and gives the bits of `philox` on this device, otherwise `philox`."""
    probe = torch.tensor([[0, 0], [-1, 1], [2**62, -(2**40)]], device=device)
    try:
        from spikeattn.attention import philox_kernel

        if torch.equal(philox_kernel.philox(probe, 300), philox(probe, 300)):
            return philox_kernel.philox
        reason = "its kernel gives other bits here"
    except Exception as error:  # no Triton, no compiler for its launcher, a device that it does not know
        reason = f"{type(error).__name__}: {error}"
    logger.warning("random draws on %s run as plain torch, the same bits several times slower: %s", device, reason)
    return philox


def normal(keys: Sequence[Key], n: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal values [keys, n] float32: each one of 65,536 equally likely quantiles, from 16 bits."""
    bits = words(keys, -(-n // 4), device).view(torch.int16)[:, :n]
    table = torch.from_numpy(_quantiles()).to(bits.device)
    return table.index_select(0, (bits.int() & 0xFFFF).flatten()).view(len(keys), n)


def uniform(keys: Sequence[Key], n: int, device: torch.device | str = "cpu") -> Tensor:
    """Multiples of 2^-24 in [0, 1), [keys, n] float32."""
    bits = words(keys, -(-n // 2), device).view(torch.int32)[:, :n]
    return (bits & 0xFFFFFF).float() * 2.0**-24


def integers(keys: Sequence[Key], n: int, below: int, device: torch.device | str = "cpu") -> Tensor:
    """Whole numbers from 0 to below - 1, [keys, n] int64: 32 bits times `below`, its high half.

    Two of the numbers differ in their chance by at most 2^-32.
    """
    bits = words(keys, -(-n // 2), device).view(torch.int32)[:, :n]
    return ((bits.long() & LOW) * below) >> 32


@cache
def _quantiles() -> np.ndarray:
    """The normal quantiles at (i + 1/2) / 65,536, scaled to variance 1; float32."""
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((i + 0.5) / LEVELS) for i in range(LEVELS // 2, LEVELS)])
    table = np.concatenate([-upper[::-1], upper])
    return (table / np.sqrt((table**2).mean())).astype(np.float32)


def _high(a: Tensor, b: Tensor) -> Tensor:
    """The upper half of the 128-bit product of unsigned 64-bit numbers, kept in int64."""
    a0, a1, b0, b1 = a & LOW, _upper(a), b & LOW, _upper(b)
    middle = a1 * b0 + _upper(a0 * b0)
    other = a0 * b1 + (middle & LOW)
    return a1 * b1 + _upper(middle) + _upper(other)


def _upper(x: Tensor) -> Tensor:
    return (x >> 32) & LOW


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x

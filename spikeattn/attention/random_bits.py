"""Random bits that are the same on every device: Philox, a generator whose i-th output is a function of key and i.

On the CPU the bits come from NumPy's Philox4x64-10; on CUDA from one kernel, or where Triton is missing from the same
integer arithmetic in torch. What is made of them uses integer arithmetic, table look-ups and single roundings alone, so
that the results do not depend on the device either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from spikeattn.attention.philox import LOW, philox
from spikeattn.errors import SpikeattnError

logger = logging.getLogger(__name__)

RandomKey = tuple[int, int, int]  # seed, image, replicate

LEVELS = 2**16  # quantiles that a normal value takes: those that 16 random bits tell apart


def sequence(key: RandomKey) -> np.random.SeedSequence:
    """The seed of (seed, image, replicate).

    Raises:
        SpikeattnError: a part of the key that is no whole number from 0 on.
    """
    if any(isinstance(part, bool) or not isinstance(part, int | np.integer) or part < 0 for part in key):
        raise SpikeattnError(f"seed, image and replicate are {tuple(key)}; they are whole numbers from 0 on")
    return np.random.SeedSequence(key)


def words(keys: Sequence[RandomKey], n: int, device: torch.device | str = "cpu") -> Tensor:
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


def normal(keys: Sequence[RandomKey], n: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal values [keys, n] float32: each one of 65,536 equally likely quantiles, from 16 bits."""
    bits = words(keys, -(-n // 4), device).view(torch.int16)[:, :n]
    table = torch.from_numpy(_quantiles()).to(bits.device)
    return table.index_select(0, (bits.int() & 0xFFFF).flatten()).view(len(keys), n)


def uniform(keys: Sequence[RandomKey], n: int, device: torch.device | str = "cpu") -> Tensor:
    """Multiples of 2^-24 in [0, 1), [keys, n] float32."""
    bits = words(keys, -(-n // 2), device).view(torch.int32)[:, :n]
    return (bits & 0xFFFFFF).float() * 2.0**-24


def integers(keys: Sequence[RandomKey], n: int, below: int, device: torch.device | str = "cpu") -> Tensor:
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

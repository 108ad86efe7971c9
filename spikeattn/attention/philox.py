"""Philox4x64-10 in the integer arithmetic of torch: random words that are a function of a key and a counter.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The constants of Philox4x64-10: two multipliers, the steps of its keys (a Weyl sequence), its rounds.
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
LOW = 0xFFFFFFFF  # the lower half of a word of 64 bits


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

"""Philox4x64-10 as one CUDA kernel, in Triton: what `attention.philox` computes in some two hundred.

Bits are written once and read never, where elementwise torch reads and writes every word of the counter for every
step of every round.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikeattn.attention.philox import MULTIPLIERS, ROUNDS, WEYL

_BLOCK = 256  # counters that one program of the grid works on

M0, M1 = (tl.constexpr(x) for x in MULTIPLIERS)
W0, W1 = (tl.constexpr(x) for x in WEYL)


@triton.jit
def _philox_kernel(keys_ptr, out_ptr, blocks, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton types a kernel at its first call
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < blocks
    key0 = tl.load(keys_ptr + 2 * row).to(tl.uint64, bitcast=True)
    key1 = tl.load(keys_ptr + 2 * row + 1).to(tl.uint64, bitcast=True)
    m0, m1 = tl.full((BLOCK,), M0, tl.uint64), tl.full((BLOCK,), M1, tl.uint64)
    w0, w1 = tl.full((BLOCK,), W0, tl.uint64), tl.full((BLOCK,), W1, tl.uint64)
    k0, k1 = tl.zeros((BLOCK,), tl.uint64) + key0, tl.zeros((BLOCK,), tl.uint64) + key1
    x0 = (at + 1).to(tl.uint64)
    x1, x2, x3 = tl.zeros((BLOCK,), tl.uint64), tl.zeros((BLOCK,), tl.uint64), tl.zeros((BLOCK,), tl.uint64)
    for _ in tl.static_range(ROUNDS):
        high0, low0 = tl.umulhi(x0, m0), x0 * m0
        high1, low1 = tl.umulhi(x2, m1), x2 * m1
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0 += w0
        k1 += w1
    out_ptr += 4 * (row * blocks + at)
    tl.store(out_ptr, x0.to(tl.int64, bitcast=True), mask=inside)
    tl.store(out_ptr + 1, x1.to(tl.int64, bitcast=True), mask=inside)
    tl.store(out_ptr + 2, x2.to(tl.int64, bitcast=True), mask=inside)
    tl.store(out_ptr + 3, x3.to(tl.int64, bitcast=True), mask=inside)


def philox(keys: Tensor, blocks: int) -> Tensor:
    """Like `attention.philox`: keys [b, 2] int64 -> [b, 4 * blocks] int64."""
    out = torch.empty((len(keys), 4 * blocks), dtype=torch.int64, device=keys.device)
    grid = (triton.cdiv(blocks, _BLOCK), len(keys))
    _philox_kernel[grid](keys.contiguous(), out, blocks, ROUNDS=ROUNDS, BLOCK=_BLOCK)
    return out

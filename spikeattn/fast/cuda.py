"""The CUDA kernels of the fast path, in Triton: neurons, pools and masks that count the spikes they make.

Tensors are [T, B, C, H, W] in channels-last memory. Spikes are bools where only pools and masks read them, and numbers
of the convolutions' type elsewhere. Counts are added into int64 buffers on the device; nothing waits for the host.
Fan-outs are weighed in int64: those of one block of spikes can add up to more than an int32 holds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from spikeattn.errors import SpikeattnError

_INDEX = 1 << 31  # elements of one image and step that the kernels' 32-bit offsets tell apart
_POSITIONS_SUMMED = 1 << 24  # positions whose sum float32 holds exactly
_BLOCK, _WARPS = 2048, 8  # elements and warps of a program: 8 elements per thread, read in one piece of memory
_POSITIONS, _CHANNELS = 16, 128  # tile of the mask kernel


@triton.jit
def _lif_kernel(  # type: ignore[no-untyped-def]  # Triton's language, whose values have no Python types
    x_ptr, y_ptr, counts_ptr, fans_ptr, nonfinite_ptr, weights_ptr, B, S, tau, threshold,
    T: tl.constexpr, C: tl.constexpr, STILL: tl.constexpr, MULTIPLY: tl.constexpr, COUNT: tl.constexpr,
    FANS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < S
    size = B.to(tl.int64) * S
    x_ptr += image * S
    y_ptr += image * S
    v = tl.zeros((BLOCK,), dtype=tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if FANS:
        weights = tl.load(weights_ptr + at // C, mask=inside, other=0).to(tl.int64)
    for t in tl.static_range(T):
        if not STILL and t > 0:
            x = tl.load(x_ptr + t * size + at, mask=inside, other=0.0).to(tl.float32)
        if MULTIPLY:
            h = v + (x - v) * tau
        else:
            h = v + tl.div_rn(x - v, tau)
        fired = (h >= threshold) & inside
        v = h * (1.0 - fired.to(tl.float32))
        tl.store(y_ptr + t * size + at, fired.to(y_ptr.dtype.element_ty), mask=inside)
        if COUNT:
            ones = fired.to(tl.int32)
            tl.atomic_add(counts_ptr + t * B + image, tl.sum(ones).to(tl.int64))
            if FANS:
                tl.atomic_add(fans_ptr + t * B + image, tl.sum(ones * weights).to(tl.int64))
    if COUNT:
        nonfinite = tl.sum(((v - v != 0.0) & inside).to(tl.int32))
        tl.atomic_add(nonfinite_ptr, nonfinite.to(tl.int64), mask=nonfinite > 0)


@triton.jit
def _pool_kernel(  # type: ignore[no-untyped-def]  # Triton's language, whose values have no Python types
    x_ptr, y_ptr, counts_ptr, fans_ptr, weights_ptr, S,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, COLUMNS: tl.constexpr, STRIDE: tl.constexpr,
    COUNT: tl.constexpr, FANS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < S
    position, channel = at // C, at % C
    row, column = position // COLUMNS * STRIDE, position % COLUMNS * STRIDE
    x_ptr += image * H * W * C
    found = tl.zeros((BLOCK,), dtype=tl.uint8)
    for i in tl.static_range(-1, 2):
        for j in tl.static_range(-1, 2):
            here = inside & (row + i >= 0) & (row + i < H) & (column + j >= 0) & (column + j < W)
            found |= tl.load(x_ptr + ((row + i) * W + column + j) * C + channel, mask=here, other=0)
    tl.store(y_ptr + image * S + at, found.to(y_ptr.dtype.element_ty), mask=inside)
    if COUNT:
        ones = found.to(tl.int32)
        tl.atomic_add(counts_ptr + image, tl.sum(ones).to(tl.int64))
        if FANS:
            weights = tl.load(weights_ptr + position, mask=inside, other=0).to(tl.int64)
            tl.atomic_add(fans_ptr + image, tl.sum(ones * weights).to(tl.int64))


@triton.jit
def _mask_kernel(  # type: ignore[no-untyped-def]  # Triton's language, whose values have no Python types
    a_ptr, b_ptr, y_ptr, votes_ptr, counts_ptr, C,
    P: tl.constexpr, ONE: tl.constexpr, VOTES: tl.constexpr, COUNT: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channels < C
    a_ptr += image * P * C
    y_ptr += image * P * C
    if ONE:
        b = tl.load(b_ptr + image * C + channels, mask=known, other=0)[None, :]
    else:
        b_ptr += image * P * C
    sums = tl.zeros((CHANNELS,), dtype=tl.int32)
    for first in range(0, P, POSITIONS):
        positions = first + tl.arange(0, POSITIONS)
        at = positions[:, None] * C + channels[None, :]
        inside = (positions < P)[:, None] & known[None, :]
        a = tl.load(a_ptr + at, mask=inside, other=0)
        if not ONE:
            b = tl.load(b_ptr + at, mask=inside, other=0)
        both = a & b
        tl.store(y_ptr + at, both.to(y_ptr.dtype.element_ty), mask=inside)
        sums += tl.sum(both.to(tl.int32), axis=0)
    if VOTES:
        tl.store(votes_ptr + image * C + channels, sums.to(tl.float32), mask=known)
    if COUNT:
        tl.atomic_add(counts_ptr + image, tl.sum(sums).to(tl.int64))


@triton.jit
def _count_kernel(  # type: ignore[no-untyped-def]  # Triton's language, whose values have no Python types
    x_ptr, ones_ptr, fans_ptr, broken_ptr, weights_ptr, B, S, time_stride, image_stride, P, C,
    FANS: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    t, image = (row // B).to(tl.int64), (row % B).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < S
    x = tl.load(x_ptr + t * time_stride + image * image_stride + at, mask=inside, other=0).to(tl.float32)
    ones = (x == 1.0).to(tl.int32)
    tl.atomic_add(ones_ptr + row, tl.sum(ones).to(tl.int64))
    broken = tl.sum(((x != 1.0) & (x != 0.0)).to(tl.int32))
    tl.atomic_add(broken_ptr, broken.to(tl.int64), mask=broken > 0)
    if FANS:
        position = at // C if LAST else at % P
        weights = tl.load(weights_ptr + position, mask=inside, other=0).to(tl.int64)
        tl.atomic_add(fans_ptr + row, tl.sum(ones * weights).to(tl.int64))


def _rows(x: Tensor) -> Tensor:
    """[T, B, C, H, W] -> [T, B, H, W, C], contiguous; bools as bytes."""
    rows = x.permute(0, 1, 3, 4, 2).contiguous()
    return rows.view(torch.uint8) if rows.dtype == torch.bool else rows


def _columns(x: Tensor) -> Tensor:
    """[T, B, H, W, C] -> [T, B, C, H, W] in the same memory."""
    return x.permute(0, 1, 4, 2, 3)


def _bytes(x: Tensor) -> Tensor:
    return x.view(torch.uint8) if x.dtype == torch.bool else x


def _check_size(elements: int) -> None:
    if elements >= _INDEX:
        raise SpikeattnError(
            f"the fast path on a GPU reads fewer than 2**31 ({_INDEX:,}) values per image and time step; these are "
            f"{elements:,}: use plain=True"
        )


def _counters(x: Tensor) -> Tensor:
    """[2, T, B] zeros: counts and weighed counts."""
    return torch.zeros((2, *x.shape[:2]), dtype=torch.int64, device=x.device)


def lif(
    x: Tensor, tau: float, multiply: bool, threshold: float, fan_out: Tensor | None, dtype: torch.dtype, count: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """As `native.lif`; spikes of type `dtype`. Without `count` there are no counts; the last value is on the device."""
    T, B, C, H, W = x.shape
    _check_size(C * H * W)
    still = x.stride(0) == 0 and T > 1
    rows = _rows(x[:1] if still else x)
    spikes = torch.empty((T, B, H, W, C), dtype=dtype, device=x.device)
    counters, nonfinite = _counters(x), torch.zeros((), dtype=torch.int64, device=x.device)
    size, fans = H * W * C, fan_out is not None and count
    _lif_kernel[triton.cdiv(size, _BLOCK), B](
        rows, _bytes(spikes), counters[0], counters[1], nonfinite, fan_out if fans else nonfinite, B, size, tau,
        threshold, T=T, C=C if fans else 1, STILL=still, MULTIPLY=multiply, COUNT=count, FANS=fans, BLOCK=_BLOCK,
        num_warps=_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
    return _columns(spikes), counters[0] if count else None, counters[1] if fans else None, nonfinite


def pool(
    x: Tensor, stride: int, fan_out: Tensor | None, dtype: torch.dtype, count: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `native.pool`; spikes of type `dtype`."""
    T, B, C, H, W = x.shape
    _check_size(C * H * W)
    rows, columns = (H - 1) // stride + 1, (W - 1) // stride + 1
    y = torch.empty((T, B, rows, columns, C), dtype=dtype, device=x.device)
    counters, size, fans = _counters(x), rows * columns * C, fan_out is not None and count
    _pool_kernel[triton.cdiv(size, _BLOCK), T * B](
        _rows(x), _bytes(y), counters[0], counters[1], fan_out if fans else counters, size,
        H=H, W=W, C=C, COLUMNS=columns, STRIDE=stride, COUNT=count, FANS=fans, BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return _columns(y), counters[0] if count else None, counters[1] if fans else None


def pool_real(x: Tensor, stride: int) -> Tensor:
    """3x3 max-pool with padding 1 of real numbers."""
    return F.max_pool2d(x.flatten(0, 1), 3, stride, 1).unflatten(0, x.shape[:2])


def mask(
    a: Tensor, b: Tensor, votes: bool, dtype: torch.dtype, count: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `native.mask`; the result of type `dtype`."""
    T, B, C, H, W = a.shape
    _check_size(C * H * W)
    if votes and H * W > _POSITIONS_SUMMED:
        raise SpikeattnError(
            f"the fast path sums over up to 2**24 ({_POSITIONS_SUMMED:,}) positions, beyond which float32 is inexact; "
            f"these are {H * W:,}: use plain=True"
        )
    y = torch.empty((T, B, H, W, C), dtype=dtype, device=a.device)
    counts = torch.zeros((T, B), dtype=torch.int64, device=a.device)
    sums = torch.empty((T, B, 1, 1, C), device=a.device) if votes else None
    one = b.shape[3:] == (1, 1) and H * W > 1
    _mask_kernel[T * B, triton.cdiv(C, _CHANNELS)](
        _rows(a), _rows(b), _bytes(y), sums if votes else counts, counts, C,
        P=H * W, ONE=one, VOTES=votes, COUNT=count, POSITIONS=_POSITIONS, CHANNELS=_CHANNELS, num_warps=4,
    )  # fmt: skip
    return _columns(y), counts if count else None, None if sums is None else _columns(sums)


def mean(x: Tensor) -> Tensor:
    """Mean over positions, [T, B, C, H, W] -> [T, B, C] float32."""
    return x.flatten(3).mean(3, dtype=torch.float32)


def countable(x: Tensor) -> bool:
    """Whether `count` can read [T, B, C, ...]: each image and step is one piece of memory, channels first or last."""
    if not x.is_cuda or x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    image = x[0, 0]
    return image.numel() < _INDEX and (image.is_contiguous() or (image.dim() > 1 and _channels_last(image)))


def _channels_last(image: Tensor) -> bool:
    return image.movedim(0, -1).is_contiguous()


def count(x: Tensor, fan_out: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Ones [T, B] of a 0/1 tensor that is `countable`, how many other values it holds, and the weighed ones [T, B].

    Args:
        fan_out: [*space] int64 on the device, x being [T, B, C, *space].
    """
    T, B = x.shape[:2]
    counters = torch.zeros((2, T, B), dtype=torch.int64, device=x.device)
    broken = torch.zeros((), dtype=torch.int64, device=x.device)
    size, fans = x[0, 0].numel(), fan_out is not None
    last = fans and not x[0, 0].is_contiguous()
    _count_kernel[triton.cdiv(size, _BLOCK), T * B](
        x, counters[0], counters[1], broken, fan_out if fans else broken, B, size, x.stride(0), x.stride(1),
        1 if fan_out is None else fan_out.numel(), x.shape[2] if x.dim() > 2 else 1,
        FANS=fans, LAST=last, BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return counters[0], broken, counters[1] if fans else None

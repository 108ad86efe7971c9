"""Inputs on which attention means nothing: noise with the statistics of an image, and one null that needs no forward.

`normal`, `pixel`, `uniform` and `patch` as in Chung, Laletin: Attention Regularization, AISTATS 2026,
https://arxiv.org/abs/2604.01339; `token`, `events` and `exact` are ours. Every replicate has a random generator of its
own, keyed by (seed, image, replicate): it is the same bits in any chunk, order and process, and on any device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spikeattn.attention import random_bits
from spikeattn.attention.random_bits import RandomKey
from spikeattn.errors import SpikeattnError, unknown

INPUT_NULLS = ("normal", "pixel", "uniform", "patch", "events")
NULLS = (*INPUT_NULLS, "token", "exact")


def generator(seed: int, image: int, replicate: int) -> np.random.Generator:
    """The generator of one replicate of one image; a negative key is an error."""
    return np.random.Generator(np.random.Philox(random_bits.sequence((seed, image, replicate))))


def draw_inputs(
    null: str,
    image: Tensor,
    replicates: Sequence[int],
    *,
    seed: int = 0,
    index: int = 0,
    patch: tuple[int, int] | None = None,
    std_factor: float = 1.0,
    all_channels: bool = True,
) -> Tensor:
    """Replicates of one image, [b, ...] in its shape, type and device.

    - "normal": every value from N(mean, (std_factor std)^2) of its channel; of the image with all_channels=False.
    - "uniform": every value from U(min, max) of its channel.
    - "pixel": pixels drawn with replacement, their channels kept together.
    - "patch": patches of `patch` pixels drawn with replacement.
    - "events": for count frames [T, C, H, W]: time bins drawn with replacement, and every event of a bin on a pixel of
      its own choosing; polarities keep their number of events.

    Frames [T, C, H, W] draw every time step anew from the statistics of all; "pixel" and "patch" draw within a step.

    Args:
        null: see above.
        image: [C, H, W], or frames [T, C, H, W].
        replicates: numbers of the replicates wanted, from 0 on.
        seed: of all draws.
        index: of the image among those that share the seed.

    Raises:
        SpikeattnError: unknown null, NaN, sides that are no multiple of the patch, frames that hold no event counts.
    """
    if null not in INPUT_NULLS:
        raise unknown("null drawn at the input", null, INPUT_NULLS)
    values = image.detach().to(torch.float32)
    if values.dim() not in (3, 4) or not torch.isfinite(values).all():
        raise SpikeattnError(
            f"the image has shape {list(values.shape)}{'' if torch.isfinite(values).all() else ' and holds NaN'}; a "
            "null is drawn from finite images [C, H, W] or frames [T, C, H, W]"
        )
    frames = values if values.dim() == 4 else values[None]  # [T, C, H, W]
    keys = [(seed, index, replicate) for replicate in replicates]
    if null in ("normal", "uniform"):
        drawn = _noise(null, frames, keys, std_factor, all_channels)
    elif null == "pixel":
        drawn = _pixels(frames, keys)
    elif null == "patch":
        drawn = _patches(frames, patch, keys)
    else:
        counts = values.cpu().numpy()
        _check_events(counts)
        thrown = [_events(counts, generator(*key)) for key in keys]
        drawn = torch.from_numpy(np.stack(thrown) if thrown else np.empty((0, *counts.shape), np.float32))
    return drawn.reshape(-1, *image.shape).to(image.device, image.dtype)


def draw_tokens(tokens: int, replicates: Sequence[int], *, seed: int = 0, index: int = 0) -> Tensor:
    """Positions [b, N] drawn with replacement from the N tokens of one image, int64."""
    drawn = [generator(seed, index, replicate).integers(tokens, size=tokens) for replicate in replicates]
    return torch.from_numpy(np.stack(drawn) if drawn else np.empty((0, tokens), np.int64))


def poisson_binomial(spikes: ArrayLike, tokens: int) -> NDArray[np.float64]:
    """Distribution [n + 1] of a token's spike count over n neurons and steps whose spikes lie on random tokens.

    Neuron c fires on K_tc of the N tokens in step t; on any one token with probability K_tc / N, were its spikes
    permuted over the tokens independently of all others. The count is then Poisson-binomial, the same for every token;
    computed from its characteristic function by one DFT. Channels that fire together break the independence: this is a
    screen without forward passes, to be calibrated against a null that has them.

    Args:
        spikes: K_tc in any shape, whole numbers from 0 to N.
        tokens: N.
    """
    K = np.asarray(spikes).ravel()
    if K.size == 0 or tokens < 1 or (K != np.round(K)).any() or K.min() < 0 or K.max() > tokens:
        raise SpikeattnError(
            f"spikes per neuron and step range from {K.min() if K.size else 'none'} to {K.max() if K.size else 'none'} "
            f"on {tokens} tokens; they are whole numbers from 0 to the number of tokens"
        )
    n = K.size
    rates, times = np.unique(K / tokens, return_counts=True)
    turn = np.exp(2j * np.pi * np.arange(n + 1) / (n + 1))
    factors = 1 + rates[:, None] * (turn[None] - 1)  # [distinct rates, n + 1]
    with np.errstate(divide="ignore"):
        log_size = times @ np.log(np.abs(factors))
    pmf = np.fft.fft(np.exp(log_size + 1j * (times @ np.angle(factors)))).real / (n + 1)
    pmf = np.maximum(pmf, 0)
    return pmf / pmf.sum()


def _noise(null: str, frames: Tensor, keys: list[RandomKey], std_factor: float, all_channels: bool) -> Tensor:
    axes = (0, 2, 3) if all_channels else (0, 1, 2, 3)
    values, n = frames.cpu().numpy(), frames.numel()  # statistics on the CPU: sums differ between devices
    if null == "uniform":
        offset = values.min(axes, keepdims=True)
        scale = values.max(axes, keepdims=True) - offset
        drawn = random_bits.uniform(keys, n, frames.device)
    else:
        wide = values.astype(np.float64)
        offset, scale = wide.mean(axes, keepdims=True), std_factor * wide.std(axes, keepdims=True)
        drawn = random_bits.normal(keys, n, frames.device)
    offset, scale = (torch.from_numpy(x.astype(np.float32)).to(frames.device) for x in (offset, scale))
    return drawn.view(-1, *frames.shape).mul_(scale).add_(offset)


def _pixels(frames: Tensor, keys: list[RandomKey]) -> Tensor:
    T, C, H, W = frames.shape
    pixels = frames.permute(0, 2, 3, 1).reshape(T * H * W, C)
    return _chosen(pixels, T, H * W, keys).view(-1, T, H, W, C).permute(0, 1, 4, 2, 3).contiguous()


def _patches(frames: Tensor, patch: tuple[int, int] | None, keys: list[RandomKey]) -> Tensor:
    T, C, H, W = frames.shape
    if patch is None or min(patch) < 1 or H % patch[0] or W % patch[1]:
        raise SpikeattnError(f"patch is {patch} for images of {H}x{W} pixels; give (height, width) that divide them")
    h, w = H // patch[0], W // patch[1]
    cut = frames.reshape(T, C, h, patch[0], w, patch[1]).permute(0, 2, 4, 1, 3, 5).reshape(T * h * w, -1)
    drawn = _chosen(cut, T, h * w, keys).view(-1, T, h, w, C, *patch)
    return drawn.permute(0, 1, 4, 2, 5, 3, 6).contiguous()


def _chosen(rows: Tensor, T: int, each: int, keys: list[RandomKey]) -> Tensor:
    """Rows [T * each, ...] drawn with replacement within each of T steps: [keys * T * each, ...]."""
    drawn = random_bits.integers(keys, T * each, each, rows.device).view(-1, T, each)
    drawn += torch.arange(T, device=rows.device)[:, None] * each
    return rows.index_select(0, drawn.flatten())


def _check_events(values: NDArray[np.float32]) -> None:
    if values.ndim != 4 or (values < 0).any() or (values != np.round(values)).any():
        raise SpikeattnError(
            f'null="events" takes frames [T, C, H, W] of event counts; the input has shape {list(values.shape)} and '
            f'values from {values.min():.4g} to {values.max():.4g}. For images take "pixel"'
        )


def _events(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    T, C, H, W = frames.shape
    events = frames.sum(axis=(2, 3)).astype(np.int64)[rng.integers(T, size=T)]  # [T, C]
    thrown = [np.bincount(rng.integers(H * W, size=n), minlength=H * W) for n in events.ravel()]
    return np.stack(thrown).reshape(T, C, H, W).astype(np.float32)

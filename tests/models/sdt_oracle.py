"""A second Spike-driven Transformer for tests: plain functions on a state dict, attention written per head.

It shares no code with the package: own LIF loop, tokens and heads as separate axes [T, B, heads, N, d], Erode as the
paper's pooling over (token, channel of the head). `exact_weights` fills a model with numbers whose sums are exact in
float32 in any order, so that two correct implementations give the very same spikes.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def exact_weights(model: nn.Module, seed: int = 0) -> None:
    """Fill a model in place: weights k/256, BN scale k/8, 1/std in {1/2, 1, 2}, shifts k/64 (+ 2^-15)."""
    filled = {}
    for key, old in model.state_dict().items():
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        leaf, bn = key.rpartition(".")[2], "bn" in key
        if leaf == "num_batches_tracked":
            filled[key] = torch.ones_like(old)
            continue
        u = rng.random(tuple(old.shape))
        if leaf == "running_var":
            value = np.array([exact_variance(target) for target in (0.25, 1.0, 4.0)])[(u * 3).astype(int)]
        elif leaf == "running_mean" or (leaf == "bias" and not bn):
            value = np.round((u - 0.5) * 25) / 64
        elif leaf == "bias":
            value = np.round((u * 2 - 0.6) * 64) / 64 + 2.0**-15
        elif leaf == "weight" and bn:
            value = np.round(6 + u * 8) / 8
        elif leaf == "w":
            value = np.zeros(old.shape)
        else:
            bound = (12.0 / max(np.prod(old.shape[1:]), 1)) ** 0.5
            value = np.clip(np.round((2 * u - 1) * bound * 256), -127, 127) / 256
        filled[key] = torch.as_tensor(np.asarray(value, dtype=np.float32).reshape(tuple(old.shape)))
    model.load_state_dict(filled)


def exact_input(*shape: int, seed: int = 0) -> Tensor:
    """Values k/16 between -2 and 2."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-32, 33, shape).astype(np.float32)) / 16


def forward(state: dict[str, Tensor], x: Tensor, config: dict) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits [B, K] (or [T, B, K] with tet) and every spike tensor by published hook name."""
    T, heads, dvs, seen = config["time_steps"], config["num_heads"], config["dvs"], {}

    def norm_conv(name: str, bn: str, x: Tensor, padding: int) -> Tensor:
        y = F.conv2d(x.flatten(0, 1), state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)
        stats = (state[f"{bn}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *stats).unflatten(0, (T, -1))

    def erode(x: Tensor) -> Tensor:
        return F.max_pool3d(x, (1, 3, 3), 1, (0, 1, 1)) if dvs else x

    def to_heads(x: Tensor) -> Tensor:
        return x.flatten(3).transpose(2, 3).unflatten(3, (heads, -1)).transpose(2, 3)  # [T, B, heads, N, d]

    x = torch.stack([x] * T) if x.dim() == 4 else x.transpose(0, 1)
    for stage in range(4):
        suffix = str(stage or "")
        x = norm_conv(f"patch_embed.proj_conv{suffix}", f"patch_embed.proj_bn{suffix}", x, 1)
        if stage < 3:
            x = seen[f"MS_SPS_lif{suffix}"] = lif(x)
        if config["pooling_stat"][stage] == "1":
            x = F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, (T, -1))
    spikes = seen["MS_SPS_lif3"] = lif(x)
    x = x + norm_conv("patch_embed.rpe_conv", "patch_embed.rpe_bn", spikes, 1)
    for i in range(config["depth"]):
        attn, mlp, hook = f"block.{i}.attn", f"block.{i}.mlp", f"MS_SSA_Conv{i}_"
        spikes = seen[hook + "first_lif"] = lif(x)
        q, k, v = (lif(norm_conv(f"{attn}.{n}_conv", f"{attn}.{n}_bn", spikes, 0)) for n in "qkv")
        k, v = erode(k), erode(v)
        seen |= {hook + "q_lif": q, hook + "k_lif": k, hook + "v_lif": v}
        q, k, v = to_heads(q), to_heads(k), to_heads(v)
        kv = seen[hook + "kv_before"] = k * v
        gate = seen[hook + "kv"] = lif(erode(kv).sum(3, keepdim=True), threshold=0.5)
        out = seen[hook + "x_after_qkv"] = erode(q * gate)
        x = x + norm_conv(f"{attn}.proj_conv", f"{attn}.proj_bn", out.transpose(3, 4).reshape(x.shape), 0)
        spikes = seen[f"MS_MLP_Conv{i}_fc1_lif"] = lif(x)
        hidden = norm_conv(f"{mlp}.fc1_conv", f"{mlp}.fc1_bn", spikes, 0)
        if hidden.shape == x.shape:
            x = hidden = x + hidden
        spikes = seen[f"MS_MLP_Conv{i}_fc2_lif"] = lif(hidden)
        x = x + norm_conv(f"{mlp}.fc2_conv", f"{mlp}.fc2_bn", spikes, 0)
    spikes = seen["head_lif"] = lif(x.flatten(3).mean(3))
    logits = F.linear(spikes, state["head.weight"], state["head.bias"])
    return (logits if config["tet"] else logits.mean(0)), seen


def lif(x: Tensor, threshold: float = 1.0) -> Tensor:
    """Leaky integrate-and-fire over axis 0: half of the potential decays, a spike resets it to 0."""
    v, spikes = torch.zeros_like(x[0]), []
    for step in x:
        v = v + (step - v) / 2
        spikes.append((v >= threshold).to(x))
        v = torch.where(v >= threshold, 0, v)
    return torch.stack(spikes)


def exact_variance(target: float) -> float:
    """The float32 nearest below `target` that gives `target` exactly once BN has added its epsilon of 1e-5."""
    target, eps = np.float32(target), np.float32(1e-5)
    var = np.float32(target - eps)
    while var + eps != target:
        var = np.nextafter(var, np.float32(8 if var + eps < target else 0))
    return float(var)

"""The published Spike-driven Transformer on weights whose sums are exact: what went in, and the spikes that came out.

Weights and images are drawn anew from a seed and are not stored. All of them lie on dyadic grids (weights k / 256,
scales k / 8, 1 / std a power of two, inputs k / 16), so every sum is exact in float32 whatever its order: a correct
model gives the very same spikes, on any machine. Biases before neurons are off the grid by 2^-15, so that no potential
meets the threshold. The reference outputs are in tests/fixtures/sdt; tests/fixtures/make.py writes them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional
from torch import Tensor

from spikeattn.models.spike_driven import SpikeDrivenTransformer
from tests.models.sdt_oracle import exact_variance

CONFIGS = ("tiny_32", "tiny_64_1111", "tiny_tet", "dvs_64")
FOLDER = Path(__file__).parents[1] / "fixtures" / "sdt"


@dataclass(frozen=True)
class Reference:
    """What the published model gave.

    Attributes:
        config: of the model and its input, in the published argument names.
        shapes: of the published state, by key.
        weight_sum, input_sum: sums of absolute values: whether the draws are those of the reference.
        logits: [B, K], or [T, B, K] with TET.
        counts: spikes of every tensor by its published hook name, [T, B].
        elements: of one image at one time step, by hook name.
        digests: sha256 of the spikes of a tensor, packed as bits, by hook name.
        spikes: the spikes themselves as bits, flat, in the order of the hooks; for one configuration alone.
    """

    config: dict[str, Any]
    shapes: dict[str, Sequence[int]]
    weight_sum: float
    input_sum: float
    logits: Tensor
    counts: dict[str, np.ndarray]
    elements: dict[str, int]
    digests: dict[str, str]
    spikes: np.ndarray | None

    def model(self, device: str = "cpu") -> SpikeDrivenTransformer:
        """This package's model of the configuration, with the reference's weights."""
        state = weights(self.shapes, self.config["seed"])
        assert abs(sum(float(v.double().abs().sum()) for v in state.values()) - self.weight_sum) < 1e-6
        model = build(self.config).eval()
        model.load_state_dict(state, strict=True)
        return model.to(device)

    def images(self) -> Tensor:
        """[B, C, H, W], or [B, T, C, H, W] where the configuration takes frames."""
        images = inputs(self.config)
        assert abs(float(images.double().abs().sum()) - self.input_sum) < 1e-6
        return images


def read(name: str) -> Reference:
    """One of the CONFIGS."""
    with np.load(FOLDER / f"{name}.npz") as file:
        hooks = [str(hook) for hook in file["hooks"]]
        return Reference(
            config=json.loads(str(file["config"])),
            shapes=json.loads(str(file["shapes"])),
            weight_sum=float(file["weight_sum"]),
            input_sum=float(file["input_sum"]),
            logits=torch.from_numpy(file["logits"]),
            counts=dict(zip(hooks, file["counts"], strict=True)),
            elements=dict(zip(hooks, file["elements"].tolist(), strict=True)),
            digests=dict(zip(hooks, file["digests"].tolist(), strict=True)),
            spikes=np.unpackbits(file["spikes"]).astype(bool) if "spikes" in file else None,
        )


def build(config: Mapping[str, Any]) -> SpikeDrivenTransformer:
    """The model of one reference configuration, in the reference's argument names."""
    return SpikeDrivenTransformer(
        img_size=config["img"],
        in_chans=config["in_channels"],
        num_classes=config["num_classes"],
        embed_dim=config["embed_dims"],
        depth=config["depths"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratios"],
        time_steps=config["T"],
        pooling_stat=config["pooling_stat"],
        dvs=config["dvs_mode"],
        tet=config["TET"],
    )


@torch.no_grad()
def run(model: SpikeDrivenTransformer, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and every tensor that the published code has a hook for, by hook name; seen by ordinary forward hooks."""
    seen: dict[str, Tensor] = {}

    def tap(hook: str) -> Any:
        return lambda module, args, output: seen.__setitem__(hook, output.cpu())

    named = {path: name.hook for path, name in model.paper_names().items() if name.hook}
    handles = [model.get_submodule(path).register_forward_hook(tap(hook)) for path, hook in named.items()]
    functional.reset_net(model)
    logits = model(images.to(next(model.parameters()).device)).cpu()
    for handle in handles:
        handle.remove()
    return logits, seen


def counts_of(spikes: Tensor) -> np.ndarray:
    """Spikes of every time step and image, [T, B]."""
    return spikes.flatten(2).ne(0).sum(2).numpy()


def digest(spikes: Tensor) -> str:
    """sha256 of the spikes packed as bits."""
    return hashlib.sha256(np.packbits(spikes.ne(0).numpy().ravel()).tobytes()).hexdigest()


def weights(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """The state of the published model; `talking_heads.weight`, which it never uses, too."""
    width = shapes["head.weight"][1]
    return {key: _weight(key, tuple(shape), seed, width) for key, shape in shapes.items()}


def inputs(config: Mapping[str, Any]) -> Tensor:
    """Images of values k / 16 between -2 and 2, or frames of 0 to 4 events of which 85 % are empty."""
    batch, steps, channels, side, seed = (config[name] for name in ("batch", "T", "in_channels", "img", "seed"))
    if not config["seq"]:
        return _rounded(_uniform(seed, "__x__", (batch, channels, side, side), -2, 2), 1 / 16)
    shape = (batch, steps, channels, side, side)
    return (_uniform(seed, "__x__", shape, 0, 1) < 0.15) * torch.ceil(_uniform(seed, "__c__", shape, 0, 4))


def _weight(key: str, shape: tuple[int, ...], seed: int, width: int) -> Tensor:
    """One tensor of the state; the ranges keep the network neither silent nor saturated."""
    module, leaf = key.rsplit(".", 1)
    if leaf == "num_batches_tracked":
        return torch.tensor(1)
    if "bn" not in module:
        if leaf != "weight":
            return _rounded(_uniform(seed, key, shape, -0.2, 0.2), 1 / 64)
        reach = (12 / (int(np.prod(shape[1:])) or 1)) ** 0.5
        drawn = _uniform(seed, key, shape, -reach, reach)
        return drawn if module == "head" else _rounded(drawn, 1 / 256).clamp(-127 / 256, 127 / 256)
    narrow = "fc1_bn" in module
    residual = any(name in module for name in ("attn.proj_bn", "mlp.fc2_bn", "rpe_bn")) or (
        narrow and shape[0] == width
    )
    if leaf == "weight":
        low, high = (0.375, 0.9) if residual or narrow else (0.6, 1.5)
        return _rounded(_uniform(seed, key, shape, low, high), 1 / 8)
    if leaf == "bias":
        low, high = (-0.4, 0.5) if residual or narrow else (-0.1, 0.9)
        if "attn.k_bn" in module or "attn.v_bn" in module:
            low, high = -0.7, 0.3
        return _rounded(_uniform(seed, key, shape, low, high), 1 / 64) + (0.0 if residual else 2.0**-15)
    if leaf == "running_mean":
        return _rounded(_uniform(seed, key, shape, -0.2, 0.2), 1 / 64)
    variances = torch.tensor([exact_variance(target) for target in (0.25, 1.0, 1.0, 4.0)])
    return variances[_uniform(seed, key, shape, 0, 4).long().clamp(0, 3)]


def _uniform(seed: int, key: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    drawn = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())])).random(shape)
    return torch.from_numpy((low + (high - low) * drawn).astype(np.float32))


def _rounded(values: Tensor, step: float) -> Tensor:
    return torch.round(values / step) * step

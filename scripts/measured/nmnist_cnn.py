"""The N-MNIST CNN of the NIR paper, read through NIR into sinabs and run on recordings in bins of 1 ms."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import spikeattn as sa

SIDE, STEPS, BATCH = 34, 310, 10  # pixels; N-MNIST's recordings last 300 to 310 ms; images per forward pass
LEVELS = 1000  # most spikes of a neuron in one step; sinabs sets no limit, and a neuron has given 26
FIRST = (16, 16, 16)  # neurons of the first layer, whose spikes the repository holds


@dataclass(frozen=True)
class Result:
    """The run, and the mean number of spikes of the first layer by digit."""

    profile: sa.Profile
    first_layer: dict[int, float]


def run(graph: Path, data: Path) -> Result:
    """Profile the network on all test recordings."""
    import nir
    import sinabs.layers

    files = sorted((data / "events_np" / "test").glob("*/*.npz"))
    if not files:
        sys.exit(f"error: {data} holds no events_np/test/<class>/*.npz")
    net = Network(nir.read(graph), BATCH).eval()
    counted: dict[int, list[float]] = {digit: [] for digit in range(10)}
    labels: list[int] = []

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(files), BATCH):
            chosen = files[start : start + BATCH]
            labels[:] = [int(file.parent.name) for file in chosen]
            yield torch.stack([frames(file) for file in chosen]), torch.tensor(labels)

    profile = sa.profile(
        net, list(batches()), neurons=lambda m: isinstance(m, sinabs.layers.IAFSqueeze), layout="BT",
        time_steps=STEPS, levels=LEVELS, progress=False,
    )  # fmt: skip
    tensor = next(t.name for t in profile.ledger.tensors if t.maker == "neuron" and t.shape == FIRST)
    spikes = profile.counts.column("abs", tensor).sum(axis=1)
    for label, total in zip(profile.counts.rows["label"], spikes, strict=True):
        counted[int(label)].append(float(total))
    return Result(profile, {digit: float(np.mean(totals)) for digit, totals in counted.items() if totals})


class Network(nn.Module):
    """[B, T, 2, 34, 34] through the layers of the graph, which take [B * T, ...]; means over time out.

    A sum over 2 x 2 spikes and a layer behind it are one layer with its weights repeated, which gives the same sums: so
    each spike is counted at the weights that it meets, as on a chip that routes events, and not as part of a number.
    """

    def __init__(self, graph: Any, batch: int) -> None:
        from sinabs.nir import from_nir

        super().__init__()
        self.img_size, self.in_chans, self.num_classes = SIDE, 2, 10
        modules, following = from_nir(graph, batch_size=batch), dict(graph.edges)
        name, layers = following["input"], []
        while name != "output":
            layers.append(modules.get_submodule(name))
            name = following[name]
        self.layers = nn.Sequential(*folded(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import sinabs

        sinabs.set_batch_size(self.layers, len(x))  # its squeezed layers cannot know it
        sinabs.reset_states(self.layers)
        return self.layers(x.flatten(0, 1)).unflatten(0, (len(x), STEPS)).mean(1)


def folded(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers without pools that sum 2 x 2 elements: the layer behind each has its weights repeated."""
    result: list[nn.Module] = []
    pooled = False
    for layer in layers:
        if type(layer).__name__ == "SumPool2d":
            pooled = True
            continue
        if pooled and isinstance(layer, nn.Conv2d):
            layer, pooled = _wider_conv(layer), False
        elif pooled and isinstance(layer, nn.Linear):
            layer, pooled = _wider_linear(layer), False
        result.append(layer)
    return result


def _wider_conv(layer: nn.Conv2d) -> nn.Conv2d:
    kernel, stride, padding = (tuple(2 * n for n in each) for each in (layer.kernel_size, layer.stride, layer.padding))
    wide = nn.Conv2d(layer.in_channels, layer.out_channels, kernel, stride, padding)
    wide.weight.data = layer.weight.data.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wide.bias = layer.bias
    return wide


def _wider_linear(layer: nn.Linear) -> nn.Linear:
    channels = 8  # of the last convolution, whose maps are square and lie flat before this layer
    side = int((layer.in_features // channels) ** 0.5)
    weight = layer.weight.data.unflatten(1, (channels, side, side))
    wide = nn.Linear(4 * layer.in_features, layer.out_features)
    wide.weight.data = weight.repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(1)
    wide.bias = layer.bias
    return wide


def frames(path: Path) -> torch.Tensor:
    """Events of a recording, counted in bins of 1 ms by polarity and pixel: [T, 2, 34, 34]."""
    with np.load(path) as events:
        step = np.minimum((events["t"] - events["t"].min()) // 1000, STEPS - 1).astype(int)
        x, y, p = (events[name].astype(int) for name in "xyp")
    counts = np.zeros((STEPS, 2, SIDE, SIDE), dtype=np.float32)
    np.add.at(counts, (step, p, y, x), 1)
    return torch.from_numpy(counts)


def beside_chip(result: Result, speck: Path) -> list[dict[str, float]]:
    """Spikes of the first layer by digit, as the chip counted them and here."""
    chip = np.load(speck).sum(axis=(0, 2, 3, 4))
    return [
        {"digit": digit, "speck": float(chip[digit]), "ours": ours, "ratio": ours / float(chip[digit])}
        for digit, ours in sorted(result.first_layer.items())
    ]

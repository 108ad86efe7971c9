"""PilotNet (LIF) of lava-dl, replayed: its neurons give the spikes that were recorded, and its synapses are counted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import spikeattn as sa

# Printed by the benchmark notebook of lava-dl (tutorials/lava/lib/dl/netx/pilotnet_snn), per inference of 16 steps.
TOTAL_MJ, DYNAMIC_MJ = 1.661103, 1.093544
STEPS = 16  # tSample in network.net, reset_interval in the notebook
IMAGE = (3, 66, 200)
# Layers of network.net that hold weights, and the file with the spikes that each receives.
LAYERS = {
    "conv-0": (1, "input"), "conv-1": (2, "conv-0"), "conv-2": (3, "conv-1"), "conv-3": (4, "conv-2"),
    "conv-4": (5, "conv-3"), "fc-0": (7, "conv-4"), "fc-1": (8, "fc-0"), "fc-2": (9, "fc-1"), "fc-3": (10, "fc-2"),
}  # fmt: skip


class Recorded(nn.Module):
    """Neurons that give what was recorded, whatever they receive; [T, 1, ...]."""

    def __init__(self, spikes: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("spikes", torch.from_numpy(spikes).float()[:, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 0 + self.spikes).round()


class PilotNet(nn.Module):
    """The network with its own weights and recorded neurons; the image is a current into the neurons of its input."""

    def __init__(self, folder: Path) -> None:
        import h5py

        super().__init__()
        self.img_size, self.in_chans, self.num_classes = IMAGE[1:], IMAGE[0], 1
        with h5py.File(folder / "network.net", "r") as file:
            for place, (name, (number, received)) in enumerate(LAYERS.items()):
                # A layer receives the spikes of its input one step later, so each window starts a step after the last.
                self.add_module(f"{received}-spikes", Recorded(_recorded(folder / f"{received}.npy", place)))
                self.add_module(name, _layer(file[f"layer/{number}"]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.repeat(STEPS, 1, 1, 1, 1)
        for name, (_, received) in LAYERS.items():
            x = getattr(self, f"{received}-spikes")(x)
            if name == "fc-0":
                x = x.flatten(2)
            layer = getattr(self, name)
            x = layer(x) if x.dim() == 3 else layer(x.flatten(0, 1)).unflatten(0, (STEPS, -1))
        return x.mean(0)


def profile_of(folder: Path) -> tuple[sa.Profile, pd.DataFrame]:
    """The counted replay, and its layers: dense operations, SOPs, SOPs at non-zero weights, rate of the input."""
    for needed in ("network.net", *(f"{received}.npy" for _, received in LAYERS.values())):
        if not (folder / needed).is_file():
            sys.exit(f"error: {folder} lacks {needed}; give tests/lava/lib/dl/netx/gts/pilotnet_lif of lava-dl")
    net = PilotNet(folder).eval()
    profile = sa.profile(
        net, [torch.rand(1, *IMAGE)], neurons=lambda m: isinstance(m, Recorded), time_steps=STEPS, progress=False
    )
    rows = []
    for name, (_, received) in LAYERS.items():
        synapse, spikes = profile.ledger.synapse(name), getattr(net, f"{received}-spikes").spikes[:, 0]
        sops = float(profile.counts.fan(name).sum())
        rows.append(
            (name, synapse.dense_macs * STEPS, sops, _at_weights(getattr(net, name), spikes), spikes.mean().item())
        )
    columns = ["layer", "dense operations", "SOPs", "SOPs at weights that are not 0", "rate"]
    return profile, pd.DataFrame(rows, columns=columns)


def neurons(profile: sa.Profile) -> int:
    """Neurons of the network, those of its input among them; the one of its output does not spike."""
    return sum(tensor.elements for tensor in profile.ledger.tensors if tensor.maker == "neuron") + 1


def _recorded(path: Path, first: int) -> np.ndarray:
    """Spikes [T, ...] of the steps of one inference, axes (W, H, C, T) or (features, T) in the file."""
    spikes = np.load(path)[..., first : first + STEPS]
    return np.ascontiguousarray(spikes.transpose())  # [T, C, H, W]


def _layer(group) -> nn.Module:
    weight = torch.from_numpy(np.asarray(group["weight"])).float()
    if group["type"][0] == b"conv":
        stride, padding = tuple(map(int, group["stride"])), tuple(map(int, group["padding"]))
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), stride, padding, bias=False)
    else:
        outputs = int(np.ravel(group["outFeatures"])[0])
        weight = weight.reshape(outputs, -1)
        layer = nn.Linear(weight.shape[1], outputs, bias=False)
    layer.weight.data = weight
    return layer


def _at_weights(layer: nn.Module, spikes: torch.Tensor) -> float:
    """Additions of spikes [T, ...] at weights that are not 0."""
    weight = layer.weight.data
    x = spikes if isinstance(layer, nn.Conv2d) else spikes.flatten(1)
    with torch.no_grad():
        layer.weight.data = (weight != 0).float()
        total = layer(x).double().sum().item()
        layer.weight.data = weight
    return total

"""Small networks in training, with what every neuron fires kept beside them: the oracle of the metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

T = 4


class Net(nn.Module):
    """Two convolutions and a classifier over T steps; channel 0 of `lif` never fires, channel 1 always."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.lif = nn.Conv2d(1, 4, 3, padding=1), neuron.IFNode(step_mode="m")
        self.conv2, self.bn, self.lif2 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), neuron.IFNode(step_mode="m")
        self.head = nn.Linear(6 * 16, 3)
        with torch.no_grad():
            self.conv.bias[:2] = torch.tensor([-50.0, 50.0])

    def forward(self, x: Tensor) -> Tensor:  # [B, 1, 4, 4]
        return self.rest(self.first(x))

    def first(self, x: Tensor) -> Tensor:
        return self.lif(self.conv(x * 3).expand(T, -1, -1, -1, -1))

    def rest(self, a: Tensor) -> Tensor:
        current = self.bn(self.conv2(a.flatten(0, 1))).unflatten(0, (T, -1))
        return self.head(self.lif2(current).flatten(2)).mean(0)


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """What every neuron gives in the passes of the block, batch after batch, [T, B, ...]."""
    kept: dict[str, list[Tensor]] = defaultdict(list)
    handles = [
        module.register_forward_hook(lambda m, args, out, path=path: kept[path].append(out.detach().clone()))
        for path, module in model.named_modules()
        if isinstance(module, neuron.IFNode)
    ]
    yield kept
    for handle in handles:
        handle.remove()


def batches(*sizes: int, seed: int = 0) -> list[Tensor]:
    """Images of the network."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, 1, 4, 4, generator=generator) for size in sizes]

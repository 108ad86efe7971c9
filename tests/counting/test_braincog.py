"""BrainCog as its model zoo writes it: nothing to pass, exact against brute force; runs where it is installed."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from tests.counting.brute_force import pictures
from tests.counting.frameworks import STILL, Loop, T, sums_of


def braincog(kind: str, layer_by_layer: bool) -> nn.Module:
    """A network as in its model zoo: an encoder, modules of a convolution, a norm and a node, a mean over time."""
    node = getattr(pytest.importorskip("braincog.base.node.node"), kind)
    zoo = pytest.importorskip("braincog.model_zoo.base_module")
    options = {"step": T, "layer_by_layer": layer_by_layer}

    class Net(zoo.BaseModule):
        def __init__(self) -> None:
            super().__init__(encode_type="direct", **options)
            blocks = [zoo.BaseConvModule(2, 4, node=node, **options), nn.MaxPool2d(2)]
            self.feature = nn.Sequential(*blocks, zoo.BaseConvModule(4, 6, node=node, **options))
            self.fc = nn.Sequential(nn.Flatten(), nn.Linear(96, 8), node(**options), nn.Linear(8, 5))

        def forward(self, inputs: Tensor) -> Tensor:
            inputs = self.encoder(inputs)
            self.reset()
            if self.layer_by_layer:
                return self.fc(self.feature(inputs)).unflatten(0, (T, -1)).mean(0)
            return sum(self.fc(self.feature(inputs[step])) for step in range(self.step)) / self.step

    return Net()


@pytest.mark.parametrize("layer_by_layer", [False, True])
@pytest.mark.parametrize("kind", ["LIFNode", "PLIFNode", "IFNode"])
def test_braincog_on_images(kind: str, layer_by_layer: bool) -> None:
    sums_of(braincog(kind, layer_by_layer), pictures(3, 2, 8, 8), T, 2 * 4 * 9 * 64 * (T - 1))


@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_braincog_on_events(layer_by_layer: bool) -> None:
    sums_of(braincog("LIFNode", layer_by_layer), pictures(3, T, 2, 8, 8).clamp(0).round(), T)


def test_braincog_node_by_node() -> None:
    node = pytest.importorskip("braincog.base.node.node")
    sums_of(Loop(lambda width: node.LIFNode(), None), pictures(3, 6) * 2, T, STILL)

"""What neurons of any framework hold before a profile, they hold afterwards, also after an exception."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.counting.brute_force import pictures
from tests.counting.frameworks import Frames, Loop, rounded


class Broken(Exception):
    pass


def broken(model: nn.Module, images: Tensor) -> Tensor:
    model(images)
    raise Broken


def left_by(framework: str) -> tuple[nn.Module, Tensor]:
    """A network in which a pass has left membrane potentials, as training does, and images for it."""
    if framework == "snntorch":
        snntorch = pytest.importorskip("snntorch")
        model, images = Loop(lambda width: snntorch.RLeaky(0.5, linear_features=width, init_hidden=True), None), (3, 6)
    elif framework == "sinabs":
        layers = pytest.importorskip("sinabs.layers")
        model, images = Frames(nn.Sequential(nn.Linear(6, 8), layers.LIF(tau_mem=4.0), nn.Linear(8, 5))), (3, 7, 6)
    elif framework == "braincog":
        node = pytest.importorskip("braincog.base.node.node")
        model, images = Loop(lambda width: node.LIFNode(), None), (3, 6)
    else:
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        model, images = Loop(lambda width: neuron.LIFNode(), None), (3, 6)
    model = rounded(model)
    with torch.no_grad():
        model(pictures(4, *images[1:], seed=1))
    return model, pictures(*images)


def kept_by(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a module keeps beside its parameters."""
    held = {}
    for path, module in model.named_modules():
        for place in (vars(module), module._buffers, vars(module).get("_memories", {})):
            held |= {f"{path}.{name}": value for name, value in place.items() if isinstance(value, Tensor)}
    return held


@pytest.mark.parametrize("framework", ["snntorch", "sinabs", "braincog", "spikingjelly"])
def test_what_neurons_hold_is_put_back(framework: str) -> None:
    model, images = left_by(framework)
    before = {name: (value, value.clone()) for name, value in kept_by(model).items()}
    assert any(len(value) == 4 and value.any() for value, _ in before.values() if value.dim())
    sa.profile(model, [images[:2], images[2:]])
    for _ in range(2):
        after = kept_by(model)
        assert after.keys() == before.keys()
        assert all(after[name] is value and torch.equal(value, numbers) for name, (value, numbers) in before.items())
        with pytest.raises((Broken, sa.SpikeattnError)):
            sa.profile(model, [images], forward=broken)

"""Neurons and layers for the networks of tests, on whichever SpikingJelly is installed, or on none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from spikeattn.compat import lif, step_layers

try:
    from spikingjelly.activation_based import layer, neuron  # from 0.0.0.0.14 on
except ImportError:

    class Linear(nn.Linear):
        def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)  # torch's takes any number of axes

    class OwnIFNode(lif.BaseNode):
        def charge(self, x: Tensor, v: Tensor) -> Tensor:
            return v + x

    layer = SimpleNamespace(Conv2d=step_layers.Conv2d, BatchNorm2d=step_layers.BatchNorm2d, Linear=Linear)
    try:
        from spikingjelly.clock_driven import neuron as old

        def multi_step(cls: type) -> Any:
            def make(step_mode: str, **kwargs: Any) -> nn.Module:
                assert step_mode == "m"
                return cls(**kwargs)

            return make

        neuron = SimpleNamespace(IFNode=multi_step(old.MultiStepIFNode), LIFNode=multi_step(old.MultiStepLIFNode))
    except ImportError:
        neuron = SimpleNamespace(IFNode=OwnIFNode, LIFNode=lif.LIFNode)

__all__ = ["layer", "neuron"]

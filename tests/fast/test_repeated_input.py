"""The first convolution of a still image: once, and the same bits at every time step."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from spikeattn.fast import native, repeated_input
from spikeattn.fast.fused_neuron import is_identical
from spikeattn.fast.repeated_input import noting_repeats, run_once

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")


class Still(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.lif = layer.Conv2d(3, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m")
        self.second = layer.Conv2d(4, 4, 3, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.lif(self.first(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)) * 5))


def test_convolutions_of_a_repeated_image() -> None:
    model = Still().eval()
    for time_steps, expected in ((4, ["first"]), (1, []), (3, [])):
        with torch.no_grad(), noting_repeats(model, time_steps) as found:
            model(torch.randn(2, 3, 9, 9))
        functional.reset_net(model)
        assert found == expected
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_once_and_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = layer.Conv2d(3, 4, 3, padding=1, step_mode="m")
    kernel, frames = run_once(convolution, 4), []
    own = nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda self, x, *rest: frames.append(len(x)) or own(self, x, *rest))
    for batch in (2, 2, 3):
        x = torch.randn(batch, 3, 9, 9).expand(4, -1, -1, -1, -1).contiguous()
        made = kernel(x)
        assert made is not None and is_identical(made, convolution(x)) and made.shape == (4, batch, 4, 9, 9)
    assert frames == [2, 8, 8, 2, 8, 3, 12, 12]  # each size of batch is compared once
    x[1, 0, 0, 0, 0] += 1
    assert kernel(x) is None and kernel(x[:3]) is None and kernel(x[0]) is None
    flat = run_once(nn.Conv2d(3, 4, 3), 4)
    assert flat(torch.ones(8, 3, 9, 9)).shape == (8, 4, 7, 7) and flat(torch.ones(6, 3, 9, 9)) is None


@torch.no_grad()
def test_left_alone_where_fewer_images_give_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_input, "is_identical", lambda a, b: False)
    kernel = run_once(nn.Conv2d(3, 4, 3), 4)
    assert kernel(torch.ones(4, 3, 9, 9)) is None and kernel(torch.ones(4, 3, 9, 9)) is None

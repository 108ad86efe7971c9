"""The check that an image's counts come from it alone: what it finds, and how many passes it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.counting.probe import probed_plan
from spikeattn.tracing.examine import plan
from tests.counting.brute_force import exact, pictures


class Whispers(nn.Module):
    """Adds to every image what `hear` makes of a sum over each of them, through numbers that no trace can follow."""

    def __init__(self, hear: Callable[[list[float]], list[float]]) -> None:
        super().__init__()
        self.first, self.node, self.last = nn.Linear(6, 8), neuron.IFNode(step_mode="m"), nn.Linear(8, 3)
        self.hear = hear

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        heard = self.hear([float(row) for row in images @ torch.arange(6.0) / 16])
        x = x + torch.tensor(heard).unsqueeze(1)
        return self.last(self.node(x.repeat(4, 1, 1).unflatten(0, (4, -1)).flatten(1, 2))).mean(0)


MIXES = {
    "from the image before": lambda seen: [0.0, *seen[:-1]],
    "from the image behind": lambda seen: [*seen[1:], 0.0],
    "from all of them alike": lambda seen: [sum(seen) / len(seen)] * len(seen),
}


@pytest.mark.parametrize("way", MIXES)
@pytest.mark.parametrize("images", [1, 2, 5])
def test_what_an_image_hears_of_others_is_found_whichever_way_it_comes(way: str, images: int) -> None:
    net = exact(Whispers(MIXES[way]))
    shown = pictures(images, 6)
    with pytest.raises(sa.SpikeattnError, match="replacing one image of a batch changes the counts of another one"):
        sa.profile(net, [shown])


def passes_of(net: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor], images: Tensor) -> int:
    """Forward passes that the probe adds to the plan's."""
    calls: list[int] = []

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        calls.append(len(x))
        return forward(model, x)

    plan(net, images, forward=counted)
    alone = len(calls)
    probed_plan(net, images, counted)
    return len(calls) - 2 * alone


def test_two_passes_do_for_a_network_that_is_the_same_in_every_row() -> None:
    net = exact(Whispers(lambda seen: [0.0] * len(seen)))
    assert passes_of(net, lambda model, x: model(x), pictures(4, 6)) == 2


def test_rows_that_draw_other_random_numbers_take_four_more_passes_and_are_fine() -> None:
    def seeded(model: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return model(x + torch.rand(x.shape).round())  # an own draw for every row

    net = exact(Whispers(lambda seen: [0.0] * len(seen)))
    assert passes_of(net, seeded, pictures(4, 6)) == 6

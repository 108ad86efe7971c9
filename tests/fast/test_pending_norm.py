"""A batch norm that is put off: kernels take it along, and whoever else looks at its output sees the output itself."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.fast import native
from spikeattn.fast.fused_layers import NormLayer, layer_of
from spikeattn.fast.pending_norm import PendingNorm, put_off, ready
from spikeattn.models.calibrate import calibrate_batch_norm

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")
SHAPE = (4, 8, 60, 60)  # large enough to be put off


@pytest.fixture(autouse=True)
def _without_gradients() -> Any:
    with torch.no_grad():
        yield


def norms(shape: tuple[int, ...] = SHAPE) -> tuple[nn.Module, Callable[[Tensor], Any], Tensor]:
    """A batch norm, its kernel, and maps."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(shape[1]).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    kernel = layer_of(norm)
    assert isinstance(kernel, NormLayer)
    assert type(kernel(torch.randn(shape))) is Tensor  # nothing is put off before a trial
    kernel.norm.begin_trial(puts_off=True)
    return norm, kernel, torch.randn(shape)


def test_small_maps_are_put_off_in_the_trial_alone() -> None:
    norm, kernel, x = norms((1, 8, 5, 5))
    assert put_off(kernel(x))[1]
    kernel.norm.end_trial()
    assert type(kernel(x)) is Tensor and torch.equal(kernel(x), norm(x))
    assert put_off(kernel(torch.randn(SHAPE)))[1]


@pytest.mark.parametrize("use", [lambda y: None, lambda y: y.sum(), lambda y: (put_off(y), y.sum())])
def test_what_kernels_alone_have_not_read_in_the_trial_is_not_put_off(use: Callable[[Tensor], Any]) -> None:
    norm, kernel, x = norms()
    use(kernel(x))
    kernel.norm.end_trial()
    assert type(kernel(x)) is Tensor and torch.equal(kernel(x), norm(x))


def test_views_are_put_off_too_and_say_the_same() -> None:
    norm, kernel, x = norms()
    made, expected = kernel(x), norm(x)
    assert isinstance(made, PendingNorm) and put_off(made)[0] is x
    views: list[Callable[[Tensor], Tensor]] = [
        lambda y: y.view(2, 2, 8, 60, 60), lambda y: y.reshape(2, 2, 8, 3600).contiguous(), lambda y: y.flatten(2),
        lambda y: torch.flatten(y, 2).unsqueeze(0), lambda y: y.unflatten(0, (2, 2)),
    ]  # fmt: skip
    for view in views:
        off, its = view(made), view(expected)
        assert isinstance(off, PendingNorm) and put_off(off)[1]
        assert (off.shape, off.dtype, off.dim(), off.stride(), len(off)) == (
            its.shape, its.dtype, its.dim(), its.stride(), len(its),
        )  # fmt: skip
    for view in views:
        assert torch.equal(ready(view(made)), view(expected)) and type(ready(view(made))) is Tensor
    turned = kernel(x.clone()).transpose(1, 2)
    assert type(turned) is Tensor and torch.equal(turned, expected.transpose(1, 2))


@torch.jit.script
def scripted(y: Tensor) -> Tensor:
    return y * 2 + 1


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y * 2


@pytest.mark.parametrize(
    "use",
    [
        lambda y: y + 1,
        lambda y: 1 - y,
        lambda y: torch.relu(y),
        lambda y: F.max_pool2d(y, 2),
        lambda y: y[0],
        lambda y: y.mean((2, 3)),
        lambda y: torch.cat([y, y]),
        lambda y: y.permute(0, 2, 3, 1).reshape(-1),
        lambda y: y.add_(1),
        lambda y: y.view(-1).mul_(2).view(SHAPE) + y,
        lambda y: torch.zeros(SHAPE).copy_(y),
        lambda y: torch.from_numpy(y.numpy()),
        lambda y: torch.tensor(y.tolist()),
        lambda y: torch.as_tensor(y.sum().item()),
        lambda y: copy.deepcopy(y),
        lambda y: y.clone().detach().requires_grad_(),
        lambda y: torch.from_dlpack(y),
        lambda y: torch.stack(list(y)),
        lambda y: scripted(y),
        lambda y: Doubled.apply(y),
        lambda y: y.double() @ y.double().mT,
        lambda y: y.data + y,
        lambda y: torch.stack([y.amax(), y.min(), y.std()]),
        lambda y: nn.Conv2d(8, 2, 1, bias=False).requires_grad_(False)(y * 0 + y).sum() * 0 + y,
    ],
)
def test_whatever_is_done_with_it_is_done_with_the_output(use: Callable[[Tensor], Tensor]) -> None:
    norm, kernel, x = norms()
    made = kernel(x.clone())
    assert isinstance(made, PendingNorm)
    assert torch.equal(use(made), use(norm(x.clone())))


def test_a_write_is_seen_by_every_view_and_by_the_neuron() -> None:
    norm, kernel, x = norms()
    made = kernel(x)
    view = made.view(2, 2, 8, 60, 60)
    made.mul_(0)
    assert not view.any() and not put_off(view)[0].any() and put_off(view)[1] == 0
    assert torch.equal(kernel(x) + 0, norm(x))  # the next call is another one


class Odd(nn.Module):
    """A network that does something with what its batch norm gives, or was given, before a neuron reads it."""

    def __init__(self, use: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.spike, self.use = neuron.IFNode(step_mode="m"), use

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.norm(x)
        made = self.use(x, y)
        y = self.spike((y if made is None else made).unsqueeze(0))[0]
        return y.mean((2, 3)) + x.mean((2, 3))


def scale_data(x: Tensor, y: Tensor) -> None:
    y.data = y.data * 0.1


@pytest.mark.parametrize(
    "use",
    [
        lambda x, y: (x.zero_(), None)[1],
        lambda x, y: (x.data.zero_(), None)[1],
        lambda x, y: (x.relu_(), None)[1],
        scale_data,
        lambda x, y: y.view(torch.int32).bitwise_and(-16).view(torch.float32),
        lambda x, y: y if type(y) is Tensor else y * 0,
        lambda x, y: y.unsqueeze_(0)[0],
        lambda x, y: nn.Parameter(y, requires_grad=False),
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_whatever_a_network_does_it_is_counted_as_it_is(use: Callable[[Tensor, Tensor], Any], size: int) -> None:
    """Two images of the smaller size are below what is put off, a batch of them is not."""
    torch.manual_seed(0)
    net, batches = Odd(use).eval(), torch.randn(12, 3, size, size).split(6)
    plain, fused = (sa.profile(net, batches, plain=each) for each in (True, False))
    assert plain.rates().equals(fused.rates()) and fused.provenance["fused"]["neurons"] == 1


def test_hooks_keep_what_a_batch_norm_gave() -> None:
    torch.manual_seed(0)
    net, batches = Odd(lambda x, y: None).eval(), torch.randn(8, 3, 64, 64).split(4)
    kept: list[Tensor] = []
    net.norm.register_forward_hook(lambda module, args, output: kept.append(output))
    expected = sa.profile(net, batches, plain=True).rates()
    known, kept[:] = list(kept), []
    assert sa.profile(net, batches, plain=False).rates().equals(expected)
    assert all(type(each) is Tensor for each in kept) and torch.equal(kept[-1], known[-1])


def test_what_is_written_into_later_than_in_the_trial_is_said() -> None:
    """A path that the trial has not seen: no number is made of what is not there any more."""
    calls: list[int] = []

    def late(x: Tensor, y: Tensor) -> None:
        calls.append(len(x))
        if len(x) > 2:
            x.zero_()

    net, batches = Odd(late).eval(), torch.randn(8, 3, 64, 64).split(4)
    with pytest.raises(SpikeattnError, match="writes into what it has given a batch norm"):
        sa.profile(net, batches, plain=False)
    assert 2 in calls and 4 in calls


def test_nothing_is_kept_behind_it() -> None:
    _, kernel, x = norms()
    kernel(x).view(2, 2, 8, 60, 60)
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is PendingNorm]


class Net(nn.Module):
    """Batch norms in front of neurons, of pools, of a sum, and of both a neuron and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(layer.Conv2d(3, 16, 3, padding=1), layer.BatchNorm2d(16), neuron.LIFNode())
        self.pooled = nn.Sequential(
            layer.Conv2d(16, 16, 3, padding=1), layer.BatchNorm2d(16), layer.MaxPool2d(3, 2, 1), neuron.IFNode()
        )
        self.summed = nn.Sequential(layer.Conv2d(16, 16, 1), layer.BatchNorm2d(16))
        self.both = nn.Sequential(layer.Conv2d(16, 16, 3, padding=1), layer.BatchNorm2d(16))
        self.levels, self.last, self.end = neuron.ILIFNode(), neuron.LIFNode(v_reset=None), layer.Linear(16, 5)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pooled(self.first(x.unsqueeze(0).repeat(2, 1, 1, 1, 1)))
        x = self.summed(x) + x
        y = self.both(self.levels(x))
        return self.end((self.last(y) + y.flatten(3).unflatten(3, y.shape[3:])).flatten(3).mean(3)).mean(0)


def test_a_network_is_counted_to_the_same_numbers_and_hooks_see_the_output() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    images = torch.randn(7, 3, 64, 64)
    calibrate_batch_norm(net, images)
    batches = images.split(2)
    plain, fused = (sa.profile(net, batches, plain=each) for each in (True, False))
    assert fused.provenance["fused"] == {"neurons": 4, "layers": 6, "checked_images": 2, "identical": True}
    assert list(plain.counts.keys) == list(fused.counts.keys)
    for key in plain.counts.keys:
        assert (plain.counts.column(*key) == fused.counts.column(*key)).all(), key
    seen: list[float] = []
    net.both.register_forward_hook(lambda module, args, output: seen.append(output.mean().item()))
    sa.profile(net, batches, plain=True)
    known, seen[:] = list(seen), []
    sa.profile(net, batches, plain=False)
    assert seen[-4:] == known[-4:]

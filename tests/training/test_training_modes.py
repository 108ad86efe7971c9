"""`sa.FiringRate` under mixed precision, gradient checkpointing, torch.compile and several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import spikeattn as sa
from tests.training.networks import Net, batches, watched

ROOT = Path(__file__).parents[2]


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def test_under_autocast_spikes_are_counted_and_gradients_are_as_without() -> None:
    image = batches(6)[0]
    plain, net = Net().train(), Net().train()
    rate = sa.FiringRate(net)
    with torch.autocast("cpu", torch.bfloat16):
        plain(image).square().sum().backward()
        with rate, watched(net) as kept:
            net(image).square().sum().backward()
    assert kept["lif2"][-1].dtype == torch.bfloat16 or kept["lif2"][-1].dtype == torch.float32
    theirs, ours = gradients(plain), gradients(net)
    assert all(torch.equal(theirs[name], ours[name]) and ours[name].any() for name in ("conv2.weight", "head.weight"))
    channels = rate.epoch().channels()
    for path, spikes in kept.items():
        by_channel = spikes[-1].double().mean((0, 1, 3, 4))
        assert channels[channels["tensor"] == path]["nonzero_rate"].tolist() == pytest.approx(by_channel.tolist())


def test_half_precision_sums_of_many_images_are_exact() -> None:
    """bfloat16 holds whole numbers up to 256 alone."""
    from spikeattn.counting import sums

    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.bool):
        ones = torch.ones((4, 301, 3, 2), dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16):
            assert sums.count_by_neuron(ones).tolist() == [[1204.0] * 2] * 3


class Checkpointed(Net):
    """The second half is computed again in the backward pass; its neurons begin anew each time."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self._second, self.first(x), use_reentrant=self.reentrant)

    def _second(self, a: Tensor) -> Tensor:
        self.lif2.reset()
        return self.rest(a)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_what_checkpointing_computes_again_is_counted_once(reentrant: bool, whole: bool) -> None:
    """Both halves of the network apart, or all of it in one checkpoint around the call of the network."""
    image, times = batches(5)[0], list[bool]()
    expected, plain = sa.FiringRate(net := Net().train()), net
    with expected:
        plain(image).sum().backward()
    net = Net().train() if whole else Checkpointed().train()
    net.reentrant = reentrant
    net.lif2.register_forward_hook(lambda *call: times.append(torch._C._current_graph_task_id() != -1))

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(x)

    rate = sa.FiringRate(net)
    with rate:
        out = checkpoint(run, image.requires_grad_(), use_reentrant=reentrant) if whole else net(image)
        out.sum().backward()
    assert times[-1] is True  # it was computed again
    assert {k: float(v) for k, v in rate.compute().items()} == {k: float(v) for k, v in expected.compute().items()}
    assert rate.epoch().layers().equals(expected.epoch().layers()) and rate.epoch().n_images == 5


def test_a_compiled_network_is_counted_as_python_and_says_so() -> None:
    image = batches(5)[0]
    plain = sa.FiringRate(net := Net().eval())
    plain.update(image)
    for compile_it in (lambda net: torch.compile(net, backend="eager"), _in_place):
        net = Net().eval()
        compiled = compile_it(net)
        rate = sa.FiringRate(compiled)
        with rate, torch.no_grad():
            for _ in range(2):
                functional.reset_net(net)
                compiled(image)
        epoch = rate.epoch()
        assert epoch.n_images == 10
        assert [note.code for note in epoch.warnings] == ["compiled"]
        assert float(rate.compute()["mean_rate"]) == float(plain.compute()["mean_rate"])
        assert epoch.layers()["dead_neurons"].tolist() == plain.epoch().layers()["dead_neurons"].tolist()
    assert plain.epoch().warnings == ()


def _in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="eager")
    return net


RANK = """
import sys, os
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from spikingjelly.activation_based import functional
import spikeattn as sa
from tests.training.networks import Net, batches

rank, size, folder, case = int(sys.argv[1]), 2, sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
net = Net().eval()
model = DistributedDataParallel(net)
images = batches(3, 4, 2, 5)
own = images[rank::size] if case != "uneven" else (images if rank == 0 else [])
rate = sa.FiringRate(model)
with rate:
    for batch in own:
        if case == "even":
            model(batch).sum().backward()
        else:  # a backward pass would wait for the other rank's
            net(batch)
        functional.reset_net(model)
try:
    scalars = {name: float(value) for name, value in rate.compute().items()}
    again = rate.epoch()
    rate.log(f"{folder}/log.csv", 0)
    local = int(rate.image_total)
    torch.save((scalars, again.layers(), again.n_images, local), f"{folder}/{rank}.pt")
except sa.SpikeattnError as error:
    torch.save(str(error), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def _ranks(folder: Path, case: str) -> list[object]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(folder), case], env=environment, cwd=ROOT,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in running:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_two_ranks_of_ddp_are_merged(tmp_path: Path) -> None:
    rate = sa.FiringRate(net := Net().eval())
    with rate, torch.no_grad():
        for batch in batches(3, 4, 2, 5):
            net(batch)
            functional.reset_net(net)
    whole = {name: float(value) for name, value in rate.compute().items()}
    for (scalars, layers, images, local), own in zip(_ranks(tmp_path, "even"), (5, 9), strict=True):
        assert scalars == pytest.approx(whole) and images == 14 and local == own
        assert layers.equals(rate.epoch().layers())
    assert (tmp_path / "log.csv").read_text().count("\n") == 2


def test_a_rank_without_a_batch_is_an_error_on_every_rank(tmp_path: Path) -> None:
    assert all("rank 1 of 2 has counted no batch" in str(said) for said in _ranks(tmp_path, "uneven"))

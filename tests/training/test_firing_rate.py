"""`sa.FiringRate`: sums that give what `sa.profile` gives, and every neuron's spikes beside an oracle."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.counting.recorder import Recorder
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.examine import plan
from spikeattn.training import sum_layout
from tests.counting.networks import hooks_of
from tests.training.networks import Net, T, batches, watched


def trained(net: nn.Module, rate: sa.FiringRate, images: list[Tensor]) -> None:
    """A loop as a user writes it: the model is called as always, inside the block."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with rate:
        for batch in images:
            optimiser.zero_grad()
            net(batch).square().sum().backward()
            optimiser.step()
            functional.reset_net(net)


@pytest.mark.parametrize("training", [False, True])
def test_what_every_neuron_fires_is_counted_in_the_users_own_loop(training: bool) -> None:
    net = Net().train(training)
    before, rate = hooks_of(net), sa.FiringRate(net)
    with watched(net) as kept:
        trained(net, rate, batches(5, 3))
    fired = {path: torch.cat(spikes[-2:], 1) for path, spikes in kept.items()}  # the trace of the first batch before
    assert hooks_of(net) == before and net.training is training
    epoch = rate.epoch()
    assert epoch.n_images == 8
    layers, channels = epoch.layers().set_index("tensor"), epoch.channels().set_index("tensor")
    for path, spikes in fired.items():
        by_neuron = spikes.flatten(2).sum((0, 1))
        by_channel = spikes.sum((0, 1, 3, 4))
        row, own = layers.loc[path], channels.loc[path]
        assert row["neurons"] == len(by_neuron) and row["channels"] == len(by_channel) == len(own)
        assert row["dead_neurons"] == (by_neuron == 0).sum() and row["saturated_neurons"] == (by_neuron == 8 * T).sum()
        assert row["dead_channels"] == (by_channel == 0).sum()
        assert own["nonzero_rate"].tolist() == pytest.approx((by_channel / (8 * T * 16)).tolist())
    assert layers.loc["lif", "dead_channels"] == 1 and layers.loc["lif", "saturated_channels"] == 1
    assert channels.loc["lif", "dead"].tolist() == [True, False, False, False]
    assert channels.loc["lif", "saturated"].tolist() == [False, True, False, False]
    total = sum(spikes.sum() for spikes in fired.values())
    neurons = sum(spikes[0, 0].numel() for spikes in fired.values())
    scalars = rate.compute()
    assert float(scalars["mean_rate"]) == pytest.approx(float(total / (8 * T * neurons)))
    assert float(scalars["dead_channel_share"]) == layers["dead_channels"].sum() / 10
    assert float(scalars["dead_neuron_share"]) == layers["dead_neurons"].sum() / 160


def test_rates_operations_and_energy_are_those_of_profile() -> None:
    net, images = Net().eval(), batches(6, 6, 2)
    rate = sa.FiringRate(net, per_layer=True)
    with rate, torch.no_grad():
        for batch in images:
            net(batch)
            functional.reset_net(net)
    epoch, profile = rate.epoch(), sa.profile(net, images)
    theirs = pd.DataFrame(profile.rates()).drop(columns=["ci_low", "ci_high", "interval"])
    pd.testing.assert_frame_equal(theirs, epoch.rates())
    totals = profile.operations().set_index("synapse")
    own = epoch.operations().groupby("synapse")[["sops", "macs", "acs"]].sum()
    for name in ("conv", "conv2", "head"):
        for column in ("sops", "macs", "acs"):
            assert own.loc[name, column] == pytest.approx(totals.loc[name, column] / 14)
    for convention in ("exact", "spikformer"):
        ours, whole = epoch.energy(convention=convention), profile.energy(convention=convention)
        assert ours["part"].tolist() == whole["part"].tolist()
        assert ours["energy_mj"].tolist() == pytest.approx(whole["energy_mj"].tolist())
    scalars, summary = rate.compute(), profile.summary()
    for name in ("mean_rate", "sops_per_image", "macs_per_image", "energy_mj"):
        assert float(scalars[name]) == pytest.approx(summary[name]) and summary[name] > 0
    assert float(scalars["sops_per_image/conv2"]) == pytest.approx(totals.loc["conv2", "sops_per_image"])
    assert 0 < float(scalars["mean_rate/lif"]) < 1 and float(scalars["dead_channel_share/lif"]) == 0.25


def test_memory_is_flat_and_reset_begins_again() -> None:
    net = Net().eval()
    rate = sa.FiringRate(net)
    sizes = []
    with rate, torch.no_grad():
        for number in range(4):
            for batch in batches(4, 4, 1):
                net(batch)
                functional.reset_net(net)
            sizes.append(sum(getattr(rate, name).numel() for name in rate._defaults))
            if number == 1:
                rate.reset()
                with pytest.raises(SpikeattnError, match="no pass has been counted"):
                    rate.compute()
    assert len(set(sizes)) == 1 and rate.epoch().n_images == 18
    assert rate._following._passes.sizes == []


def test_update_runs_a_pass_of_its_own_that_leaves_no_trace() -> None:
    net, (first, second) = Net().train(), batches(5, 3)
    rate = sa.FiringRate(net)
    net(second)
    membrane, state, random = net.lif.v.clone(), copy.deepcopy(net.state_dict()), torch.get_rng_state()
    rate.update(first)
    assert torch.equal(net.lif.v, membrane) and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    one = rate.compute()
    value = rate(second)  # of this batch alone, added to the others
    assert rate.epoch().n_images == 8 and float(value["n_images"]) == 3
    rate.reset()
    rate.update(second)
    assert float(rate.compute()["mean_rate"]) == float(value["mean_rate"]) != float(one["mean_rate"])


def test_a_single_image_that_is_counted_beside_itself_is_counted_once() -> None:
    """As `Recording` does where torch runs other operations on one image than on several."""
    net, image = Net().eval(), batches(1)[0]
    made = plan(net, torch.cat([image, image]))
    with Recorder(net, made) as recorder, torch.no_grad(), watched(net) as kept:
        recorder.apart = ("lif",)
        with recorder.watching(2, kept=1) as tally:
            sent = tally.send(net(torch.cat([image, image])))
    spikes = kept["lif"][-1][:, :1]
    assert torch.equal(sent.by_neuron["lif"], spikes.sum((0, 1))) and spikes.any()
    assert sent.result().counts["nnz", "lif"].sum() == spikes.sum()


def test_beyond_the_limit_layers_are_counted_by_channel_and_say_so(monkeypatch) -> None:
    net = Net().eval()
    plain = sa.FiringRate(net)
    plain.update(batches(4)[0])
    monkeypatch.setattr(sum_layout.layers_of, "__defaults__", (70,))  # lif has 64 neurons, lif2 96
    rate = sa.FiringRate(net)
    rate.update(batches(4)[0])
    table = rate.epoch().layers().set_index("tensor")
    assert table["dead_neurons"].isna().tolist() == [False, True] and "dead_neuron_share" not in rate.compute()
    pd.testing.assert_frame_equal(rate.epoch().channels(), plain.epoch().channels())


def test_copies_have_sums_of_their_own_and_the_network_of_the_original() -> None:
    net = Net().eval()
    rate = sa.FiringRate(net)
    rate.update(batches(4)[0])
    twin = rate.clone()
    twin.update(batches(4, seed=1)[0])
    assert twin.network is net and (twin.epoch().n_images, rate.epoch().n_images) == (8, 4)
    both = copy.deepcopy(nn.ModuleDict({"net": net})), copy.deepcopy([net, rate])
    assert both[1][1].network is both[1][0] is not net


class Holder(nn.Module):
    """What a LightningModule is: a network with its metrics beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()


def test_reset_net_of_what_holds_both_empties_neurons_alone() -> None:
    holder = Holder()
    holder.rate = sa.FiringRate(holder.net)
    with holder.rate, torch.no_grad():
        for batch in batches(3, 3):
            holder.net(batch)
            functional.reset_net(holder)
    assert holder.rate.epoch().n_images == 6
    holder.rate.reset()
    with pytest.raises(SpikeattnError, match="no pass has been counted"):
        holder.rate.epoch()
    whole = nn.Sequential(Net())
    whole.rate = sa.FiringRate(whole)
    if isinstance(whole.rate, nn.Module):
        with pytest.raises(SpikeattnError, match="is a part of the Sequential that it follows"), whole.rate:
            pass


def test_what_it_is_not_for_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SpikeattnError, match="no spiking neurons"):
        sa.FiringRate(nn.Linear(3, 3))
    with pytest.raises(SpikeattnError, match="unknown convention"):
        sa.FiringRate(Net(), convention="exactly")
    with pytest.raises(SpikeattnError, match="per_layer is 1; give True or False"):
        sa.FiringRate(Net(), per_layer=1)
    net = Net().eval()
    rate = sa.FiringRate(net)
    with pytest.raises(SpikeattnError, match="no pass has been counted yet: call the network inside"):
        rate.compute()
    with rate:
        with pytest.raises(SpikeattnError, match="follows its network already"), rate:
            pass
        with pytest.raises(SpikeattnError, match="is being recorded already"), sa.record(net):
            pass
        net(batches(2)[0])
        with pytest.raises(SpikeattnError, match="reset_net"):
            net(batches(2)[0])

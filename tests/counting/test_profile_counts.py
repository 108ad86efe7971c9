"""The main promise: counts equal brute force and SpikingJelly's counter, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import spikeattn as sa
from tests.counting.networks import Levels, Signs, Steps, batches, foreign, observe, tiny_sdt
from tests.models import sdt_parity
from tests.models.sdt_oracle import exact_input


def synops(model: nn.Module, images: Tensor, call) -> int:
    counter = SynOpCounter()
    functional.reset_net(model)
    with torch.no_grad(), DispatchCounterMode([counter]):
        call(model, images)
    functional.reset_net(model)
    return counter.get_total()


def dense_macs(model: nn.Module, images: Tensor, call) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(model, images)
    functional.reset_net(model)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"time_steps": 1},
        {"time_steps": 10, "depth": 1},
        {"dvs": True, "in_chans": 2, "time_steps": 3},
        {"tet": True, "mlp_ratio": 1.0},
        {"spike_mode": "plif", "pooling_stat": "0111"},
    ],
    ids=["plain", "T1", "T10", "dvs", "tet", "plif"],
)
def test_every_tensor_equals_a_brute_force_count(changes: dict) -> None:
    model = tiny_sdt(**changes)
    T = model.time_steps
    images = exact_input(5, T, 2, 16, 16).round().abs() if model.in_chans == 2 else exact_input(5, 3, 16, 16)
    profile = sa.profile(model, batches(images, 2))
    seen = observe(model, images)
    assert {t.name for t in profile.ledger.tensors} >= set(model.paper_names()) & set(seen) - {
        name for name in seen if name.endswith("conv") or name == "head" or "conv" in name.rpartition(".")[2]
    } - {"patch_embed.maxpool3"}
    for tensor in profile.ledger.tensors:
        if tensor.name == "input":
            frames = images if images.dim() == 5 else images.unsqueeze(1).expand(-1, T, -1, -1, -1)
            expected = frames.flatten(2).ne(0).sum(-1).numpy()
        else:
            expected = seen[tensor.name].flatten(2).ne(0).sum(-1).T.numpy()
        assert np.array_equal(profile.counts.column("nnz", tensor.name), expected), tensor.name


def test_sops_and_dense_macs_of_the_sdt_equal_independent_counters() -> None:
    model = tiny_sdt()
    images = exact_input(5, 3, 16, 16)
    operations = sa.profile(model, batches(images, 2)).operations()

    def call(model, images):
        return model(images)

    assert operations["sops"].sum() == synops(model, images, call) > 0
    assert operations["dense_macs"].sum() * model.time_steps * 5 == dense_macs(model, images, call)


@pytest.mark.parametrize("name", ["sdt", "spikformer", "sew-AND-m", "sew-IAND-m"])
def test_spikingjellys_own_networks_without_touching_them(name: str) -> None:
    model, call = foreign(name)
    hooks = {n: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for n, m in model.named_modules()}
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = exact_input(3, 3, 32, 32)
    profile = sa.profile(model, batches(images, 3), forward=call)
    operations = profile.operations().dropna(subset=["sops", "input_tensor"])
    kinds = {t.name: t.kind for t in profile.ledger.tensors}
    binary = operations["input_tensor"].map(lambda names: all(kinds[n] == "binary" for n in names.split(", ")))
    # The second matrix product of an SSA has an integer operand; SpikingJelly counts it by its binary one, as here.
    mixed = operations["input_tensor"].str.contains(", ")
    assert operations.loc[binary | mixed, "sops"].sum() == synops(model, images, call) > 0
    dense = sum(s.dense_macs * (4 if s.every_step else 1) for s in profile.ledger.synapses)
    dense += sum(p.elements * 4 for p in profile.ledger.products if p.op == "matmul")
    assert dense * 3 == dense_macs(model, images, call)
    assert {n: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for n, m in model.named_modules()} == hooks
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_matrix_products_count_the_pairs_of_their_own_operands() -> None:
    """q, k and v are parts of one tensor, so a mix-up would go unnoticed in a sum."""
    model, call = foreign("spikformer")
    images = exact_input(3, 3, 32, 32)
    sops = sa.profile(model, batches(images, 2), forward=call).operations().set_index("synapse")["sops"]
    for block in range(2):
        qkv = observe(model, images)[f"blocks.{block}.attn.qkv_lif"].unflatten(2, (3, 4, -1))  # [T, B, 3, heads, d, N]
        q, k, v = qkv.unbind(2)
        assert sops[f"blocks.{block}.attn.bmm_0"] == (v @ k.transpose(-2, -1)).sum().item() > 0
        assert sops[f"blocks.{block}.attn.bmm_1"] == q.sum().item() * q.shape[-2] > 0


@pytest.mark.parametrize("mode", ["m", "s"])
def test_integer_sums_of_spikes_count_by_value(mode: str) -> None:
    """SEW-ADD adds spikes, which SpikingJelly's counter takes for dense MACs: brute force is the oracle here."""
    model, call = foreign(f"sew-ADD-{mode}")
    images = exact_input(2, 3, 32, 32)
    profile = sa.profile(model, batches(images, 2), forward=call)
    assert {t.kind for t in profile.ledger.tensors} == {"real", "integer", "binary"}
    received: dict[str, list[Tensor]] = {}
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and n != "conv1"}
    handles = [
        m.register_forward_pre_hook(lambda m, a, n=n: received.setdefault(n, []).append(a[0].detach().clone()))
        for n, m in convs.items()
    ]
    functional.reset_net(model)
    with torch.no_grad():
        call(model, images)
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    sops = profile.operations().set_index("synapse")["sops"]
    for name, conv in convs.items():
        x = torch.cat([part.flatten(0, -4) for part in received[name]]).double()
        ones = torch.ones_like(conv.weight, dtype=torch.float64)
        assert sops[name] == torch.nn.functional.conv2d(x, ones, None, conv.stride, conv.padding).sum().item(), name


@pytest.mark.parametrize(("spiking", "kind"), [(Signs(step_mode="m"), "ternary"), (Steps(step_mode="m"), "integer")])
def test_ternary_and_integer_neurons(spiking: nn.Module, kind: str) -> None:
    torch.manual_seed(1)
    model = Levels(spiking).eval()
    images = torch.randn(4, 1, 8, 8)
    profile = sa.profile(model, batches(images, 3))
    assert profile.ledger.tensor("spiking").kind == kind
    out = observe(model, images)["spiking"].double()  # [T, B, C, H, W]
    assert np.array_equal(profile.counts.column("nnz", "spiking"), out.ne(0).flatten(2).sum(-1).T.numpy())
    assert np.array_equal(profile.counts.column("abs", "spiking"), out.abs().flatten(2).sum(-1).T.long().numpy())
    ones = torch.ones(6, 4, 3, 3, dtype=torch.float64)
    for by, values in (("abs", out.abs()), ("nnz", out.ne(0).double())):
        expected = torch.nn.functional.conv2d(values.flatten(0, 1), ones, None, 2, 1).sum((1, 2, 3)).view(4, 4).T
        assert np.array_equal(profile.counts.fan("conv2", by=by), expected.numpy())
    rates = profile.rates().set_index(["tensor", "t"]).loc[("spiking", "mean")]
    assert rates["nonzero_rate"] == pytest.approx(out.ne(0).double().mean().item())
    assert rates["mean_rate"] == pytest.approx(out.abs().mean().item())


def test_the_batch_does_not_matter_where_sums_are_exact() -> None:
    model = tiny_sdt(depth=1)
    images = exact_input(103, 3, 16, 16)
    tables = [sa.profile(model, batches(images, size)).counts for size in (1, 7, 32, 103)]
    names = [c for c in tables[0].columns if c != "id"]
    reference = tables[0]._read(names)
    assert len(names) > 50 and tables[0].n_images == 103
    for other in tables[1:]:
        assert other._read(names).equals(reference)


@pytest.mark.parametrize("config", sdt_parity.CONFIGS)
def test_rates_of_the_parity_references_to_the_last_digit(config: str) -> None:
    reference = sdt_parity.read(config)
    profile = sa.profile(reference.model(), batches(reference.images(), 2))
    hooks = {t.hook: t for t in profile.ledger.tensors if t.hook}
    assert hooks.keys() == reference.counts.keys()
    rates = profile.rates().set_index(["tensor", "t"])["nonzero_rate"]
    for hook, tensor in hooks.items():
        counts = reference.counts[hook]
        assert np.array_equal(profile.counts.column("nnz", tensor.name).T, counts), hook
        assert tensor.elements == reference.elements[hook]
        for t, spikes in enumerate(counts, 1):
            assert rates[tensor.name, t] == pytest.approx(spikes.mean() / tensor.elements, rel=1e-14), hook


def test_accuracy_and_rate_after_each_step() -> None:
    model = tiny_sdt(time_steps=6)
    images = exact_input(9, 3, 16, 16)
    profile = sa.profile(model, batches(images, 4))
    logits = observe(model, images)["head"]  # [T, B, K]
    labels = torch.arange(9) % 10
    table = profile.over_time()
    for t in range(1, 7):
        right = (logits[:t].mean(0).argmax(-1) == labels).double().mean().item()
        assert table["accuracy"][t - 1] == pytest.approx(right)
    neurons = {n: out for n, out in observe(model, images).items() if n.endswith(("_lif", "lif1", "lif2", "lif3"))}
    spikes = sum(out[:2].sum().item() for out in neurons.values())
    assert table["mean_rate"][1] == pytest.approx(spikes / sum(out[:2].numel() for out in neurons.values()))

"""The Spike-driven Transformer: parity with the published model and an oracle, names, entry points, training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from spikingjelly.activation_based import functional
from timm.data import resolve_data_config
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.models import SpikeDrivenTransformer, create_model, model_names
from tests.models import sdt_oracle, sdt_parity

TINY = {"img_size": 16, "num_classes": 5, "embed_dim": 32, "depth": 2, "num_heads": 4, "pooling_stat": "0011"}
PUBLISHED_MILLIONS = {
    "sdt_8_384": 16.81,
    "sdt_6_512": 23.37,
    "sdt_8_512": 29.68,
    "sdt_10_512": 36.01,
    "sdt_8_768": 66.34,
}


def observed(model: SpikeDrivenTransformer, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and every output seen by a forward hook on a named module, in the order of the forward pass."""
    seen: dict[str, Tensor] = {}

    def tap(path: str):
        return lambda module, args, output: seen.__setitem__(path, output)

    handles = [model.get_submodule(path).register_forward_hook(tap(path)) for path in model.paper_names()]
    functional.reset_net(model)
    with torch.no_grad():
        logits = model(x)
    for handle in handles:
        handle.remove()
    return logits, seen


def check_published_spikes(config: str, device: str) -> None:
    """Every spike and the logits of one reference configuration."""
    reference = sdt_parity.read(config)
    logits, seen = sdt_parity.run(reference.model(device), reference.images())
    torch.testing.assert_close(logits, reference.logits, rtol=0, atol=1e-5)
    assert seen.keys() == reference.counts.keys()
    for hook, spikes in seen.items():
        assert np.array_equal(sdt_parity.counts_of(spikes), reference.counts[hook]), hook
        assert sdt_parity.digest(spikes) == reference.digests[hook], hook
    if reference.spikes is not None:
        ours = np.concatenate([seen[hook].ne(0).numpy().ravel() for hook in reference.counts])
        assert np.array_equal(ours, reference.spikes)


@pytest.mark.parametrize("config", sdt_parity.CONFIGS)
def test_spikes_equal_those_of_the_published_model(config: str) -> None:
    check_published_spikes(config, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_spikes_on_a_gpu_equal_those_of_the_published_model() -> None:
    for config in sdt_parity.CONFIGS:
        check_published_spikes(config, "cuda")


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({}, False),
        ({"mlp_ratio": 1, "time_steps": 3}, False),
        ({"time_steps": 1, "pooling_stat": "1000", "img_size": (12, 20)}, False),
        ({"time_steps": 5, "in_chans": 2, "num_heads": 1}, True),
        ({"time_steps": 5, "in_chans": 2, "dvs": True, "tet": True, "pooling_stat": "0101"}, True),
        ({"dvs": True, "num_heads": 16, "mlp_ratio": 1, "img_size": 15}, False),
        ({"spike_mode": "plif", "mlp_ratio": 2.5, "pooling_stat": "1110"}, False),
    ],
)
def test_spikes_equal_those_of_an_independent_oracle(changes: dict, frames: bool) -> None:
    model = SpikeDrivenTransformer(**(TINY | changes)).eval()
    sdt_oracle.exact_weights(model)
    steps = (model.time_steps,) if frames else ()
    x = sdt_oracle.exact_input(3, *steps, model.in_chans, *model.img_size)
    logits, seen = observed(model, x)
    expected, spikes = sdt_oracle.forward(model.state_dict(), x, model.config)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    hooks = {name.hook: seen[path] for path, name in model.paper_names().items() if name.hook}
    assert hooks.keys() == spikes.keys()
    for hook, tensor in spikes.items():
        assert torch.equal(hooks[hook].flatten(2).sum(2), tensor.flatten(2).sum(2)), hook
        if hooks[hook].shape == tensor.shape:
            assert torch.equal(hooks[hook], tensor), hook
    busy = [hook for hook, tensor in spikes.items() if 0 < tensor.mean() < 1]
    assert len(busy) > 0.8 * len(spikes), "the comparison needs nets that are neither silent nor saturated"


def test_every_step_is_seen_by_a_hook_in_the_order_of_the_forward_pass() -> None:
    model = SpikeDrivenTransformer(**TINY, dvs=True, in_chans=2).eval()
    sdt_oracle.exact_weights(model)
    _, seen = observed(model, sdt_oracle.exact_input(2, 2, 16, 16))
    expected = list(model.paper_names())
    assert list(seen) == expected
    assert all(tensor.shape[:2] == (4, 2) for tensor in seen.values())
    attn = {path.rpartition(".")[2]: tensor for path, tensor in seen.items() if path.startswith("block.1.attn.")}
    assert torch.equal(attn["kv_mask"], attn["k_pool"] * attn["v_pool"])
    assert attn["sdsa_out"].sum() > (attn["q_lif"] * attn["talking_heads_lif"]).sum(), "Erode adds spikes"
    assert attn["talking_heads_lif"].shape == (4, 2, 32, 1, 1)


def test_paper_names_tell_the_paper_from_the_code() -> None:
    names = SpikeDrivenTransformer(**TINY).paper_names()
    assert names["block.1.attn.q_lif"].role == "V_S" and names["block.1.attn.k_lif"].role == "Q_S"
    assert names["block.1.attn.k_lif"].hook == "MS_SSA_Conv1_k_lif" and names["block.1.attn.k_lif"].block == 1
    assert names["patch_embed.proj_lif3"].role == "Conv4" and "patch_embed.maxpool" not in names
    assert (
        names["head_lif"].part == names["head"].part == "head" and names["block.0.attn.proj_conv"].part == "projection"
    )
    eroded = SpikeDrivenTransformer(**TINY, dvs=True).paper_names()
    assert eroded["block.0.attn.k_lif"].hook is None and eroded["block.0.attn.k_pool"].hook == "MS_SSA_Conv0_k_lif"


def test_entry_points_have_the_published_sizes() -> None:
    for name, millions in PUBLISHED_MILLIONS.items():
        with torch.device("meta"):
            model = timm.create_model(name)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_entry_points_have_the_published_arguments(references: Path) -> None:
    with (references / "published" / "published_configs.csv").open() as file:
        rows = list(csv.DictReader(file))
    ours = {"sdt_digits", "sdt_digits_events", "sdt_digits_scenes", "sdt_nmnist"}
    assert {row["entry"] for row in rows} | ours == set(model_names())
    for row in rows:
        with torch.device("meta"):
            model = timm.create_model(row["entry"])
        for key in ("depth", "embed_dim", "num_heads", "mlp_ratio", "img_size", "in_chans", "num_classes"):
            assert model.config[key] == int(row[key]), (row["entry"], key)
        assert str(model.config["time_steps"]) in row["time_steps"].split(" or ")
        assert model.config["pooling_stat"] == row["pooling_stat"]
        assert model.config["dvs"] == (row["dvs_erode"] == "yes") and model.config["tet"] == (row["tet"] == "yes")
        assert resolve_data_config({}, model=model)["crop_pct"] == float(row["crop_pct"])


def test_timm_overrides_reach_the_model_and_its_data_config() -> None:
    model = timm.create_model(
        "sdt_2_256", pretrained=False, time_steps=2, num_classes=100, embed_dim=64, spike_mode="plif"
    )
    assert (model.time_steps, model.num_classes, model.config["embed_dim"]) == (2, 100, 64)
    assert resolve_data_config({}, model=model)["mean"] == (0.5071, 0.4867, 0.4408), "100 classes are CIFAR-100"
    assert resolve_data_config({}, model=create_model("sdt_digits"))["input_size"] == (1, 16, 16)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.parametrize("spike_mode", ["lif", "plif"])
def test_one_training_step_moves_every_parameter_that_acts(spike_mode: str) -> None:
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(**TINY, spike_mode=spike_mode, tet=True).train()
    logits = model(torch.randn(8, 3, 16, 16))
    assert logits.shape == (4, 8, 5)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(8).remainder(5).repeat(4))
    loss.backward()
    unused = {"talking_heads.weight", "attn_lif.w", "rpe_lif.w"}
    for key, parameter in model.named_parameters():
        if any(key.endswith(name) and "." + name in key for name in unused):
            assert parameter.grad is None and not parameter.requires_grad, key
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    moved = sum(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.requires_grad)
    assert moved > 0.95 * sum(p.requires_grad for p in model.parameters())


def test_published_plif_names_are_all_there() -> None:
    lif, plif = (set(SpikeDrivenTransformer(**TINY, spike_mode=mode).state_dict()) for mode in ("lif", "plif"))
    neurons = [
        "patch_embed.proj_lif",
        "patch_embed.rpe_lif",
        "block.0.attn.attn_lif",
        "block.1.mlp.fc2_lif",
        "head_lif",
    ]
    assert {f"{neuron}.w" for neuron in neurons} <= plif - lif
    assert len(plif - lif) == 5 + 2 * 8 + 1  # patch splitting, blocks, head: every neuron of the published modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 100}, "embed_dim=100: give a multiple of 8 .* such as 104"),
        ({"num_heads": 5}, "num_heads=5: give a divisor of embed_dim=32, one of 1, 2, 4, 8, 16, 32"),
        ({"pooling_stat": "11"}, "pooling_stat='11': give four characters"),
        ({"pooling_stat": 1111}, "pooling_stat=1111: give four characters"),
        ({"time_steps": 0}, "time_steps=0: give a whole number of at least 1"),
        ({"depth": True}, "depth=True: give a whole number"),
        ({"img_size": (16, 0)}, r"img_size=\(16, 0\): give a number of pixels"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio=nan: give a positive number"),
        ({"spike_mode": "if"}, "spike_mode='if': valid are 'lif'"),
        ({"dvs": "yes"}, "dvs='yes': give True or False"),
    ],
)
def test_arguments_that_cannot_work_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(SpikeattnError, match=message):
        SpikeDrivenTransformer(**(TINY | arguments))


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 1, 16, 16),
        torch.zeros(2, 3, 8, 8),
        torch.zeros(2, 7, 3, 16, 16),
        torch.zeros(3, 16, 16),
        torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 3, 16, 16, dtype=torch.float64),
        [[0.0]],
    ],
)
def test_inputs_of_another_shape_or_type_are_refused(x: object) -> None:
    with pytest.raises(SpikeattnError, match=r"it takes images \[B, 3, 16, 16\] or frames \[B, 4, 3, 16, 16\]"):
        SpikeDrivenTransformer(**TINY)(x)


def test_unknown_names_are_answered_with_the_closest() -> None:
    with pytest.raises(SpikeattnError, match="unknown model 'sdt_8512': did you mean 'sdt_8_512'"):
        create_model("sdt_8512")
    with pytest.raises(SpikeattnError, match="unknown model argument 'timesteps': did you mean 'time_steps'"):
        create_model("sdt_digits", timesteps=1)

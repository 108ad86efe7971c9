"""ANN twins: the same layers as the spiking model, softmax attention that is what it says, operations as counted."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_data_config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.twins import ann_macs, measure_gamma
from spikeattn.errors import SpikeattnError
from spikeattn.models import AnnTransformer, SpikeDrivenTransformer, create_model, model_names, twin_names, twin_of
from spikeattn.tracing.examine import ledger_of

TINY = {"img_size": 16, "num_classes": 5, "embed_dim": 32, "depth": 2, "num_heads": 4, "pooling_stat": "0011"}
MILLIONS = {"ann_8_384": 16.81, "ann_6_512": 23.37, "ann_8_512": 29.68, "ann_10_512": 36.01, "ann_8_768": 66.34}
TOKENS = {"ann_8_512": 196, "ann_2_256": 64, "ann_digits": 64}


def built(name: str, **kwargs) -> AnnTransformer:
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def oracle(state: dict[str, Tensor], x: Tensor, pooling: str, depth: int, heads: int) -> Tensor:
    """The eval forward pass from a state dict alone, attention as explicit sums over heads."""

    def layer(x: Tensor, conv: str, bn: str) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, state.get(f"{conv}.bias"), padding=weight.shape[-1] // 2)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{bn}.{key}"] for key in keys))

    for i, pool in zip(("", "1", "2", "3"), pooling, strict=True):
        x = layer(x, f"patch_embed.proj_conv{i}", f"patch_embed.proj_bn{i}")
        if i != "3":
            x = x.relu()
        x = F.max_pool2d(x, 3, 2, 1) if pool == "1" else x
    x = x + layer(x.relu(), "patch_embed.rpe_conv", "patch_embed.rpe_bn")
    for b in range(depth):
        attn, mlp = f"block.{b}.attn.", f"block.{b}.mlp."
        q, k, v = (layer(x.relu(), f"{attn}{n}_conv", f"{attn}{n}_bn").flatten(2) for n in "qkv")
        d = q.shape[1] // heads
        mixed = torch.empty_like(v)
        for h in range(heads):
            mine = slice(h * d, (h + 1) * d)
            scores = torch.einsum("bdi,bdj->bij", q[:, mine], k[:, mine]) / d**0.5
            mixed[:, mine] = torch.einsum("bij,bdj->bdi", scores.exp() / scores.exp().sum(2, True), v[:, mine])
        x = x + layer(mixed.view_as(x), attn + "proj_conv", attn + "proj_bn")
        hidden = layer(x.relu(), mlp + "fc1_conv", mlp + "fc1_bn")
        x = hidden = x + hidden if hidden.shape == x.shape else x
        hidden = hidden if hidden is not x else layer(x.relu(), mlp + "fc1_conv", mlp + "fc1_bn")
        x = x + layer(hidden.relu(), mlp + "fc2_conv", mlp + "fc2_bn")
    return x.flatten(2).mean(2).relu() @ state["head.weight"].T + state["head.bias"]


def lively(model: AnnTransformer) -> None:
    """Weights and batch-norm statistics that leave no layer without effect."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5 / max(1, parameter[0].numel()) ** 0.5)
    for key, buffer in model.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            buffer.normal_(std=0.2)


def test_the_forward_pass_equals_an_independent_one() -> None:
    model = AnnTransformer(**TINY).eval()
    lively(model)
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        logits = model(x)
        torch.testing.assert_close(logits, oracle(model.state_dict(), x, "0011", 2, 4), rtol=1e-4, atol=1e-5)
        frames = torch.stack([x * 0.5, x * 1.5], dim=1)
        torch.testing.assert_close(model(frames), logits, rtol=1e-4, atol=1e-5)
    assert logits.std() > 1e-3


def test_a_hidden_layer_of_the_same_width_has_its_own_shortcut() -> None:
    model = AnnTransformer(**TINY | {"mlp_ratio": 1.0, "depth": 1}).eval()
    lively(model)
    x = torch.randn(2, 32, 4, 4)
    mlp = model.block[0].mlp
    with torch.no_grad():
        inner = x + mlp.fc1_bn(mlp.fc1_conv(x.relu()))
        torch.testing.assert_close(mlp(x), inner + mlp.fc2_bn(mlp.fc2_conv(inner.relu())))


def test_every_spiking_model_has_a_twin_with_its_layers() -> None:
    assert twin_names() == [name.replace("sdt", "ann") for name in model_names()]
    for name in twin_names():
        twin = built(name)
        with torch.device("meta"):
            spiking = timm.create_model(name.replace("ann", "sdt"))
        wanted = {key: x.shape for key, x in spiking.state_dict().items() if "talking_heads" not in key}
        assert {key: x.shape for key, x in twin.state_dict().items()} == wanted
        assert resolve_data_config({}, model=twin) == resolve_data_config({}, model=spiking)
        assert twin.default_cfg["architecture"] == name


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_published_sizes(name: str, millions: float) -> None:
    assert sum(p.numel() for p in built(name).parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(("name", "tokens"), TOKENS.items())
def test_attention_does_2_n_squared_d_multiply_accumulates_per_block(name: str, tokens: int) -> None:
    model = built(name)
    rows = ann_macs(model.eval(), torch.zeros(2, model.in_chans, *model.img_size, device="meta"))
    attention = rows[rows["part"] == "attention"]
    assert attention["block"].tolist() == list(range(model.config["depth"]))
    assert (attention["macs"] == 2 * tokens**2 * model.config["embed_dim"]).all()
    assert attention["layer"].tolist() == [f"block.{i}.attn.products" for i in range(model.config["depth"])]


def test_macs_do_not_depend_on_the_fused_kernel_of_the_cpu() -> None:
    model, x = timm.create_model("ann_digits").eval(), torch.rand(2, 1, 16, 16)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x)
    products = 2 * 2 * 64**2 * 64  # two blocks of 2 N^2 D
    macs = ann_macs(model, x)["macs"].sum()
    assert counter.get_total_flops() // 2 // 2 in (macs - products, macs)
    assert macs == ann_macs(built("ann_digits").eval(), torch.zeros(1, 1, 16, 16, device="meta"))["macs"].sum()


def test_dense_operations_of_transformer_8_512() -> None:
    rows = ann_macs(built("ann_8_512").eval(), torch.zeros(1, 3, 224, 224, device="meta"))
    parts = rows.groupby("part")["macs"].sum()
    per_block = rows[rows["block"] == 0].groupby("part")["macs"].sum()
    assert parts["SPS"] == 86_704_128 + 3 * 924_844_032 + 462_422_016
    assert per_block.to_dict() == {
        "QKV": 154_140_672,
        "attention": 39_337_984,
        "projection": 51_380_224,
        "MLP1": 205_520_896,
        "MLP2": 205_520_896,
    }
    assert parts["head"] == 512_000 and rows["macs"].sum() == 8_571_375_616
    assert rows["macs"].sum() * 4.6e-9 == pytest.approx(39.43, abs=0.005)
    assert rows["layer"].iloc[0] == "patch_embed.proj_conv" and rows["layer"].iloc[-1] == "head"


@pytest.mark.parametrize("name", ["sdt_digits", "sdt_2_256_cifar10dvs"])
def test_measured_layers_equal_those_of_the_spiking_ledger(name: str) -> None:
    model = create_model(name)
    image = torch.zeros(1, model.in_chans, *model.img_size, device="meta")
    measured = ann_macs(built(name.replace("sdt", "ann")).eval(), image)
    derived = dense_twin(ledger_of(model))
    assert derived.macs == measured["macs"].sum()
    key = ["part", "block", "macs"]
    pairs = [
        frame[key].fillna({"block": -1}).sort_values(key).to_numpy().tolist() for frame in (measured, derived.layers)
    ]
    assert pairs[0] == pairs[1]
    own = set(measured["layer"]) - set(measured.loc[measured["part"] == "attention", "layer"])
    assert own <= set(derived.layers["layer"])


def test_twin_of_a_model() -> None:
    model = SpikeDrivenTransformer(**TINY, time_steps=2, dvs=True, tet=True, spike_mode="plif", mlp_ratio=2.0).eval()
    twin = twin_of(model)
    assert not twin.training and twin_of(model.train()).training
    assert twin.config == {key: model.config[key] for key in twin.config}
    assert set(model.config) - set(twin.config) == {"time_steps", "dvs", "tet", "spike_mode"}
    with pytest.raises(SpikeattnError, match="the model is a Linear; an ANN twin is defined for SpikeDrivenTransf"):
        twin_of(torch.nn.Linear(2, 2))


def test_one_training_step_moves_every_parameter_and_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = twin_of(SpikeDrivenTransformer(**TINY)).train()
    images, labels = torch.randn(10, 3, 16, 16), torch.arange(10) % 5
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    before = F.cross_entropy(model(images), labels)
    before.backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
    moved = sum(bool(p.grad.abs().sum() > 0) for p in model.parameters())
    assert moved > 0.95 * len(list(model.parameters()))
    optimizer.step()
    assert F.cross_entropy(model(images), labels) < before


def test_gamma_is_the_share_of_zeros_that_a_layer_receives() -> None:
    model = AnnTransformer(**TINY)
    lively(model)
    batches = [torch.randn(n, 3, 16, 16) for n in (3, 2)]
    seen: dict[str, list[Tensor]] = {}
    for path in ("patch_embed.proj_conv2", "block.1.attn.proj_conv", "block.0.mlp.fc2_conv"):
        module = model.get_submodule(path)
        module.register_forward_pre_hook(lambda _, args, path=path: seen.setdefault(path, []).append(args[0].clone()))
    table = measure_gamma(model.train(), [(x, torch.zeros(len(x))) for x in batches])
    assert model.training
    hooked = {path: xs[: len(batches)] for path, xs in seen.items()}
    for path, xs in hooked.items():
        received = torch.cat([x.flatten() for x in xs])
        assert table.set_index("layer")["gamma"][path] == pytest.approx(float((received == 0).double().mean()))
    rows = table.set_index("layer")
    assert 0.05 < rows["gamma"]["patch_embed.proj_conv2"] < 0.95
    assert rows["gamma"]["block.1.attn.proj_conv"] < 0.01 and rows["gamma"]["block.0.attn.products"] == 0
    inner = table.iloc[1:]
    assert table.attrs["gamma"] == pytest.approx((inner["gamma"] * inner["macs"]).sum() / inner["macs"].sum())
    assert table.attrs["n_images"] == 5
    with pytest.raises(SpikeattnError, match="gave no image to measure gamma on"):
        measure_gamma(model, [])


def test_macs_of_any_network_by_the_module_that_does_them() -> None:
    shared = torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(shared, torch.nn.ReLU(), shared)
    rows = ann_macs(model, torch.zeros(5, 4))
    assert rows["macs"].sum() == 2 * 16 and set(rows["part"]) == {"other"}
    with pytest.raises(SpikeattnError, match=r"Sequential does not run on an input \(1, 3\)"):
        ann_macs(model, torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnnTransformer(embed_dim=100), "embed_dim=100: give a multiple of 8"),
        (lambda: AnnTransformer(**TINY)(torch.zeros(1, 3, 8, 8)), r"it takes images \[B, 3, 16, 16\] or frames"),
        (lambda: AnnTransformer(**TINY)("image"), "the model's input has type str"),
        (lambda: timm.create_model("ann_8_512", time_steps=4), "unknown model argument 'time_steps'"),
        (lambda: timm.create_model("ann_digits", pretrained=True), "no trained weights of 'ann_digits'"),
    ],
)
def test_wrong_arguments(call, message) -> None:
    with pytest.raises(SpikeattnError, match=message):
        call()


def test_timm_overrides_reach_the_twin() -> None:
    twin = timm.create_model("ann_2_256", num_classes=100, embed_dim=64, img_size=48)
    assert twin.head.out_features == 100 and twin.img_size == (48, 48)
    assert resolve_data_config({}, model=twin)["mean"] == (0.5071, 0.4867, 0.4408), "100 classes are CIFAR-100"

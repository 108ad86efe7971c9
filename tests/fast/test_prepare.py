"""The fast path against the model itself: the same counts on weights whose sums are exact, module by module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor

import spikeattn as sa
from spikeattn.counting.recorder import Recorder
from spikeattn.errors import SpikeattnError
from spikeattn.fast import native, prepare
from spikeattn.fast.layers import FastLIF
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.models.variants import spiking_svda
from spikeattn.storage.counts import BatchCounts
from spikeattn.tracing.examine import plan
from tests.models.sdt_oracle import exact_input, exact_weights

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not native.compiler(), reason="no C compiler")),
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]
CONFIGS = {
    "still": {"img_size": 32, "num_classes": 10, "embed_dim": 64, "depth": 2, "pooling_stat": "0011"},
    "pooled, TET": {"img_size": 64, "embed_dim": 64, "depth": 2, "time_steps": 6, "tet": True},
    "PLIF, odd sizes": {
        "img_size": (40, 24),
        "embed_dim": 40,
        "num_heads": 4,
        "depth": 1,
        "mlp_ratio": 1.0,
        "spike_mode": "plif",
        "pooling_stat": "1010",
    },
    "frames": {"img_size": 32, "in_chans": 2, "embed_dim": 32, "depth": 1, "time_steps": 5},
    "erode": {"img_size": 64, "in_chans": 2, "embed_dim": 64, "depth": 1, "time_steps": 16, "dvs": True},
    "one step": {"img_size": 16, "embed_dim": 32, "depth": 1, "time_steps": 1, "pooling_stat": "0001"},
}


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    """TF32's ten bits do not hold weights with a batch norm folded into them."""
    torch.backends.cudnn.allow_tf32 = False


def build(name: str, batch: int = 3) -> tuple[SpikeDrivenTransformer, Tensor]:
    """A model with exact weights and input for it: events for two channels, a still image otherwise."""
    model = SpikeDrivenTransformer(**CONFIGS[name]).eval()
    exact_weights(model)
    if model.in_chans == 2:
        return model, exact_input(batch, model.time_steps, 2, *model.img_size).round().abs()
    return model, exact_input(batch, model.in_chans, *model.img_size)


def counted(net: torch.nn.Module, made, images: Tensor) -> BatchCounts:
    functional.reset_net(net)
    with torch.no_grad(), Recorder(net, made) as recorder, recorder.watching(len(images)) as tally:
        return tally.collect(net(images))


def lively(seed: int = 0, **options) -> tuple[SpikeDrivenTransformer, Tensor]:
    """An untrained model whose neurons fire, and images."""
    from spikeattn.models.calibrate import calibrate_batch_norm

    torch.manual_seed(seed)
    config = {"img_size": 32, "embed_dim": 64, "depth": 2, "num_classes": 10, "pooling_stat": "1001"} | options
    model = SpikeDrivenTransformer(**config).eval()
    images = torch.randn(6, 3, 32, 32)
    calibrate_batch_norm(model, images)
    return model, images


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_same_table_on_exact_weights(name: str, device: str) -> None:
    model, images = build(name)
    model, images = model.to(device), images.to(device)
    made = plan(model, images)
    plain, quick = counted(model, made, images), counted(prepare.prepare(model), made, images)
    assert plain.counts.keys() == quick.counts.keys()
    assert sum(values.sum() for (measure, _), values in plain.counts.items() if measure == "nnz") > 10_000
    for key, values in plain.counts.items():
        np.testing.assert_array_equal(values, quick.counts[key], err_msg=str(key))
    np.testing.assert_array_equal(plain.predictions, quick.predictions)
    assert plain.flags == quick.flags


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["still", "pooled, TET", "PLIF, odd sizes", "erode"])
def test_same_spikes_and_logits_on_exact_weights(name: str, device: str) -> None:
    model, images = build(name)
    model, images = model.to(device), images.to(device)
    net = prepare.prepare(model)
    seen: list[dict[str, Tensor]] = [{}, {}]
    for found, each in zip(seen, (model, net), strict=True):
        for path, entry in model.paper_names().items():
            if entry.hook:
                each.get_submodule(path).register_forward_hook(
                    lambda module, args, output, path=path, found=found: found.__setitem__(path, output.float())
                )
    with torch.no_grad():
        functional.reset_net(model)
        assert torch.equal(model(images), net(images))
    assert seen[0].keys() == seen[1].keys()
    for path, spikes in seen[0].items():
        assert torch.equal(spikes, seen[1][path]), path


@pytest.mark.parametrize("device", DEVICES)
def test_modules_leave_the_counts_of_what_they_made(device: str) -> None:
    model, images = lively()
    net, outputs = prepare.prepare(model.to(device)), {}
    for path, module in net.named_modules():
        module.register_forward_hook(lambda module, args, out, path=path: outputs.__setitem__(path, out))
    with torch.no_grad():
        net(images.to(device))
    left = [(path, m) for path, m in net.named_modules() if "nnz" in getattr(m, "counts", {})]
    assert len(left) == 4 + 1 + 9 * 2 + 1
    for path, module in left:
        assert torch.equal(module.counts["nnz"], outputs[path].flatten(2).long().sum(2)), path


@pytest.mark.skipif(not native.compiler(), reason="no C compiler")
@pytest.mark.parametrize(("ratio", "shortcuts"), [(4.0, 2), (1.0, 3)])
def test_sums_that_only_a_neuron_reads_are_never_stored(
    ratio: float, shortcuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block has six convolutions; those without a shortcut behind them have a neuron alone."""
    model, images = lively(mlp_ratio=ratio)
    alone, stored = [], []
    whole = native.conv_lif

    def watch(*arguments, **options):
        (stored if arguments[6] else alone).append(1)
        return whole(*arguments, **options)

    monkeypatch.setattr(native, "conv_lif", watch)
    with torch.no_grad():
        prepare.prepare(model)(images)
    depth, stages = 2, 2  # two of the stem's convolutions of spikes; the last sums of all are averaged
    assert len(alone) == stages + depth * (6 - shortcuts)
    assert len(stored) == 1 + depth * shortcuts - 1


@pytest.mark.skipif(not native.compiler(), reason="no C compiler")
def test_neither_threads_nor_batches_move_a_spike() -> None:
    model, images = lively()
    net, made, threads = prepare.prepare(model), plan(model, images), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = counted(net, made, images)
        torch.set_num_threads(2)
        parts = [counted(net, made, images[k : k + 1]) for k in range(len(images))]
    finally:
        torch.set_num_threads(threads)
    for key, values in whole.counts.items():
        if key[1] != "input":
            np.testing.assert_array_equal(values, np.concatenate([p.counts[key] for p in parts], axis=1), str(key))


@pytest.mark.parametrize("device", DEVICES)
def test_close_to_the_model_on_ordinary_weights(device: str) -> None:
    model, images = lively(depth=1)
    model, images = model.to(device), images.to(device)
    made = plan(model, images)
    plain, quick = counted(model, made, images), counted(prepare.prepare(model), made, images)
    key = ("nnz", "patch_embed.proj_lif")
    assert abs(plain.counts[key] - quick.counts[key]).sum() <= 1e-4 * plain.counts[key].sum()


@pytest.mark.parametrize("device", DEVICES)
def test_a_nan_is_found(device: str) -> None:
    model, images = build("still")
    model, images = model.to(device), images.to(device)
    made, net = plan(model, images), prepare.prepare(model)
    images[1, 0, 3, 3] = torch.nan
    with pytest.raises(SpikeattnError, match="NaN or infinite values reached patch_embed.proj_lif "):
        counted(net, made, images)


@pytest.mark.skipif(not native.compiler(), reason="no C compiler")
def test_the_model_stays_as_it_was() -> None:
    model, images = lively()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    net = prepare.prepare(model)
    with torch.no_grad():
        first, again = net(images), net(images)
    assert torch.equal(first, again)  # no state from call to call
    assert [name for name, _ in model.named_modules()] == names
    assert {name for name, _ in net.named_modules()} >= {name for name in names if "surrogate" not in name} - {
        name for name, module in model.named_modules() if type(module).__name__ == "Unused"
    }
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(model.block[0].attn) is not type(net.block[0].attn)


@pytest.mark.skipif(not native.compiler(), reason="no C compiler")
def test_what_hooks_keep_stays_as_it_was() -> None:
    model, images = lively(embed_dim=256)
    net = prepare.prepare(model)
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(module: torch.nn.Module, args: tuple[Tensor, ...], spikes: Tensor) -> None:
        kept.append((spikes, spikes.clone()))

    for module in net.modules():
        if isinstance(module, FastLIF):
            module.register_forward_hook(keep)
    with torch.no_grad():
        for batch in (images, -images, images * 2):
            net(batch)
    assert len({spikes.data_ptr() for spikes, _ in kept}) == len(kept) > 50
    assert all(torch.equal(spikes, then) for spikes, then in kept)


def test_what_it_cannot_run_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = build("still")
    assert "only spikeattn's SpikeDrivenTransformer" in prepare.unsupported(torch.nn.Linear(2, 2))
    assert "SpikeDrivenSvdaTransformer" in prepare.unsupported(spiking_svda.convert(model))
    assert "float64" in prepare.unsupported(SpikeDrivenTransformer(**CONFIGS["still"]).double())
    handle = model.head.register_forward_hook(lambda *_: None)
    assert "module head has forward hooks" in prepare.unsupported(model)
    handle.remove()
    lif = model.head_lif
    model.head_lif = neuron.IFNode(step_mode="m")
    assert "head_lif is a IFNode" in prepare.unsupported(model)
    model.head_lif = lif
    monkeypatch.setattr(native, "compiler", lambda: None)
    native.build.cache_clear()
    try:
        assert "no C compiler" in prepare.unsupported(model)
        with pytest.raises(SpikeattnError, match="use plain=True"):
            prepare.prepare(model)
    finally:
        native.build.cache_clear()


@pytest.mark.skipif(not native.compiler(), reason="no C compiler")
def test_input_of_another_shape() -> None:
    model, images = build("still")
    with pytest.raises(SpikeattnError, match=r"input has shape \(3, 3, 32, 31\)"):
        prepare.prepare(model)(images[..., :-1])


def test_chosen_by_the_work_and_kept_in_the_provenance() -> None:
    from spikeattn.tracing.examine import ledger_of

    model, images = build("pooled, TET", batch=2)
    made = ledger_of(model)
    counted_there = sum(s.dense_macs * (model.time_steps if s.every_step else 1) for s in made.synapses)
    first = made.synapse("patch_embed.proj_conv").dense_macs  # T times there
    head = made.synapse("head").dense_macs * model.time_steps
    assert prepare.work(model) == counted_there - head - first * (model.time_steps - 1)
    assert prepare.choose(model, None) == prepare.PLAIN == prepare.choose(model, True)
    plain = sa.profile(model, [images])
    assert plain.provenance["settings"]["path"] == "plain"
    if not native.compiler():
        return
    quick = sa.profile(model, [images], plain=False)
    assert quick.provenance["settings"]["path"] == "fast (native)" == prepare.choose(model, False)
    assert plain.rates().equals(quick.rates()) and plain.operations().equals(quick.operations())
    large = SpikeDrivenTransformer(embed_dim=128, depth=1, num_classes=10)
    assert prepare.choose(large, None) == "fast (native)" and prepare.choose(large, None, usual=False) == prepare.PLAIN
    assert prepare.choose(large, False, usual=False) == prepare.PLAIN  # a forward= of the user's own needs the model

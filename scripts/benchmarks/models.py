"""The networks of the benchmarks, their images, and what counts spikes in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model import spike_driven_transformer as sj_sdt
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.counting.recorder import Recorder
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.storage.counts import batch_table
from spikeattn.tracing.taps import Plan

Run = Callable[[], Any]


def spikingjelly_twin(model: nn.Module) -> nn.Module:
    """SpikingJelly's own Spike-driven Transformer with the weights of ours; its patch-embedding biases are zero."""
    config = model.config
    twin = sj_sdt.SpikeDrivenTransformer(
        config["time_steps"], config["in_chans"], config["num_classes"], config["embed_dim"],
        config["num_heads"], config["depth"], config["mlp_ratio"], config["pooling_stat"],
    )  # fmt: skip
    stages = {"": "stages.0", "1": "stages.1", "2": "stages.2", "3": "final_stage"}
    names = {f"patch_embed.proj_conv{k}": f"patch_embed.{v}.0" for k, v in stages.items()}
    names |= {f"patch_embed.proj_bn{k}": f"patch_embed.{v}.1" for k, v in stages.items()}
    mlp = {"fc1_conv": "fc1", "fc1_bn": "bn1", "fc2_conv": "fc2", "fc2_bn": "bn2"}
    state = {key: torch.zeros_like(value) for key, value in twin.state_dict().items()}
    for key, value in model.state_dict().items():
        path, _, leaf = key.rpartition(".")
        if path.endswith("talking_heads"):
            continue
        path = names.get(path, path).replace("block.", "blocks.")
        head, _, last = path.rpartition(".")
        path = f"{head}.{mlp[last]}" if last in mlp else path
        state[f"{path}.{leaf}"] = value
    twin.load_state_dict(state, strict=True)
    return twin.eval()


def live_model(name: str, images: Tensor, device: str) -> nn.Module:
    """An untrained model whose neurons fire: batch-norm statistics from two of the images."""
    torch.manual_seed(0)
    model = sa.create_model(name).to(device)
    calibrate_batch_norm(model, images[:2].to(device))
    return model


def photos(model: nn.Module, folder: str | None, n: int) -> tuple[Tensor, str]:
    """`n` images as the model takes them, and where they are from: photos of a folder, or seeded noise."""
    if folder is None:
        return torch.randn((n, model.in_chans, *model.img_size), generator=torch.Generator().manual_seed(0)), "noise"
    loader = sa.make_loader(sa.open_dataset(f"imagenet:{folder}", model), batch_size=n, limit=n)
    return next(iter(loader)).images, "photos"


def plain(net: nn.Module, batches: Sequence[Tensor]) -> Run:
    """Forward passes and nothing else."""

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            net(batch)
            functional.reset_net(net)

    return run


def recorded(net: nn.Module, made: Plan, batches: Sequence[Tensor]) -> Run:
    """Everything that `profile` stores: counts on the host, checked, as a table; the loop of `spikeattn.runs.run`."""

    def store(batch: Tensor, sent: Any) -> None:
        n = len(batch)
        batch_table(sent.result(), range(n), ["x"] * n, [0] * n)

    @torch.no_grad()
    def run() -> None:
        waiting: list[tuple[Tensor, Any]] = []
        with Recorder(net, made) as recorder:
            for batch in batches:
                functional.reset_net(net)
                with recorder.watching(len(batch)) as tally:
                    waiting.append((batch, tally.send(net(batch))))
                while len(waiting) > batch.is_cuda:
                    store(*waiting.pop(0))
            while waiting:
                store(*waiting.pop(0))
        functional.reset_net(net)

    return run


def published_loop(net: nn.Module, batches: Sequence[Tensor], time_steps: int) -> Run:
    """What the published rate script does per batch, re-implemented from its description.

    The hooked tensors of a batch are kept; then, for each of them and each time step, the mean is fetched from the
    device, and the positions of all non-zero elements are listed, to be counted. No synapse, no image, no fan-out.
    """
    hooked = [path for path, name in net.paper_names().items() if name.hook]

    @torch.no_grad()
    def run() -> None:
        kept: dict[str, Tensor] = {}
        handles = [
            net.get_submodule(path).register_forward_hook(
                lambda module, args, output, path=path: kept.__setitem__(path, output)
            )
            for path in hooked
        ]
        means: dict[tuple[int, str], float] = {}
        shares: dict[tuple[int, str], float] = {}
        for batch in batches:
            net(batch)
            for t in range(time_steps):
                for path, spikes in kept.items():
                    means[t, path] = means.get((t, path), 0.0) + spikes[t].mean().item()
                for path, spikes in kept.items():
                    elements = torch.prod(torch.tensor(list(spikes[t].shape)))
                    listed = torch.nonzero(spikes[t])
                    shares[t, path] = shares.get((t, path), 0.0) + (listed.shape[0] / elements).item()
            kept.clear()
            functional.reset_net(net)
        for handle in handles:
            handle.remove()

    return run


def convolutions(net: nn.Module, batch: Tensor, dtype: torch.dtype = torch.float32) -> Run:
    """The dense convolutions of a network alone, by torch, in channels-last memory and with the batch norms folded:
    the first one once, the others at every time step, on the spikes that one pass gives.
    """
    inputs: dict[str, Tensor] = {}
    layers = {path: m for path, m in net.named_modules() if isinstance(m, nn.Conv2d)}

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0][:1] if path == "patch_embed.proj_conv" else args[0]
            inputs[path] = x.flatten(0, 1).to(dtype).contiguous(memory_format=torch.channels_last)

        return hook

    handles = [m.register_forward_pre_hook(keep(path)) for path, m in layers.items()]
    with torch.no_grad():
        net(batch)
    functional.reset_net(net)
    for handle in handles:
        handle.remove()
    weights = {
        path: m.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last) for path, m in layers.items()
    }
    biases = {path: torch.zeros(m.out_channels, dtype=dtype, device=m.weight.device) for path, m in layers.items()}

    @torch.no_grad()
    def run() -> None:
        for path, m in layers.items():
            torch.nn.functional.conv2d(inputs[path], weights[path], biases[path], padding=m.padding)

    return run

"""How far the fast path and bf16 move spikes and rates from those of the model itself, on ordinary weights."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.fast import prepare

from .models import live_model, photos
from .timing import write


@torch.no_grad()
def spikes(net: nn.Module, paths: list[str], batch: Tensor, autocast: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Every spike tensor of one pass, as bools by path, and the logits."""
    found: dict[str, Tensor] = {}
    handles = [
        net.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: found.__setitem__(path, output != 0)
        )
        for path in paths
    ]
    functional.reset_net(net)
    with torch.autocast(batch.device.type, torch.bfloat16) if autocast else contextlib.nullcontext():
        logits = net(batch)
    for handle in handles:
        handle.remove()
    functional.reset_net(net)
    return found, logits.float()


def run(args: argparse.Namespace) -> None:
    """Spikes flipped, and the change of every rate, against the model itself in fp32."""
    device = args.device
    images, source = photos(sa.create_model(args.model), args.photos, args.images)
    model = live_model(args.model, images, device)
    paths = [path for path, name in model.paper_names().items() if name.hook]
    ways = {
        "the model, other batch": (model, {}),
        "the model, channels-last": (live_model(args.model, images, device).to(memory_format=torch.channels_last), {}),
        "the fast path": (prepare.prepare(model), {}),
        "the model, bf16 autocast": (model, {"autocast": True}),
    }
    total = {way: {path: [0, 0, 0] for path in paths} for way in ways}  # flipped, spikes, elements
    base = dict.fromkeys(paths, 0)
    same = dict.fromkeys(ways, 0)
    for batch in images.to(device).split(args.batch_size):
        reference, logits = spikes(model, paths, batch)
        for path in paths:
            base[path] += int(reference[path].sum())
        for way, (net, options) in ways.items():
            if way == "the model, other batch":
                parts = [spikes(net, paths, image[None]) for image in batch]
                found = {path: torch.cat([part[0][path] for part in parts], 1) for path in paths}
                out = torch.cat([part[1] for part in parts])
            else:
                found, out = spikes(net, paths, batch, **options)
            same[way] += int((out.argmax(-1) == logits.argmax(-1)).sum())
            for path in paths:
                counts = (found[path] ^ reference[path]).sum(), found[path].sum(), torch.tensor(found[path].numel())
                total[way][path] = [a + int(b) for a, b in zip(total[way][path], counts, strict=True)]
    rows = [("against the model itself, fp32", "spikes flipped", "largest change of a rate", "mean change",
             "change of all spikes", "same class")]  # fmt: skip
    changes: dict[str, dict[str, float]] = {}
    for way, counts in total.items():
        changes[way] = {path: (counts[path][1] - base[path]) / counts[path][2] for path in paths}
        moved = [abs(change) for change in changes[way].values()]
        flipped = sum(counts[path][0] for path in paths) / sum(counts[path][2] for path in paths)
        overall = sum(counts[path][1] for path in paths) / sum(base.values()) - 1
        rows.append((
            way, f"{flipped:.3%}", f"{max(moved):.2e}", f"{sum(moved) / len(moved):.2e}", f"{overall:+.3%}",
            f"{same[way]} of {len(images)}",
        ))  # fmt: skip
    rates = {path: base[path] / total["the fast path"][path][2] for path in paths}
    every = [("tensor", "rate", *list(ways)[2:])]
    every += [(p, f"{rates[p]:.5f}", *(f"{changes[way][p]:+.1e}" for way in list(ways)[2:])) for p in paths]
    what = f"{args.model}, {images.shape[-1]} px, T={model.time_steps}, {len(images)} {source}, random weights"
    result = {"rates": rates, "change_of_rates": changes, "counts": total}
    write(Path(args.out), "precision" + ("" if device == "cpu" else "-cuda"), what, device, result, [rows, every])

"""The same exact-sum network on the CPU and on CUDA, plain and fast: every count must be the same."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import spikeattn as sa
from spikeattn.models.neuron_backend import implementation_in_use

from .timing import write


def run(args: argparse.Namespace) -> None:
    """Spike counts of the same exact-sum network on the CPU and on CUDA: every count must be the same."""
    from tests.models.sdt_oracle import exact_input, exact_weights

    torch.backends.cudnn.allow_tf32 = False  # ten bits do not hold weights with a batch norm folded into them
    rows = [("configuration", "spikes on the CPU", "different counts on CUDA, plain", "and fast")]
    result = {}
    for name, options in {
        "32 px, T=4": {"img_size": 32, "num_classes": 10, "embed_dim": 64, "depth": 2, "pooling_stat": "0011"},
        "64 px, T=6, TET": {"img_size": 64, "embed_dim": 64, "depth": 3, "time_steps": 6, "tet": True},
        "8-512 at 224 px, T=4": {},
        "dvs, T=16": {"img_size": 64, "in_chans": 2, "embed_dim": 64, "depth": 2, "time_steps": 16, "dvs": True},
    }.items():
        model = sa.models.SpikeDrivenTransformer(**options).eval()
        exact_weights(model)
        shape = (6, model.in_chans, *model.img_size)
        images = exact_input(*((6, model.time_steps, *shape[1:]) if model.in_chans == 2 else shape))
        images = images.round().abs() if model.in_chans == 2 else images
        tables = {}
        ways = {"cpu": ("cpu", True), "plain": (args.device, True), "fast": (args.device, False)}
        for way, (device, plain) in ways.items():
            loader = [part.to(device) for part in images.split(3)]
            tables[way] = sa.profile(model.to(device), loader, plain=plain).counts
        names = [c for c in tables["cpu"].columns if c.startswith(("nnz:", "fan_nnz:", "pred:"))]
        cpu, *others = (table._read(names) for table in tables.values())
        spikes = sum(cpu[c].to_numpy().sum() for c in names if c.startswith("nnz:"))
        different = [sum(int((cpu[c].to_numpy() != gpu[c].to_numpy()).sum()) for c in names) for gpu in others]
        rows.append((name, f"{int(spikes):,}", *map(str, different)))
        result[name] = {"spikes": int(spikes), "different": different}
    write(Path(args.out), "parity-cuda", f"neurons: {implementation_in_use(args.device)}", args.device, result, [rows])

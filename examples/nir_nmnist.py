"""A network in a NIR file: the CNN that the NIR paper runs on N-MNIST, profiled from the file alone.

    pip install 'spikeattn[nir]'
    python examples/nir_nmnist.py                                      # random weights, simulated events
    python examples/nir_nmnist.py --nir cnn_sinabs.nir --data nmnist   # the trained network on recordings

The trained file is paper/02_cnn/cnn_sinabs.nir of https://github.com/neuromorphs/NIR (Pedersen et al., Nature
Communications 2024). The folder `nmnist` holds N-MNIST as SpikingJelly prepares it, events_np/test/<class>/*.npz; the
recordings are cut into bins of 1 ms, as the paper does. Writes the run to runs/nir and, without --nir, nmnist_cnn.nir.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import spikeattn as sa

SIDE, STEPS = 34, 310  # pixels; N-MNIST's recordings last 300 to 310 ms
Batch = tuple[Tensor, Tensor]  # frames [B, T, 2, 34, 34] and labels


def write_graph(path: str) -> None:
    """The architecture of paper/02_cnn with random weights: convolutions and sums of 2 x 2, IF neurons, two layers."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        bound = 2.5 / np.prod(shape[1:]) ** 0.5  # enough for some spikes in every layer
        return random.uniform(-bound, bound, shape).astype(np.float32)

    def conv(outputs: int, inputs: int, size: int, stride: int, side: int) -> nir.Conv2d:
        bias = np.zeros(outputs, dtype=np.float32)
        return nir.Conv2d((side, side), weights(outputs, inputs, size, size), stride, (1, 1), 1, 1, bias)

    def neurons(*shape: int) -> nir.IF:
        return nir.IF(r=np.ones(shape, dtype=np.float32), v_threshold=np.ones(shape, dtype=np.float32))

    def pool() -> nir.SumPool2d:
        return nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0]))

    layers = {
        "conv1": conv(16, 2, 5, 2, 34), "if1": neurons(16, 16, 16),
        "conv2": conv(16, 16, 3, 1, 16), "if2": neurons(16, 16, 16), "pool2": pool(),
        "conv3": conv(8, 16, 3, 1, 8), "if3": neurons(8, 8, 8), "pool3": pool(),
        "flat": nir.Flatten({"input": np.array([8, 4, 4])}, 0, -1),
        "fc1": nir.Linear(weights(256, 128)), "if4": neurons(256),
        "fc2": nir.Linear(weights(10, 256)), "if5": neurons(10),
    }  # fmt: skip
    first, last = nir.Input({"input": np.array([2, SIDE, SIDE])}), nir.Output({"output": np.array([10])})
    nodes = {"input": first, **layers, "output": last}
    nir.write(path, nir.NIRGraph(nodes, list(zip(nodes, list(nodes)[1:], strict=False))))


def recordings(folder: Path, limit: int, batch: int) -> Iterator[Batch]:
    """Recordings of the test split, from all classes alike: events counted by millisecond, polarity and pixel."""
    files = sorted((folder / "events_np" / "test").glob("*/*.npz"), key=lambda file: (file.stem, file.parent.name))
    if not files:
        raise SystemExit(f"error: {folder} holds no events_np/test/<class>/*.npz")
    files = sorted(files[:limit])
    for start in range(0, len(files), batch):
        frames = np.zeros((len(files[start : start + batch]), STEPS, 2, SIDE, SIDE), dtype=np.float32)
        for counts, file in zip(frames, files[start : start + batch], strict=True):
            with np.load(file) as events:
                step = np.minimum((events["t"] - events["t"].min()) // 1000, STEPS - 1).astype(int)
                x, y, p = (events[name].astype(int) for name in "xyp")
            np.add.at(counts, (step, p, y, x), 1)
        labels = [int(file.parent.name) for file in files[start : start + batch]]
        yield torch.from_numpy(frames), torch.tensor(labels)


def simulated(limit: int, batch: int) -> Iterator[Batch]:
    """The simulated events of digits that come with the package, every pixel as 2 x 2."""
    for each in sa.make_loader(sa.open_dataset("digits-events", time_steps=32), batch_size=batch, limit=limit):
        large = each.images.repeat_interleave(2, 3).repeat_interleave(2, 4)
        yield pad(large, (1, 1, 1, 1)), each.labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nir", help="the trained network; without it: its architecture with random weights")
    parser.add_argument("--data", type=Path, help="N-MNIST; without it: simulated events")
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    if args.nir is None:
        write_graph("nmnist_cnn.nir")
    model = sa.load_model(args.nir or "nmnist_cnn.nir")
    print(*model.provenance["notes"], sep="\n")
    batches = simulated(args.images, 10) if args.data is None else recordings(args.data, args.images, 10)
    profile = sa.profile(model, list(batches), out="runs/nir")
    print(profile.operations().to_markdown(index=False, floatfmt=",.1f"))
    summary = profile.summary()
    if args.nir is not None:
        print(f"accuracy {summary['accuracy']:.3f} {np.round(summary['accuracy_interval'], 3).tolist()}")
    sops, macs = summary["sops_per_image"], summary["macs_per_image"]
    print(f"T {profile.time_steps}, {sops:,.0f} SOPs and {macs:,.0f} MACs per image")
    print(f"energy {profile.energy().total}")


if __name__ == "__main__":
    main()

"""One process with whatever version of spikeattn stands first on its path: `kernels` asks it for speeds.

    python kernels_worker.py native|avx2

Every line on standard input is a job, SHAPE@RATE. It answers each with 10^9 additions per second of CPU time.
"""

from __future__ import annotations

import sys
import time

import torch

from spikeattn.fast import native, prepare

# images (of all time steps), size, input and output channels, kernel: layers of SDT-8-512 at 224 px
_SHAPES = {
    "1x1 512-512 at 14": (16, 14, 512, 512, 1),
    "3x3 256-512 at 28": (4, 28, 256, 512, 3),
}
_RATES = ("0.02", "0.05", "0.085", "0.15", "0.22", "0.4", "0.7")


class Convolution:
    """One shape; spikes of any rate."""

    def __init__(self, images: int, size: int, inputs: int, outputs: int, kernel: int) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn((outputs, inputs, kernel, kernel), generator=generator)
        self._packed = (*native.pack(weight, torch.zeros(outputs)), outputs, kernel)
        self._fans = prepare.fan_out((size, size), kernel, outputs)
        self._values = torch.rand((1, images, size, size, inputs), generator=generator)
        self._weight = weight.contiguous(memory_format=torch.channels_last)

    def speed(self, rate: str) -> float:
        """Additions, or with the rate "dense" multiply-accumulates, per second."""
        x = (self._values < (1.0 if rate == "dense" else float(rate))).permute(0, 1, 4, 2, 3)
        work = int((x[0].sum((0, 1)).flatten() * self._fans).sum())
        dense = x[0].float().contiguous(memory_format=torch.channels_last)
        start = time.thread_time()
        if rate == "dense":
            torch.nn.functional.conv2d(dense, self._weight, padding=self._weight.shape[-1] // 2)
        else:
            native.conv(x, *self._packed)
        return work / (time.thread_time() - start) / 1e9


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    if sys.argv[1] == "avx2":
        native._TUNED = (("-march=native", "-mno-avx512f", "-fopenmp"),)  # the private list of both versions
    convolutions = {name: Convolution(*shape) for name, shape in _SHAPES.items()}
    jobs = [f"{name}@{rate}" for name in convolutions for rate in (*_RATES, "dense")]
    print("\t".join(jobs), flush=True)
    for line in sys.stdin:
        name, _, rate = line.strip().rpartition("@")
        convolutions[name].speed(rate)  # the caches and the output's memory, warm
        print(convolutions[name].speed(rate), flush=True)


if __name__ == "__main__":
    main()

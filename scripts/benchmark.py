"""Time what spikeattn does against what it is compared with: one process, alternating, medians of paired ratios.

    python scripts/benchmark.py overhead --photos DIR       # everything `profile` stores, beside plain passes and peers
    python scripts/benchmark.py overhead --only fast,sj --rounds 3 --merge   # a piece; pieces add up
    python scripts/benchmark.py rates --photos DIR --threads 1   # the fast path at firing rates from .02 to .4
    python scripts/benchmark.py rates --avx2 --threads 1    # the same without AVX-512, in a table of its own
    python scripts/benchmark.py kernels --before CHECKOUT   # additions per second of the convolution of spikes
    python scripts/benchmark.py memory --photos DIR         # peak memory recorded and not; over many batches
    python scripts/benchmark.py precision --photos DIR      # how far the fast path and bf16 move each rate
    python scripts/benchmark.py gpu --photos DIR            # a GPU: sweep, counters, kernels, JPEG decoding
    python scripts/benchmark.py parity-cuda                 # spikes on the CPU against SpikingJelly's CUDA neurons
    python scripts/benchmark.py startup                     # what the first batch of a foreign network costs
    python scripts/benchmark.py foreign --threads 1 --batch-size 1 --clones DIR   # networks that nobody here wrote
    python scripts/benchmark.py plan --before CHECKOUT      # plan and structure, beside those of an earlier version
    python scripts/benchmark.py training --model sdt_digits --images 320 --batch-size 64   # a step, followed or not
    python scripts/benchmark.py reading --photos DIR        # JPEG decoding beside the pass; --device cuda
    python scripts/benchmark.py waiting                     # seconds to a list, to a bar; the longest silence
    python scripts/benchmark.py rows --photos DIR           # energy, report, compare, verify, merge by number of images
    python scripts/benchmark.py attend --theirs DIR --images 4   # attention regularisation, beside the authors

Results go to reports/benchmark/NAME.json and NAME.md with the command, the machine and the thread count.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from benchmarks import (
    attend,
    avx2,
    foreign,
    gpu,
    kernels,
    memory,
    overhead,
    parity,
    plan,
    precision,
    rates,
    reading,
    rows,
    startup,
    training,
    waiting,
)

ROOT = Path(__file__).resolve().parents[1]
RUN = {
    "overhead": overhead.run,
    "kernels": kernels.run,
    "rates": rates.run,
    "reading": reading.run,
    "rows": rows.run,
    "memory": memory.run,
    "precision": precision.run,
    "gpu": gpu.run,
    "parity-cuda": parity.run,
    "attend": attend.run,
    "startup": startup.run,
    "plan": plan.run,
    "foreign": foreign.run,
    "training": training.run,
    "waiting": waiting.run,
}


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def words(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=RUN)
    parser.add_argument("--model", default="sdt_8_512")
    parser.add_argument("--device", default=None)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further round after so long")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", type=words, default=None, help="contestants (overhead), rates, parts (gpu), networks")
    parser.add_argument("--avx2", action="store_true", help="without AVX-512: PyTorch, oneDNN and the kernels")
    parser.add_argument("--merge", action="store_true", help="add the rounds to those in the file")
    parser.add_argument("--batches", type=numbers, default=[16, 64, 256], help="gpu: batch sizes")
    parser.add_argument("--precisions", type=words, default=["fp32", "tf32", "bf16"], help="gpu")
    parser.add_argument("--workers", type=int, default=8, help="gpu: processes that read images ahead")
    parser.add_argument("--photos", default=None, help="folder with val/<wnid>/*.JPEG; seeded noise without it")
    parser.add_argument("--theirs", default=None, help="attend: checkout of ncchung/AttentionRegularization")
    parser.add_argument("--before", default=None, help="plan, kernels: checkout of an earlier version")
    parser.add_argument("--clones", default=None, help="foreign: git clones of published networks, as OWNER+NAME each")
    parser.add_argument("--replicates", type=int, default=100, help="attend")
    parser.add_argument(
        "--cpu-time", action="store_true", help="training, reading: seconds of the processor, on a shared machine"
    )
    parser.add_argument("--rows", type=numbers, default=[1000, 10_000, 50_000], help="rows: images; 1000000 takes 8 GB")
    parser.add_argument("--scratch", default=None, help="rows: a folder on a large disk; the system's own unless given")
    parser.add_argument("--out", default=str(ROOT / "reports" / "benchmark"))
    args = parser.parse_args()
    if args.avx2:
        avx2.run_again()
    args.device = args.device or ("cuda" if args.benchmark in ("gpu", "parity-cuda") else "cpu")
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"error: --device {args.device}: torch sees no CUDA device here")
    if args.threads:
        torch.set_num_threads(args.threads)
    RUN[args.benchmark](args)


if __name__ == "__main__":
    main()

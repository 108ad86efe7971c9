"""How many processes read images ahead where nobody says it: so many that reading does not hold the pass back.

Workers change the speed alone: each takes whole batches of the one plan, and they come in its order.
"""

from __future__ import annotations

import os
from multiprocessing import get_all_start_methods, get_start_method

# Decoding a JPEG of 340x256 pixels and preparing it takes 2.5 ms of one core, an original one of ImageNet some 5 ms. On
# a CPU the 8-512 takes 230 ms of a core per image (reports/benchmark/rates-1.md), so that reading is 1 % of one core's
# work; but the other cores wait for it. From four cores on that is 4 % and more, and one process, which reads 200 to
# 400 images/s, is enough for as many cores as a machine has.
_CORES_OF_CPU = 4
# A GPU takes up to 2500 images/s (reports/benchmark/gpu.md), which is the work of 6 to 12 cores.
_MOST = 12


def workers_for(slow: bool, batches: int, gpu: bool) -> int:
    """Processes that read ahead.

    Args:
        slow: whether a sample is decoded from a file; what lies in memory is read in the process itself.
        batches: to be read; a process takes whole ones.
        gpu: whether the pass runs on a GPU, and leaves the cores to reading.

    Returns:
        0 on a CPU of fewer than four cores, 1 on a larger one; with a GPU one for every core of this process's share
        but one, 12 at most; never more than batches. 0 where Python starts processes anew (macOS, Windows, Python
        3.14), which a script must be written for.
    """
    started = get_start_method(allow_none=True) or get_all_start_methods()[0]  # the first is the default, not yet set
    if not slow or started != "fork":
        return 0
    cores = usable_cores()
    wanted = min(max(cores - 1, 1), _MOST) if gpu else int(cores >= _CORES_OF_CPU)
    return min(wanted, batches) if batches > 1 else 0


def usable_cores() -> int:
    """CPUs that this process may use, a rank of torchrun its share of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, allowed // int(ranks)) if ranks.isdecimal() and int(ranks) else allowed

"""The same benchmark on a processor without AVX-512: PyTorch, oneDNN and the kernels are kept to AVX2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

# Behind -march=native, which gcc and clang spell out: the last word on AVX-512 is ours.
_COMPILER = '#!/bin/sh\nexec {compiler} "$@" -mno-avx512f\n'


def run_again() -> None:
    """Run this command in a process that is kept to AVX2, and end as it does; nothing where this one is."""
    if suffix():
        return
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("error: --avx2: no C compiler (cc, gcc or clang)")
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "cc"
        wrapper.write_text(_COMPILER.format(compiler=compiler))
        wrapper.chmod(0o755)
        kept = {"CC": str(wrapper), "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, **kept}, check=False).returncode)


def suffix() -> str:
    """What a result's name has behind it where this process has no AVX-512, and "" where it has."""
    capability = torch.backends.cpu.get_cpu_capability()
    return "" if capability == "AVX512" else f"-{capability.lower()}"

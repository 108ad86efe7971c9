"""What a checkpoint would unpack to, known before it is unpacked: a file of 1 kB can hold a tensor of 8 GB.

A tensor may be a view that repeats one number, and an entry of a zip archive may be compressed, or stand in its
directory many times.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError

# Weights that share memory (a tied head, an average beside the weights) count twice or so, and a short vector may be
# repeated to 64 MB without harm; trained weights hardly shrink under compression.
GROWTH = 4
FREE = 1 << 26  # bytes


def room(path: Path) -> int:
    """Bytes that the content of a file may take."""
    return GROWTH * path.stat().st_size + FREE


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose entries unpack to far more than the file holds."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > room(path):
        raise _too_much(path, "its entries unpack", size)


def check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are no plain arrays of numbers, or take far more memory than the file holds."""
    strange = [(key, kind) for key, tensor in state.items() if (kind := _kind(tensor))]
    if strange:
        key, kind = strange[0]
        raise SpikeattnError(
            f"checkpoint {path}: {len(strange)} of {len(state)} tensors are no plain arrays of numbers, first {key!r}, "
            f"which is {kind}; save the weights as dense tensors with values"
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > room(path):
        largest = max(state, key=lambda key: state[key].numel() * state[key].element_size())
        raise _too_much(path, f"its tensors (the largest is {largest!r}) unpack", size)


def _kind(tensor: Tensor) -> str:
    """What a tensor is instead of an array of numbers; empty for one that is."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return f"of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_quantized:
        return "quantised"
    return "" if tensor.device.type == "cpu" else f"on the device {tensor.device.type!r}, without values"


def _too_much(path: Path, what: str, size: int) -> SpikeattnError:
    return SpikeattnError(
        f"checkpoint {path}: {what} to {size:,} bytes from a file of {path.stat().st_size:,}; if you trust it, save "
        "its tensors in full: torch.save({key: tensor.clone() for key, tensor in state.items()}, ...)"
    )

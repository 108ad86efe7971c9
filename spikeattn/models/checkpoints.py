"""Reading checkpoint files: timm's `.pth.tar` as published, plain state dicts, safetensors.

A file is never trusted: pickles are read with `weights_only`, so that none can run code, and whatever is wrong with a
file (missing, truncated, a git-LFS pointer, not a checkpoint, NaN weights) is one `SpikeattnError` that says so.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from spikeattn.compat.python_names import file_sha256
from spikeattn.errors import SpikeattnError
from spikeattn.models.pickles import read_pickle
from spikeattn.models.unpacking import check_archive, check_tensors

MODEL_KEYS = ("state_dict", "model", "model_state_dict", "net")
EMA_KEYS = ("state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before every name
_WIDEST = 64  # bits of a whole number that says anything about a training; Python prints some 14,000 and no more
SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from a file, and where they came from.

    Attributes:
        path: the file.
        sha256: of the whole file, in hexadecimal.
        which: the entry of the file the weights were taken from, such as "state_dict" or "state_dict_ema"; "all" for a
            file that holds nothing but weights.
        state_dict: tensors by parameter name, floating-point ones in float32, on the CPU.
        metadata: the card of a safetensors file, or a training checkpoint's plain facts (epoch, metric, args).
        notes: what was done or left aside while reading, for the provenance.
    """

    path: Path
    sha256: str
    which: str
    state_dict: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_checkpoint(path: str | Path, weights: str = "auto") -> Checkpoint:
    """Read a checkpoint without running any code in it.

    Args:
        path: a timm checkpoint (`.pth.tar`), a state dict saved by torch, or a safetensors file; recognised by content.
        weights: "model" for the trained weights, "ema" for their exponential moving average; "auto" takes the trained
            weights where the file has them, otherwise the average. What was taken is `Checkpoint.which`.

    Raises:
        SpikeattnError: the file is not there, empty, truncated, no checkpoint, would run code, lacks the weights asked
            for, holds weights that are not finite or no plain arrays, or would unpack to far more than its size.
    """
    if weights not in ("auto", "model", "ema"):
        raise SpikeattnError(f"weights={weights!r}: valid are 'auto', 'model' and 'ema'")
    path = Path(path)
    kind = _recognise(path)
    with path.open("rb") as file:
        sha256 = file_sha256(file)
    content, metadata = _read_safetensors(path) if kind == "safetensors" else (read_pickle(path), {})
    which, state, notes = _choose(path, content, weights)
    if which != "all":
        metadata = {key: plain for key, value in content.items() if (plain := _plain(value)) is not None}
    state = _unwrap(state)
    check_tensors(path, state)
    state, converted = _to_float32(state)
    _check_finite(path, state)
    return Checkpoint(path, sha256, which, state, metadata, (*notes, *converted))


def shipped_weights(name: str) -> Path:
    """The weights file that the package ships for entry point `name`."""
    path = SHIPPED / f"{name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
        raise SpikeattnError(
            f"no trained weights of {name!r} come with the package (there are: {shipped}); "
            "give a checkpoint file, or leave out pretrained for random weights"
        )
    return path


def _recognise(path: Path) -> str:
    """The kind of a checkpoint file, "safetensors" or "pickle", from its first bytes."""
    if not path.exists():
        raise SpikeattnError(f"checkpoint {path}: there is no such file")
    if not path.is_file():
        raise SpikeattnError(f"checkpoint {path}: this is a folder; give the file inside it")
    size = path.stat().st_size
    if size == 0:
        raise SpikeattnError(f"checkpoint {path}: the file is empty; download it again")
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        real = re.search(rb"size (\d+)", start)
        raise SpikeattnError(
            f"checkpoint {path}: this is a git-LFS pointer of {size} bytes, not the file itself"
            f"{f' ({int(real[1]):,} bytes)' if real else ''}; fetch it with 'git lfs pull'"
        )
    if start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= size:
        return "safetensors"  # before the pickles: the length of its header may begin with any byte, 0x80 too
    if start.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(path):
            raise SpikeattnError(
                f"checkpoint {path}: the file is truncated: it starts as a torch archive and ends after {size:,} bytes "
                "without the archive's directory; download it again"
            )
        if _torch_archive(path):
            return "pickle"
    elif start.startswith(b"\x80") and path.suffix != ".safetensors":
        return "pickle"
    elif path.suffix == ".safetensors" or start[8:9] == b"{":
        return "safetensors"
    page = "; it looks like a web page" if start.lstrip()[:1] == b"<" else ""
    raise SpikeattnError(
        f"checkpoint {path}: this is not a checkpoint{page}; valid are files written by torch.save and safetensors"
    )


def _torch_archive(path: Path) -> bool:
    """Whether a zip file was written by `torch.save`; raises where it is a program or fails its checksums."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            return False
        if any(name.endswith("/constants.pkl") for name in names):
            raise SpikeattnError(
                f"checkpoint {path}: this is a TorchScript program, not weights; save the model's state_dict instead"
            )
        check_archive(path, archive)
        if damaged := archive.testzip():  # torch.load itself does not look at the checksums
            raise SpikeattnError(
                f"checkpoint {path}: the file is damaged: {damaged!r} in it fails its checksum; download it again"
            )
    return True


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            card = dict(sorted((file.metadata() or {}).items()))  # it gives its entries in any order
            return {key: file.get_tensor(key) for key in file.keys()}, card  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise SpikeattnError(
            f"checkpoint {path}: no complete safetensors file ({path.stat().st_size:,} bytes; {error}); "
            "download it again"
        ) from None


def _choose(path: Path, content: Any, weights: str) -> tuple[str, Mapping[str, Tensor], list[str]]:
    """The entry asked for, its tensors, and a note where there was a choice."""
    if _is_state_dict(content):
        if weights == "ema":
            raise SpikeattnError(f"checkpoint {path}: it holds one set of weights and no EMA; use weights='auto'")
        return "all", content, []
    if not isinstance(content, Mapping):
        raise SpikeattnError(f"checkpoint {path}: it holds a {type(content).__name__}, not a dictionary of weights")
    model = next((key for key in MODEL_KEYS if _is_state_dict(content.get(key))), None)
    ema = next((key for key in EMA_KEYS if _is_state_dict(content.get(key))), None)
    which = {"model": model, "ema": ema, "auto": model or ema}[weights]
    if which is None:
        found = ", ".join(repr(key) for key in list(content)[:8]) or "nothing"
        there = f"weights are under {model or ema!r}" if model or ema else f"valid entries are {MODEL_KEYS + EMA_KEYS}"
        raise SpikeattnError(f"checkpoint {path}: no weights for weights={weights!r} (it holds {found}; {there})")
    notes = []
    if model and ema:
        notes.append(f"took {which!r}; the file also holds {(ema if which == model else model)!r}")
    return which, content[which], notes


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _unwrap(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    while prefix := next((wrapper for wrapper in WRAPPERS if all(key.startswith(wrapper) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _to_float32(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    others = sorted(
        {str(x.dtype).removeprefix("torch.") for x in state.values() if x.is_floating_point()} - {"float32"}
    )
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    return state, [f"weights stored as {dtype} were converted to float32" for dtype in others]


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [key for key, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        first = state[bad[0]]
        nans, infinite = int(torch.isnan(first).sum()), int(torch.isinf(first).sum())
        raise SpikeattnError(
            f"checkpoint {path}: weights are not finite in {len(bad)} of {len(state)} tensors, first in {bad[0]!r} "
            f"({nans} NaN and {infinite} infinite of {first.numel()}); the training diverged or the file is damaged"
        )


def _plain(value: Any) -> Any:
    """Numbers, strings and flat settings of a training checkpoint; None for tensors, optimizers and the like."""
    if isinstance(value, argparse.Namespace):
        return {key: item for key, item in sorted(vars(value).items()) if item is None or _is_plain(item)}
    return value if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, int) and value.bit_length() > _WIDEST:
        return False
    return isinstance(value, bool | int | float | str)

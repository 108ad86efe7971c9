"""Files of `torch.save`, read without running any code in them, and what a refused one wanted to run."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from spikeattn.compat.safe_pickles import load_weights
from spikeattn.errors import SpikeattnError

# What torch lets a pickle call, that weights do not need, and that fills as much memory as a number in it says. A
# tensor or a storage made by its size takes none before somebody writes to it; `check_tensors` sees it first.
_GREEDY = ("__builtin__ bytearray", "builtins bytearray")


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, with `argparse.Namespace` (timm's `args`) as the only type allowed besides torch's."""
    if greedy := _greedy(path):
        raise SpikeattnError(
            f"checkpoint {path}: refused, because its pickle calls {greedy}, which could take any amount of memory; "
            "save the weights alone with torch.save or as safetensors"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_weights(path)
    except Exception as error:  # a damaged pickle can raise anything
        message = str(error)
        refused = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", message)  # the second in torch 2.1
        wanted = refused[1].rstrip(".") if refused else _stranger(path)
        if wanted:
            torchs = wanted.startswith("torch.")  # such as the tensors of a later version, or torch.hub
            why = f"torch {torch.__version__} does not allow in weights" if torchs else "could run code"
            raise SpikeattnError(
                f"checkpoint {path}: refused, because its pickle wants {wanted}, which {why}. "
                "If you trust the file, load it with your own torch.load(..., weights_only=False) once and "
                "save the weights alone with safetensors.torch.save_file"
            ) from None
        if "Unsupported operand" in message:
            raise SpikeattnError(
                f"checkpoint {path}: written with a newer pickle protocol than torch reads safely; save it again with "
                "torch.save and its own protocol, 2, or the weights alone as safetensors"
            ) from None
        told = re.search(r"WeightsUnpickler error:\s*(.+)", message)
        reason = (told[1] if told else message).strip().partition("\n")[0] or type(error).__name__
        raise SpikeattnError(
            f"checkpoint {path}: torch cannot read it as weights ({reason[:200]}); the file is damaged or truncated, "
            "or was not written by torch.save"
        ) from None


def _greedy(path: Path) -> str | None:
    """The first entry of `_GREEDY` in a pickle; read from its opcodes, nothing is run."""
    content = _pickle_of(path)
    if not any(f"c{name.replace(' ', chr(10))}\n".encode() in content for name in _GREEDY):
        return None  # as nearly always: going through the opcodes takes a second per million
    try:
        names = (argument for opcode, argument in _opcodes(content) if opcode in ("GLOBAL", "INST"))
        return next((name.replace(" ", ".") for name in names if name in _GREEDY), None)
    except (ValueError, IndexError, EOFError, UnicodeDecodeError):  # damaged, as torch will say
        return None


def _stranger(path: Path) -> str | None:
    """The first type or function a pickle names that weights do not need; read from its opcodes, nothing is run.

    torch gives up before it comes to the name where the pickle has a protocol above 2.
    """
    harmless = {"collections.OrderedDict", "argparse.Namespace"}
    texts: list[str] = []  # those on the stack, more or less: enough for the two that STACK_GLOBAL takes
    memo: list[str | None] = []
    last: str | None = None
    try:
        for opcode, argument in _opcodes(_pickle_of(path)):
            name = None
            if opcode == "PROTO":
                memo.clear()
            if opcode == "MEMOIZE":
                memo.append(last)
                continue
            last = argument if isinstance(argument, str) and opcode.endswith("UNICODE") else None
            if opcode in ("BINGET", "LONG_BINGET") and argument < len(memo):
                texts += [text for text in memo[argument : argument + 1] if text is not None]
            elif last is not None:
                texts.append(last)
            elif opcode == "STACK_GLOBAL":
                name = ".".join(texts[-2:])
            elif opcode in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".")
            if name is not None and name not in harmless and not name.startswith("torch."):
                return name
    except Exception:  # a damaged pickle can raise anything; torch has already said so
        return None
    return None


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    """Every opcode with its argument; old files of torch.save hold several pickles, one after another."""
    pickles = io.BytesIO(content)
    while pickles.read(1) == b"\x80":
        pickles.seek(-1, io.SEEK_CUR)
        for opcode, argument, _ in pickletools.genops(pickles):
            yield opcode.name, argument


def _pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch.save; the whole file where it is no archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))

"""torch's reading of weights alone with one type more, `argparse.Namespace`, in every version of torch.

Before torch 2.5 its reader takes no further types. There the pickle is handed to it with an OrderedDict, which it
knows, in the place of each namespace, and what comes back is turned round again; nothing is run that torch refuses.
"""

from __future__ import annotations

import argparse
import io
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

_NAMESPACE, _STAND_IN = b"cargparse\nNamespace\n", b"ccollections\nOrderedDict\n"


def load_weights(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; raises whatever torch raises of a file that holds other types."""
    if hasattr(torch.serialization, "safe_globals"):
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    return load_by_stand_in(path)


def load_by_stand_in(path: Path) -> Any:
    """The same in torch before 2.5."""
    if not zipfile.is_zipfile(path):
        content = path.read_bytes()
        file = io.BytesIO(_with_stand_ins(content)) if _NAMESPACE in content else path
    else:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            found = any(_NAMESPACE in archive.read(name) for name in pickles)
            file = _rewritten(archive, pickles) if found else path
    return _turned_back(torch.load(file, map_location="cpu", weights_only=True))


def _rewritten(archive: zipfile.ZipFile, pickles: list[str]) -> io.BytesIO:
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as made:
        for name in archive.namelist():
            content = archive.read(name)
            made.writestr(name, _with_stand_ins(content) if name in pickles else content)
    copy.seek(0)
    return copy


def _with_stand_ins(content: bytes) -> bytes:
    """The pickles at the beginning of a file with another type in the place of a namespace, made by a call."""
    pieces, done, pickles, before = [], 0, io.BytesIO(content), ""
    while pickles.read(1) == b"\x80":
        start = pickles.seek(-1, io.SEEK_CUR)
        for opcode, argument, offset in pickletools.genops(pickles):
            assert offset is not None  # of a file that can tell
            here, length, new = offset, 0, b""
            if opcode.name == "GLOBAL" and argument == "argparse Namespace":
                length, new = len(_NAMESPACE), _STAND_IN
            elif opcode.name == "NEWOBJ" and before == "EMPTY_TUPLE":
                length, new = 1, b"R"
            if length:
                pieces += [content[done:here], new]
                done = here + length
            before = opcode.name
        assert pickles.tell() > start
    return b"".join([*pieces, content[done:]])


def _turned_back(value: Any) -> Any:
    """A dictionary with its stand-ins as namespaces: an empty OrderedDict with attributes is no state dict."""
    if type(value) is OrderedDict and not value and vars(value):
        return argparse.Namespace(**vars(value))
    if isinstance(value, dict):
        for key, entry in value.items():
            value[key] = _turned_back(entry)
    return value

"""NIR files (Neuromorphic Intermediate Representation, https://neuroir.org), read by the package nir as plain records.

A file is never trusted: it is HDF5 and holds no code, and whatever is wrong with it is one `SpikeattnError`. What nir
takes and calls its things differs by version, and stands here alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from spikeattn.compat.extras import missing_extra
from spikeattn.errors import FAILURES, SpikeattnError

# Bytes that a byte of gzip can hold (1032), and the smallest file to which that is applied.
_DENSEST, _SMALL = 1032, 1 << 16
_TYPES = ("input_type", "output_type", "metadata")  # of every node, beside its own parameters


@dataclass(frozen=True)
class NirNode:
    """A node of a graph.

    Attributes:
        kind: the name of its class in NIR, such as "Conv2d"; "Identity" for the input and output of a subgraph.
        parameters: arrays, and of layers whole numbers and pairs, by their names in NIR.
        shape: of an input or output, without images and time; () where the file does not say it.
    """

    kind: str
    parameters: Mapping[str, Any]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class NirGraph:
    """The graph of a file, its subgraphs as part of it.

    Attributes:
        nodes: by name; of a subgraph's, "subgraph.name".
        edges: pairs of names, in the order of the names.
        version: of NIR that the file says it is of; None where it says none.
    """

    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    version: str | None = None


def read_nir(path: Path, supported: frozenset[str]) -> NirGraph:
    """The graph that a NIR file holds.

    Args:
        supported: kinds of nodes that the caller can use, beside "NIRGraph".

    Raises:
        SpikeattnError: nir is not installed, no such file, no NIR file, a corrupt one, a node of another kind.
    """
    if not path.is_file():
        raise SpikeattnError(f"{path} is a folder" if path.is_dir() else f"there is no file {path}")
    try:
        import h5py
        import nir
    except ImportError as error:
        package = str(error.name or "nir").partition(".")[0]
        raise missing_extra(f"{path}: reading NIR files", package if package == "h5py" else "nir") from error
    try:
        if not h5py.is_hdf5(path):
            raise SpikeattnError(
                f"{path.name} is no NIR file: those are HDF5, as nir.write and the frameworks' export_to_nir write them"
            )
        with h5py.File(path, "r") as file:
            _check_storage(h5py, file, max(path.stat().st_size, _SMALL) * _DENSEST)
            if not isinstance(file.get("node"), h5py.Group):
                raise SpikeattnError(f"{path.name} is no NIR file: it is HDF5, and holds no graph of NIR")
            for name, kind in _kinds(file["node"]):
                _check_kind(path, name, kind, supported)
            version = _text(file["version"][()]) if "version" in file else None
        # Its own check of shapes refuses some older graphs; the caller runs the layers, which finds what does not fit.
        checks = {"type_check": False} if "type_check" in inspect.signature(nir.read).parameters else {}
        graph = nir.read(path, **checks)
        nodes, edges, _, _ = _flattened(nir, graph, "")
    except SpikeattnError:
        raise
    except FAILURES as error:  # h5py, nir and numpy raise most of them on arbitrary bytes
        reason = " ".join(str(error).split())[:200] or "nir gives no reason"
        raise SpikeattnError(f"{path.name} is a corrupt NIR file ({type(error).__name__}: {reason})") from error
    for name, node in nodes.items():
        _check_finite(path, name, node)
    for edge in edges:
        for end in edge:
            if end not in nodes:
                raise SpikeattnError(f"{path.name} is a corrupt NIR file: an edge leads to {end!r}, which is no node")
    return NirGraph(dict(sorted(nodes.items())), tuple(sorted(set(edges))), version)


def _check_storage(h5py: Any, group: Any, room: int) -> int:
    """Refuse what lies outside the file, and more than it can hold.

    Args:
        room: bytes that are left for the arrays of this group and all that follow.

    Returns:
        What is left behind it.

    Raises:
        ValueError: naming it.
    """
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is a link to another place")
        item = group[name]
        if isinstance(item, h5py.Group):
            room = _check_storage(h5py, item, room)
        elif item.external or item.is_virtual:
            raise ValueError(f"{name!r} lies in another file")
        elif (room := room - item.nbytes) < 0:
            raise ValueError(f"{name!r} claims more bytes than the file can hold")
    return room


def _kinds(group: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and kind of every node of a group of the file; nir, which knows no others, says nothing of either."""
    kind = _text(group["type"][()])
    yield name, kind
    for inner, node in group["nodes"].items() if kind == "NIRGraph" else ():
        yield from _kinds(node, f"{name}.{inner}" if name else inner)


def _check_kind(path: Path, name: str, kind: str, supported: frozenset[str]) -> None:
    if not name and kind != "NIRGraph":
        raise SpikeattnError(f"{path.name} holds a single {kind} and no graph")
    if kind not in supported and kind != "NIRGraph":
        known = ", ".join(sorted(supported))
        raise SpikeattnError(f"{path.name}: node {name!r} is a {kind}, which is not supported; supported are {known}")


def _check_finite(path: Path, name: str, node: NirNode) -> None:
    for key, value in node.parameters.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            raise SpikeattnError(f"{path.name}: {key} of node {name!r} holds NaN or infinite values")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _flattened(nir: Any, graph: Any, path: str) -> tuple[dict[str, NirNode], list[tuple[str, str]], str, str]:
    """The nodes and edges of a graph and of those in it, and the names of its input and output.

    Raises:
        ValueError: a subgraph that has not one of each.
    """
    nodes: dict[str, NirNode] = {}
    edges: list[tuple[str, str]] = []
    entry: dict[str, str] = {}  # of the names in this graph, where what flows into them goes
    leave: dict[str, str] = {}
    ends: dict[str, list[str]] = {"Input": [], "Output": []}
    for name, node in graph.nodes.items():
        full = f"{path}.{name}" if path else name
        if isinstance(node, nir.NIRGraph):
            inner, between, entry[name], leave[name] = _flattened(nir, node, full)
            nodes |= inner
            edges += between
            continue
        entry[name] = leave[name] = full
        nodes[full] = _plain(node, inside=bool(path))
        if (kind := type(node).__name__) in ends:
            ends[kind].append(full)
    for source, target in graph.edges:
        edges.append((leave.get(source, source), entry.get(target, target)))
    if path and not all(len(names) == 1 for names in ends.values()):
        raise ValueError(f"the subgraph {path!r} has {len(ends['Input'])} inputs and {len(ends['Output'])} outputs")
    first, last = (names[0] if names else "" for names in (ends["Input"], ends["Output"]))
    return nodes, edges, first, last


def _plain(node: Any, inside: bool) -> NirNode:
    """A node without nir's classes; the ends of a subgraph let everything pass."""
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        shape = next(iter((node.input_type if kind == "Input" else node.output_type).values()), None)
        size = () if shape is None else tuple(int(n) for n in np.atleast_1d(shape))
        return NirNode("Identity" if inside else kind, {}, size)
    parameters = {f.name: getattr(node, f.name) for f in fields(node) if f.name not in _TYPES}
    return NirNode(kind, {key: _value(value) for key, value in parameters.items() if value is not None})


def _value(value: Any) -> Any:
    """An array with axes stays one; numbers are Python's own, and texts texts."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind not in "f":
        value = value.item()
    return _text(value) if isinstance(value, (bytes, str)) else value

"""A NIR file (Neuromorphic Intermediate Representation, https://neuroir.org) as a network over time.

The package nir reads the file; layers are torch's, neurons follow NIR's equations, and the wiring is done here. What
else imports NIR graphs changes some of them in silence: the interpreter of nirtorch 2.6 gives affine layers a random
bias and adds three inputs in an order that differs from process to process, sinabs 3.1 passes over nodes that it does
not know, snnTorch 1.0 gives IF neurons a leak. Where they do not, the spikes are equal
(tests/models/test_nir_network.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.boundary.arguments import whole_number
from spikeattn.compat.nir_file import NirGraph, NirNode, read_nir
from spikeattn.compat.python_names import file_sha256
from spikeattn.errors import FAILURES, SpikeattnError, unknown
from spikeattn.models.configs import note
from spikeattn.models.nir_layers import LAYERS
from spikeattn.models.nir_neurons import INTEGRATING, SPIKING, NirIntegrator, NirNeuron
from spikeattn.models.nir_order import run_order
from spikeattn.models.nir_time import time_step

SUPPORTED = frozenset({*LAYERS, *SPIKING, *INTEGRATING, "Input", "Output"} - {"Identity"})
ARGUMENTS = ("dt", "time_steps")
_STATES = (NirNeuron, NirIntegrator)


def load_nir(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network of a NIR file, in eval mode.

    Args:
        name: path of the file.
        arguments: `dt`, the time step in the unit of the file's time constants, where the file leaves it open;
            `time_steps`, how often a still image is shown.

    Returns:
        `NirNetwork`, with its `provenance`.

    Raises:
        SpikeattnError: nir is not installed, no such file, no NIR file, a corrupt one, a node that is not supported,
            layers that do not fit together, an unknown argument, a time step that is missing.
    """
    path = Path(name).expanduser()
    for key in arguments:
        if key not in ARGUMENTS:
            raise unknown(f"argument of {path.name}", key, ARGUMENTS)
    time_steps = arguments.get("time_steps")
    if time_steps is not None:
        time_steps = whole_number("time_steps", time_steps, 1)
    graph = read_nir(path, SUPPORTED)
    dt, reason = time_step(path.name, graph.nodes, arguments.get("dt"))
    network = NirNetwork(path.name, graph, dt, time_steps).eval()
    _try_once(path.name, network)
    with path.open("rb") as file:
        sha256 = file_sha256(file)
    provenance = {
        "name": path.name,
        "config": {"dt": dt, "time_steps": time_steps},
        "trained": None,
        "checkpoint": path.name,
        "sha256": sha256,
        "weights": "nir",
        "notes": [f"NIR: time step dt = {dt:g}, {reason}"],
        "card": {} if graph.version is None else {"nir": graph.version},
    }
    note(network, provenance=provenance)
    return network


class NirNetwork(nn.Module):
    """The layers and neurons of a NIR graph over time, from rest: layer by layer, a recurrent graph step by step.

    [B, T, ...] frames, or [B, ...] still images that are shown `time_steps` times -> [T, B, ...] of the graph's output.

    Attributes:
        nodes: by their names in the file, with "_" for ".".
        input_shape: of one image at one time step.
    """

    def __init__(self, name: str, graph: NirGraph, dt: float, time_steps: int | None = None) -> None:
        super().__init__()
        self.file, self.time_steps = name, time_steps
        first, last = (_only(name, graph, kind) for kind in ("Input", "Output"))
        self.input_shape = graph.nodes[first].shape
        if len(self.input_shape) == 3:
            self.in_chans, self.img_size = self.input_shape[0], tuple(self.input_shape[1:])
        if len(classes := graph.nodes[last].shape) == 1:
            self.num_classes = classes[0]
        states = [node for node, found in graph.nodes.items() if found.kind in (*SPIKING, *INTEGRATING)]
        order, waiting = run_order(name, list(graph.nodes), graph.edges, first, states)
        self._recurrent = bool(waiting)
        self.nodes = nn.ModuleDict()
        path = {first: "", last: ""}  # of its modules, by its name in the file
        for node in order:
            if node not in path:
                path[node] = self._path(node)
                self.nodes[path[node]] = _module(name, node, graph.nodes[node], dt, "s" if waiting else "m")
        self._order, self._first, self._last, self._paths = order, first, last, path
        # What each node adds up, in the order of the names in the file, and whether it is of the step before.
        self._sources = {
            node: [(source, (source, node) in waiting) for source, target in graph.edges if target == node]
            for node in order
        }
        self._kept = sorted({source for source, _ in waiting})

    def _path(self, name: str) -> str:
        """A name that a module can bear."""
        path = name.replace(".", "_") or "_"
        while path in self.nodes or hasattr(self.nodes, path):
            path += "_"
        return path

    def forward(self, x: Tensor) -> Tensor:
        frames = self._frames(x)  # [T, B, ...]
        self.reset()
        if not self._recurrent:
            return self._run(frames, {})
        kept = {node: frames.new_zeros(frames.shape[1], *self._module(node).shape) for node in self._kept}
        return torch.stack([self._run(frame, kept) for frame in frames])

    def _run(self, x: Tensor, kept: dict[str, Tensor]) -> Tensor:
        """All nodes once, on one time step [B, ...] of a recurrent graph, or else on all of them, [T, B, ...].

        Args:
            kept: by neuron, what it handed back in the step before; replaced by what it hands back now.
        """
        values = {self._first: x}
        for node in self._order[1:]:
            given = [kept[source] if late else values[source] for source, late in self._sources[node]]
            total = given[0]
            for other in given[1:]:
                total = total + other
            values[node] = total if node == self._last else self._applied(node, total)
        kept.update({node: values[node] for node in self._kept})
        return values[self._last]

    def _applied(self, node: str, x: Tensor) -> Tensor:
        module = self._module(node)
        if self._recurrent or isinstance(module, _STATES):
            return module(x)
        return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def reset(self) -> None:
        """Put every state back to rest, as each forward pass does when it begins."""
        for module in self.nodes.values():
            if isinstance(module, _STATES):
                module.reset()

    def _module(self, node: str) -> Any:
        return self.nodes[self._paths[node]]

    def _frames(self, x: Tensor) -> Tensor:
        """The input of every time step, [T, B, ...].

        Raises:
            SpikeattnError: of another shape, of another T, or still images without `time_steps`.
        """
        size, T = self.input_shape, self.time_steps
        if tuple(x.shape[1:]) == size and x.dim() == len(size) + 1:
            if T is None:
                raise SpikeattnError(
                    f"{self.file} runs over time, and images of shape {tuple(x.shape)} have no time axis: give frames "
                    f"[B, T, {_listed(size)}], or time_steps= (--model-arg time_steps=T), how often an image is shown"
                )
            return x.expand(T, *x.shape)
        if tuple(x.shape[2:]) != size or x.dim() != len(size) + 2:
            raise SpikeattnError(
                f"{self.file} takes frames [B, T, {_listed(size)}] or images [B, {_listed(size)}], and gets "
                f"{tuple(x.shape)}"
            )
        if T not in (None, x.shape[1]):
            raise SpikeattnError(
                f"{self.file} has time_steps={T}, and frames of shape {tuple(x.shape)} have {x.shape[1]}"
            )
        return x.transpose(0, 1)


def _only(name: str, graph: NirGraph, kind: str) -> str:
    """The one input or output of the graph."""
    names = [node for node, found in graph.nodes.items() if found.kind == kind]
    if len(names) != 1:
        raise SpikeattnError(f"{name} has {len(names)} nodes of kind {kind}; supported is one")
    if kind == "Input" and not graph.nodes[names[0]].shape:
        raise SpikeattnError(f"{name} does not say the shape of its input {names[0]!r}")
    return names[0]


def _module(name: str, node: str, found: NirNode, dt: float, step_mode: str) -> nn.Module:
    """What a node is run as."""
    try:
        if found.kind in LAYERS:
            return LAYERS[found.kind](found)
        return (NirNeuron if found.kind in SPIKING else NirIntegrator)(found, dt, step_mode)
    except FAILURES as error:
        raise SpikeattnError(f"{name}: node {node!r}, a {found.kind}, cannot be built: {error}") from error


def _try_once(name: str, network: NirNetwork) -> None:
    """One step of one black image: what does not fit together is an error of the file, and not of the first batch."""
    try:
        with torch.no_grad():
            network(torch.zeros(1, network.time_steps or 1, *network.input_shape))
    except FAILURES as error:
        reason = " ".join(str(error).split())[:200]
        raise SpikeattnError(f"{name}: its layers do not fit together: {reason}") from error
    finally:
        network.reset()


def _listed(size: tuple[int, ...]) -> str:
    return ", ".join(map(str, size))

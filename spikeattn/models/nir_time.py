"""The time step of a NIR graph: its equations are continuous, and its file says of no step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from spikeattn.boundary.arguments import real_number
from spikeattn.compat.nir_file import NirNode
from spikeattn.errors import SpikeattnError
from spikeattn.models.nir_neurons import LEAKY

_EQUAL = 1e-5  # relative: factors that a framework has stored in float32 (eps 1.2e-7) after a division or two
_KNOWN = "snnTorch and SpikingJelly write for 1e-4 (s), norse for 1e-3, sinabs for 1"


def time_step(name: str, nodes: Mapping[str, NirNode], given: float | None) -> tuple[float, str]:
    """The time step dt that a graph is run with, and where it comes from.

    Frameworks whose neurons add their input as it is write that into the file: then dt r (of IF), dt r / tau and
    dt w_in / tau_syn are 1 for every neuron, and only one dt does that.

    Args:
        name: of the file.
        given: by the user, in the unit of the file's time constants; None to read it off the file.

    Raises:
        SpikeattnError: the file leaves it open, or it is longer than a time constant.
    """
    taus = [np.ravel(node.parameters[key]) for node in nodes.values() for key in LEAKY.get(node.kind, ())]
    shortest = min((float(each.min()) for each in taus), default=np.inf)
    if not shortest > 0:
        raise SpikeattnError(f"{name}: a time constant is {shortest:g}; time constants are above 0")
    if given is not None:
        dt = real_number("dt", given)
        if not 0 < dt <= shortest:
            raise SpikeattnError(
                f"{name}: dt is {dt:g}; give a time step above 0 and up to the shortest tau, {shortest:g}"
            )
        return dt, "given"
    steps = [step for node in nodes.values() for step in _steps(node)]
    if not steps:
        return 1.0, "of no effect: the graph has no neuron with a time constant or a resistance"
    values = np.concatenate(steps)
    dt = float(f"{values[0]:.12g}")  # 1e-4 and not 1.0000000000000002e-4, which is what dividing leaves
    if dt > 0 and np.allclose(values, dt, rtol=_EQUAL, atol=0) and dt < shortest:
        return dt, "read off the file: with it every neuron adds its input as it is"
    raise SpikeattnError(
        f"{name} does not say its time step, which its neurons need: give dt= (--model-arg dt=...), in the unit of its "
        f"time constants, whose shortest is {shortest:g}; {_KNOWN}"
    )


def _steps(node: NirNode) -> Iterator[np.ndarray]:
    """The steps with which the neurons of a node add their input as it is."""
    p = {key: np.ravel(np.asarray(value, dtype=np.float64)) for key, value in node.parameters.items()}
    if "r" not in p:
        return
    with np.errstate(divide="ignore"):
        yield p.get("tau", p.get("tau_mem", np.ones(1))) / p["r"]
        if "tau_syn" in p:
            yield p["tau_syn"] / p["w_in"]

"""Which of SpikingJelly's implementations of a spiking neuron runs on CUDA: chosen here, and named for every result.

SpikingJelly has a native one (only in builds from source), a Triton one and a plain torch one; "auto" takes the first
of these that works. It reads the choice from environment variables once, when the first neuron runs. On the CPU there
is only torch. Implementations need not agree to the last bit, so a result without this name is not reproducible.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import torch

from spikeattn.compat.spikingjelly_version import is_current, spikingjelly_version, what_is_there
from spikeattn.errors import SpikeattnError, unknown

CHOICES = {"auto": "auto", "native": "cuda", "triton": "triton", "torch": "torch"}  # our word: SpikingJelly's
NEURONS = ("if_", "lif", "plif", "ilif")  # SpikingJelly's packages of the neurons that models here are made of


def select_implementation(choice: str) -> None:
    """Choose SpikingJelly's CUDA implementation of IF, LIF, PLIF and I-LIF neurons for this process.

    Args:
        choice: "auto", "native", "triton" or "torch".

    Raises:
        SpikeattnError: the choice is unknown, cannot work here, or comes after neurons have run with another.
    """
    if choice not in CHOICES:
        raise unknown("neuron implementation", choice, CHOICES)
    for package in NEURONS:
        running = _bound(package)
        if running not in (None, CHOICES[choice]):
            raise SpikeattnError(
                f"neuron implementation {choice!r} comes too late: SpikingJelly's neurons have already run in this "
                f"process with {_our_word(running)!r}. Choose before the first forward pass, or start a new process"
            )
    if reason := _unavailable(choice):
        raise SpikeattnError(f"neuron implementation {choice!r} cannot work here: {reason}; or use 'auto'")
    for package in NEURONS:
        os.environ[_variable(package)] = CHOICES[choice]


def requested_implementation() -> str:
    """The choice in force for LIF neurons: "auto" unless chosen here or in the environment."""
    return _our_word(_bound("lif") or os.environ.get(_variable("lif"), "auto"))


def implementation_in_use(device: torch.device | str) -> str:
    """Name of the implementation that LIF neurons run on a device, such as "torch (cpu)" or "triton (cuda)".

    Raises:
        SpikeattnError: SpikingJelly has no implementation for the device, or not the chosen one.
    """
    device = torch.device(device)
    if device.type == "cpu" or spikingjelly_version() is None:
        return f"torch ({device.type})"
    if not is_current():
        return f"backend= of each ({device.type})"
    from spikingjelly.activation_based.functional import neuron_implementation

    try:
        used = str(neuron_implementation("lif", device)["implementation"])
    except (RuntimeError, ValueError, AssertionError) as error:  # torch without CUDA asserts
        raise SpikeattnError(
            f"SpikingJelly's neurons cannot run on {device} with implementation {requested_implementation()!r}: {error}"
        ) from None
    return f"{_our_word(used.removesuffix('-reference'))} ({device.type})"


def _variable(package: str) -> str:
    return f"SJ_{package.rstrip('_').upper()}_CUDA_IMPLEMENTATION"


def _bound(package: str) -> str | None:
    """SpikingJelly's word for the choice that its operators were loaded with; None before the first neuron runs."""
    operators = sys.modules.get(f"spikingjelly._ops.{package}")
    selection = getattr(operators, "_selection", None)
    return getattr(selection, "_requested", None)


def _our_word(theirs: str) -> str:
    return next((ours for ours, word in CHOICES.items() if word == theirs), theirs)


def _unavailable(choice: str) -> str:
    """Why a choice cannot work on this machine; empty where it can."""
    if choice in ("native", "triton") and not is_current():
        return f"it is of SpikingJelly 2, {what_is_there()}"
    if choice in ("native", "triton") and not torch.cuda.is_available():
        return "it needs a CUDA device and this machine has none (on the CPU, neurons always run in torch)"
    if choice == "native" and not _native_operators():
        return "SpikingJelly was installed without native operators (they need a build from source)"
    if choice == "triton" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return ""


def _native_operators() -> bool:
    """Whether SpikingJelly's compiled LIF is installed; looks for the file, since an import would bind the choice."""
    spec = importlib.util.find_spec("spikingjelly")
    folders = spec.submodule_search_locations if spec else None
    return any(list(Path(folder, "_ops", "lif").glob("_C*")) for folder in folders or [])

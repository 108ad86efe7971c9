"""Neurons and layers of older SpikingJelly, and arguments of theirs that the present ones do not take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from spikeattn.compat.replacements import LOADS
from spikeattn.errors import SpikeattnError

# What was an implementation of the same dynamics; "lava" computes others.
_BACKENDS = ("torch", "cupy", "triton")
# Methods by which a neuron changed its dynamics up to SpikingJelly 1; its present neurons never call them.
_DYNAMICS = ("neuronal_charge", "neuronal_fire", "neuronal_reset")


def _multi_step(old: str, parent: type[nn.Module], names: Sequence[str], needed: str = "") -> type[nn.Module]:
    """The class that ran over all time steps in one call: the present one with step_mode="m".

    Args:
        names: its positional arguments, in the order that they had.
        needed: an argument whose old default is not known here.
    """

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(names):
            raise TypeError(f"{old}() takes {len(names)} positional arguments and {len(args)} were given")
        arguments = dict(zip(names, args, strict=False)) | kwargs
        if needed and needed not in arguments:
            raise TypeError(f"{old}() of spikingjelly.cext needs {needed}=, whose old default is not known")
        _leave_out(arguments.pop("backend", "torch"))
        for implementation in ("cupy_fp32_inference", "lava_s_cale", "alpha"):
            arguments.pop(implementation, None)
        if isinstance(arguments.get("surrogate_function"), str):  # in cext; it is about gradients alone
            del arguments["surrogate_function"]
        parent.__init__(self, **arguments, step_mode="m")

    doc = f"{old} of older SpikingJelly: {parent.__name__} over all time steps."
    members = {"__init__": __init__, "__module__": __name__, "__qualname__": old, "__doc__": doc}
    metaclass: Any = type(parent)
    cls: type[nn.Module] = metaclass(old, (parent,), members)
    return cls


def _leave_out(backend: Any) -> None:
    """Check an implementation of neurons that was asked for, and note that the installed version chooses its own."""
    if backend not in _BACKENDS:
        raise SpikeattnError(
            f"backend={backend!r} of a neuron: its dynamics are not those of SpikingJelly's other backends "
            f"({', '.join(_BACKENDS)}), and the installed version does not have it"
        )
    if backend != "torch" and LOADS:
        LOADS[-1].say(f"backend={backend!r}: left out, the installed SpikingJelly chooses by the device")


_REST = ("v_threshold", "v_reset", "surrogate_function", "detach_reset", "backend")
MultiStepIFNode = _multi_step("MultiStepIFNode", neuron.IFNode, _REST)
MultiStepLIFNode = _multi_step("MultiStepLIFNode", neuron.LIFNode, ("tau", "decay_input", *_REST))
MultiStepParametricLIFNode = _multi_step(
    "MultiStepParametricLIFNode", neuron.ParametricLIFNode, ("init_tau", "decay_input", *_REST)
)
MultiStepEIFNode = _multi_step(
    "MultiStepEIFNode", neuron.EIFNode, ("tau", "delta_T", "theta_rh", "v_threshold", "v_rest", *_REST[1:])
)
# Of spikingjelly.cext, with the same names there; the order of their arguments is not known here.
CextIFNode = _multi_step("CextIFNode", neuron.IFNode, ())
CextLIFNode = _multi_step("CextLIFNode", neuron.LIFNode, (), "tau")
CextParametricLIFNode = _multi_step("CextParametricLIFNode", neuron.ParametricLIFNode, ())


class MultiStepDropout(layer.Dropout):
    """One mask for all time steps, of older SpikingJelly."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(layer.Dropout2d):
    """One mask of whole channels for all time steps, of older SpikingJelly."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p, step_mode="m")


MULTI_STEP = (MultiStepIFNode, MultiStepLIFNode, MultiStepParametricLIFNode, MultiStepEIFNode)


def check_dynamics(model: nn.Module) -> None:
    """Refuse neurons whose own dynamics the installed SpikingJelly would silently leave aside.

    Raises:
        SpikeattnError: a class derived from one of its neurons overrides a method that is never called any more.
    """
    if hasattr(neuron.BaseNode, _DYNAMICS[0]):
        return
    for path, module in model.named_modules():
        if not isinstance(module, neuron.BaseNode):
            continue
        for cls in type(module).__mro__:
            theirs = cls.__module__.startswith("spikingjelly.")
            if not theirs and (own := [name for name in _DYNAMICS if name in vars(cls)]):
                raise SpikeattnError(
                    f"{cls.__name__} (module {path}) changes its dynamics by {', '.join(own)}, which the neurons of "
                    "the installed SpikingJelly never call: its spikes would be those of "
                    f"{next(c.__name__ for c in cls.__mro__ if c.__module__.startswith('spikingjelly.'))}. Derive it "
                    "from neuron.SimpleBaseNode, or write its forward"
                )


@contextmanager
def backends_left_out() -> Iterator[None]:
    """Neurons take `backend=` and leave it aside: the installed version chooses by the device of the tensor."""
    changed: list[tuple[type, Callable[..., None]]] = []
    for cls in {each for each in vars(neuron).values() if isinstance(each, type)}:
        init = vars(cls).get("__init__")
        if init is not None and cls.__module__.startswith(neuron.__name__) and not _takes_backend(init):
            type.__setattr__(cls, "__init__", _tolerant(init))
            changed.append((cls, init))
    added = not hasattr(functional, "set_backend")
    if added:

        def set_backend(net: nn.Module, backend: str, *args: Any, **kwargs: Any) -> None:
            _leave_out(backend)

        functional.set_backend = set_backend
    try:
        yield
    finally:
        for cls, init in changed:
            type.__setattr__(cls, "__init__", init)
        if added:
            del functional.set_backend


def _takes_backend(init: Callable[..., None]) -> bool:
    return "backend" in inspect.signature(init).parameters


def _tolerant(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if "backend" in kwargs:
            _leave_out(kwargs.pop("backend"))
        init(self, *args, **kwargs)

    return __init__

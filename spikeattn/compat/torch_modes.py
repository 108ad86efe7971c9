"""Modes of torch that have no public view, or another one before a version; from torch 2.1 on.

torch itself is imported inside: the rooms that price runs load without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class KeepsHandler:
    """First base of a dispatch mode whose handler torch calls as it is.

    Newer versions wrap it, so that `torch.compile` compiles nothing inside, which doubles what a call of it costs. For
    modes under which nothing that is compiled runs (`force_eager`).
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def top_mode() -> Any:
    """The dispatch mode that sees an operation first, or None: the only one that may leave the stack of modes."""
    from torch.utils import _python_dispatch as dispatch

    return dispatch._get_current_dispatch_mode()


def without_dispatch() -> AbstractContextManager[None]:
    """Inside, no dispatch mode sees an operation: for kernels, which run none of a network's."""
    import torch

    guard: AbstractContextManager[None] = torch._C._DisableTorchDispatch()
    return guard


def autograd_inside_dispatch() -> AbstractContextManager[None]:
    """Inside a dispatch mode's handler, which autograd has called: autograd as it was around the operation."""
    from torch.overrides import enable_reentrant_dispatch

    return enable_reentrant_dispatch()


def orderable(x: Tensor) -> Tensor:
    """A tensor whose extremes torch can find on its device: float16 on a CPU as float32, which torch 2.1 needs."""
    return x.float() if x.device.type == "cpu" and str(x.dtype) == "torch.float16" else x


def math_attention() -> AbstractContextManager[None]:
    """Inside, scaled-dot-product attention runs by its math kernel: products and a softmax of their own."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # before torch 2.3
        from torch.backends.cuda import sdp_kernel

        kernel: Any = sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)
        return kernel
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def without_memory() -> Iterator[None]:
    """Inside, what a network is made of has shapes on the device "meta", and no memory.

    Rates of stochastic depth are read as numbers while a network is made, by timm before 0.9 from a tensor; such a
    tensor keeps its values.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class KeptRanges(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = dict(kwargs or {})
            if func is torch.linspace:
                options.setdefault("device", "cpu")
            return func(*args, **options)

    with torch.device("meta"), KeptRanges():
        yield


@contextmanager
def slow_attention() -> Iterator[None]:
    """Without the fast path of `nn.MultiheadAttention` and `nn.TransformerEncoderLayer`; afterwards as it was."""
    import torch
    from torch.overrides import TorchFunctionMode

    if not hasattr(torch.backends, "mha"):  # before torch 2.3, where the fast path is left while any such mode is on

        class Mode(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return func(*args, **(kwargs or {}))

        with Mode():
            yield
        return
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def force_eager() -> Iterator[None]:
    """Inside, whatever `torch.compile` has compiled runs as plain Python."""
    import torch

    if hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    # Before torch 2.6: compiled code runs where this function has told Python's interpreter of it.
    from torch._dynamo import eval_frame

    told = eval_frame.set_eval_frame
    vars(eval_frame)["set_eval_frame"] = lambda callback: None
    try:
        yield
    finally:
        vars(eval_frame)["set_eval_frame"] = told


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """torch's formula of an operation's FLOPs, by the operation: of the shapes of its arguments and of `out_shape`."""
    from torch.utils import flop_counter as counter

    if not hasattr(counter, "flop_registry"):  # before torch 2.2
        return dict(vars(counter)["flop_mapping"])

    def of_shapes(formula: Callable[..., int]) -> Callable[..., int]:
        return lambda *shapes, out_shape=None, **options: formula(*shapes, out_val=out_shape, **options)

    return {operation: of_shapes(formula) for operation, formula in counter.flop_registry.items()}


def flop_counter(model: nn.Module | None = None, formulas: Mapping[Any, Callable[..., int]] | None = None) -> Any:
    """torch's counter of FLOPs, silent.

    Args:
        model: what the counts are told apart by the modules of.
        formulas: in the place of torch's own.
    """
    from torch.utils import flop_counter as counter

    given = None if formulas is None else dict(formulas)
    if hasattr(counter, "ModuleTracker"):
        return counter.FlopCounterMode(display=False, custom_mapping=given)
    return counter.FlopCounterMode(model, display=False, custom_mapping=given)  # before torch 2.4

"""Which layers of a network may receive zeros: those whose operand comes out of a ReLU, or is the image.

Behind GELU, softmax, a norm or a residual sum a zero is an accident. A ReLU's zeros survive what moves, selects or
scales values, and no sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import Tensor, nn

# Functions of torch by name: those that make zeros of a range of inputs, and those behind which they stay zeros.
_CLIPS = {"relu", "relu_", "hardtanh", "hardtanh_", "threshold", "threshold_", "hardswish", "hardswish_", "hardsigmoid"}
_KEEPS = {
    "view", "reshape", "flatten", "unflatten", "transpose", "permute", "movedim", "squeeze", "unsqueeze", "expand",
    "contiguous", "clone", "detach", "to", "chunk", "split", "unbind", "select", "narrow", "roll", "pad", "dropout",
    "max_pool1d", "max_pool2d", "max_pool3d", "cat", "stack", "__getitem__", "mul", "mul_", "__mul__", "__rmul__",
    "div", "div_", "__truediv__", "view_as", "reshape_as", "swapaxes", "repeat", "__get__", "adaptive_max_pool2d",
}  # fmt: skip
_ALL = {"cat", "stack"}  # zeros of a share as given only where every operand has them


def behind_relu(model: nn.Module, image: Tensor) -> set[str]:
    """Paths of the convolutions and linear layers that receive what a ReLU has put out, whenever they run.

    Args:
        image: a batch of one image; on the meta device too, for no value is looked at.
    """
    import torch
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode
    from torch.utils.weak import WeakIdKeyDictionary

    known = WeakIdKeyDictionary()

    def tensors(value: Any) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        return [each for item in value for each in tensors(item)] if isinstance(value, tuple | list) else []

    class Following(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            given = tensors(args)
            has = [each in known for each in given]  # before an operation in place changes them
            result = func(*args, **(kwargs or {}))
            kept = name in _KEEPS and (all(has) if name in _ALL else any(has)) and bool(given)
            if name == "clamp" or name == "clamp_min":
                kept = _low(args, kwargs or {}) == 0
            for each in tensors(result):
                if name in _CLIPS or kept:
                    known[each] = True
                elif name not in _TRANSPARENT:
                    known.pop(each, None)
            return result

    met: dict[str, bool] = {}

    def tap(path: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            met[path] = met.get(path, True) and bool(args) and isinstance(args[0], Tensor) and args[0] in known

        return look

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    handles = [m.register_forward_pre_hook(tap(path)) for path, m in model.named_modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad(), Following():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return {path for path, relu in met.items() if relu}


# Wrappers in torch.nn.functional around the functions above: what they return has been judged inside.
_TRANSPARENT = {"relu6", "fn", "dropout1d", "dropout2d", "dropout3d", "boolean_dispatch", "<lambda>"}


def _low(args: Any, kwargs: Any) -> Any:
    return kwargs.get("min", args[1] if len(args) > 1 else None)


def fed_by_neurons(ledger: Ledger, name: str) -> bool:
    """Whether a tensor of a spiking network comes out of neurons, in whose place its twin has ReLUs.

    Masks and products of spiking attention are not: softmax attention stands in their place.
    """
    tensor = ledger.tensor(name)
    if tensor.maker == "neuron":
        return True
    if tensor.maker in ("mask", "op") and tensor.part == "attention":
        return False
    return (
        tensor.maker in ("pool", "mask", "op")
        and bool(tensor.sources)
        and all(fed_by_neurons(ledger, source) for source in tensor.sources)
    )

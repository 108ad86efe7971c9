"""Dropout in a recorded pass: its operations run in training alone, and the plan is of eval mode."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from spikeattn.counting.recorder import Recorder
from spikeattn.tracing.nested_tensors import tensors_in

_DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)


class FunctionalDropout(TorchFunctionMode):
    """Keeps the operations of dropout out of the count: they run in training alone, and the plan is of eval mode.

    Attributes:
        called: a function of dropout was called, whether it dropped or not.
        ran: one has dropped.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder, self.called, self.ran = recorder, False, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tuple(args), kwargs or {}
        tally = self._recorder.tally
        if func not in _DROPOUT or tally is None or not self._recorder.counts:
            return func(*args, **kwargs)
        self.called = True
        with self._recorder.muting():
            out = func(*args, **kwargs)
        options = {"p": 0.5, "training": True} | dict(zip(("p", "training"), args[1:3], strict=False)) | kwargs
        if options["p"] and options["training"]:
            self.ran = True
            tally.dropout = True
            self._recorder.note_dropout(next(tensors_in((args, kwargs))), out)
        return out


def is_dropout(module: nn.Module) -> bool:
    """Whether a module is dropout, under the names that torch, timm and SpikingJelly give it."""
    return type(module).__name__.startswith("Drop")


def drops(model: nn.Module) -> bool:
    """Whether dropout is at work in a model."""
    return any(
        is_dropout(m) and m.training and bool(getattr(m, "p", getattr(m, "drop_prob", 0))) for m in model.modules()
    )

"""Layers without memory in a network over time: in step mode "m" [T, B, ...], one call for all steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def _over_steps(layer: Callable[[Tensor], Tensor], x: Tensor, step_mode: str) -> Tensor:
    if step_mode == "s":
        return layer(x)
    if x.dim() != 5:
        raise ValueError(f"step mode 'm' takes [T, B, C, H, W], and the input has shape {tuple(x.shape)}")
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Conv2d(nn.Conv2d):
    """torch's, over time steps."""

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        return _over_steps(super().forward, x, self.step_mode)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, over time steps: the statistics are those of all of them."""

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        return _over_steps(super().forward, x, self.step_mode)


class MaxPool2d(nn.MaxPool2d):
    """torch's, over time steps."""

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        return _over_steps(super().forward, x, self.step_mode)

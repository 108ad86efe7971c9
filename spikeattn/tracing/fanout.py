"""How many weights an input element of a convolution meets, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ConvGeometry:
    """The arguments of `aten.convolution` that decide its fan-out (1-D, 2-D or 3-D, also transposed)."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int

    @property
    def op(self) -> str:
        """Name of the layer, e.g. "conv2d" or "conv_transpose1d"."""
        return f"conv{'_transpose' * self.transposed}{len(self.kernel)}d"

    @property
    def macs_per_position(self) -> int:
        """Multiply-accumulates per position: of the output of a convolution, of the input of a transposed one."""
        size = int(torch.tensor(self.kernel).prod())
        return self.in_channels * self.out_channels // self.groups * size


def fan_out_map(geometry: ConvGeometry, size: Sequence[int]) -> Tensor:
    """Weights met by an input element at each position, [*size] float64 holding integers.

    An element meets one weight per output channel of its group and kernel tap that lands inside the output, so border
    elements of a padded convolution, and those that a stride skips, have fewer. Computed as the gradient of a
    convolution of ones with respect to its input, which holds for every stride, dilation, padding and transposition.
    """
    spatial = len(geometry.kernel)
    # A gradient of our own, also in the user's inference mode, and out of sight of hooks on theirs (checkpointing).
    own = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with torch.inference_mode(False), torch.enable_grad(), own:
        x = torch.zeros((1, 1, *size), dtype=torch.float64, requires_grad=True)
        w = torch.ones((1, 1, *geometry.kernel), dtype=torch.float64)
        if geometry.transposed:
            transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
            y = transposed(x, w, None, geometry.stride, geometry.padding, geometry.output_padding, 1, geometry.dilation)
        else:
            y = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1](
                x, w, None, geometry.stride, geometry.padding, geometry.dilation
            )
        (uses,) = torch.autograd.grad(y.sum(), x)
    return uses[0, 0] * (geometry.out_channels // geometry.groups)

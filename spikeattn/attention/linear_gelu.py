"""A linear layer and its GELU as one kernel of oneDNN: in bfloat16 the GELU alone takes a tenth of a ViT's pass.

torch's compiler emits the same operator; here it needs no compiler. The GELU is taken before the sum is rounded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.compat.timm_names import Mlp


class LinearGelu(nn.Module):
    """gelu(x W^T + b), inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.linear.weight, self.linear.bias, "gelu", [], "none")


def available() -> bool:
    """Whether torch has the operator and this CPU the arithmetic: bfloat16 is emulated on others."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuse(model: nn.Module) -> int:
    """Puts `LinearGelu` into every one of timm's plain MLPs, in place; how many."""
    found: list[Any] = [module for module in model.modules() if type(module) is Mlp and type(module.act) is nn.GELU]
    found = [mlp for mlp in found if mlp.act.approximate == "none" and type(mlp.fc1) is nn.Linear]
    for mlp in found:
        mlp.fc1, mlp.act = LinearGelu(mlp.fc1), nn.Identity()
    return len(found)

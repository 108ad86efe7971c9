"""Where channels and tokens lie in what a timm network's `forward_features` returns, and back from a map to that.

CNNs return [B, C, h, w], Swin and its kin [B, h, w, C], ViTs [B, N, C] with class and register tokens in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError


@dataclass(frozen=True)
class FeatureLayout:
    """The order of the axes of features.

    Attributes:
        axes: "NCHW", "NHWC", or "NLC" for tokens in a row.
        grid: h, w of the image's tokens where they stand in a row; otherwise the features say it.
        prefix: tokens in front of the image's, such as a class token; in a row only.
    """

    axes: Literal["NCHW", "NHWC", "NLC"]
    grid: tuple[int, int] = (1, 1)
    prefix: int = 0

    def as_map(self, features: Tensor) -> Tensor:
        """Features as the network returns them -> [B, C, h, w], without the tokens in front.

        Raises:
            SpikeattnError: tokens in a row that are not those of the grid, as of images of another size.
        """
        if self.axes == "NCHW":
            return features
        if self.axes == "NHWC":
            return features.permute(0, 3, 1, 2)
        h, w = self.grid
        if features.shape[1] != self.prefix + h * w:
            raise SpikeattnError(
                f"BR-NPA: {features.shape[1]} tokens, and the network had {self.prefix} + {h} x {w} of them when the "
                "head was attached: attach it anew with input_size= of these images"
            )
        return features[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    def as_features(self, maps: Tensor, front: Tensor | None = None) -> Tensor:
        """[B, C, h, w] of any h, w -> features in the network's order.

        front: [B, prefix, C], the tokens in front; zeros unless given.
        """
        if self.axes == "NCHW":
            return maps
        if self.axes == "NHWC":
            return maps.permute(0, 2, 3, 1)
        tokens = maps.flatten(2).transpose(1, 2)
        if front is None:
            front = tokens.new_zeros(len(tokens), self.prefix, tokens.shape[2])
        return torch.cat([front, tokens], 1)


def layout_of(network: nn.Module, features: Tensor) -> FeatureLayout:
    """The layout of features that a timm network has just returned, from their shape and the network's own grid.

    Raises:
        SpikeattnError: features that fit no layout or two of them, or a row of tokens whose grid is not known.
    """
    body: Any = network
    C, name = body.num_features, type(network).__name__
    if features.ndim == 4 and (features.shape[1] == C) != (features.shape[3] == C):
        return FeatureLayout("NCHW" if features.shape[1] == C else "NHWC")
    if features.ndim != 3 or features.shape[2] != C:
        raise SpikeattnError(
            f"BR-NPA: forward_features of {name} gives {tuple(features.shape)} with {C} channels, which is no map "
            "[B, C, h, w] or [B, h, w, C] and no tokens [B, N, C] beyond doubt; call representative_vectors on a map "
            "of your own"
        )
    embedding = getattr(body, "patch_embed", None) or getattr(body, "stem", None)
    grid, prefix = getattr(embedding, "grid_size", None), getattr(body, "num_prefix_tokens", 0)
    if grid is None or prefix + grid[0] * grid[1] != features.shape[1]:
        raise SpikeattnError(
            f"BR-NPA: {name} gives {features.shape[1]} tokens in a row and does not say how they lie in the image (its "
            f"grid: {grid}, tokens in front: {prefix}); call representative_vectors on a map of your own"
        )
    return FeatureLayout("NLC", (int(grid[0]), int(grid[1])), prefix)

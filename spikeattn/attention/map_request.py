"""What a map is asked for with, and its scores before they are put on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model
from spikeattn.attention.placement import Placement
from spikeattn.errors import SpikeattnError, unknown


@dataclass(frozen=True, eq=False)
class MapRequest:
    """The arguments of `attention_map` but for the model and the images.

    Raises:
        SpikeattnError: unknown names of heads, steps or weight.
    """

    kind: str | None = None
    layer: int | str = -1
    heads: str = "mean"
    steps: str = "mean"
    weight: str = "none"
    target: Tensor | None = None
    forward: Forward = call_model

    def __post_init__(self) -> None:
        for name, valid in (("heads", ("mean", "each")), ("steps", ("mean", "each")), ("weight", ("none", "gradient"))):
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)

    @property
    def gradient(self) -> bool:
        """Whether scores are weighted with the gradient of a class."""
        return self.weight == "gradient"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the scores."""
        asked = (("layer", self.layer == "all"), ("step", self.steps == "each"), ("head", self.heads == "each"))
        return ("image", *(name for name, there in asked if there), "row", "column")


class Scores(NamedTuple):
    """A map before it is put on the image; `where` names the module whose output has the same tokens."""

    values: Tensor
    axes: tuple[str, ...]
    kind: str
    layer: int | str | None
    unit: float | None
    placement: Placement | None
    where: nn.Module | None

    def checked(self) -> Scores:
        """The same with values that autograd may use.

        Raises:
            SpikeattnError: NaN or infinite scores.
        """
        if not torch.isfinite(self.values).all():
            raise SpikeattnError(f"the {self.kind} map holds NaN or infinite scores: the model's activations overflow")
        return self._replace(values=self.values.clone()) if self.values.is_inference() else self

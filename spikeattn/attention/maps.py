"""Attention maps of spiking and of ordinary transformers: one score per token, per layer, head and time step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model, check_images
from spikeattn.attention.map_request import MapRequest
from spikeattn.attention.placement import Placement
from spikeattn.attention.scores import scores
from spikeattn.attention.significance import AttentionWarning
from spikeattn.attention.survey_placement import placement_of


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Scores of the tokens of a batch.

    Attributes:
        values: [image, (layer), (step), (head), row, column], float32; not negative, but for real-valued tensors and
            differences of two softmax maps.
        axes: names of the axes of `values`.
        kind: of map: its name, a role or a path.
        layer: number of the block, or "all"; None for a tensor outside the blocks.
        image_size: height and width in pixels.
        unit: value of one spike where scores are rates of spikes, else None; `assess` takes it.
        placement: the pixels of every token.
    """

    values: Tensor
    axes: tuple[str, ...]
    kind: str
    layer: int | str | None
    image_size: tuple[int, int]
    unit: float | None
    placement: Placement = field(repr=False)

    def to_image(self, size: tuple[int, int] | None = None, mode: str = "nearest") -> Tensor:
        """The maps on the pixels of the image, [..., H, W].

        Token i stands on [c - s/2, c + s/2) about the centre c of its receptive field, padding included, s being the
        distance of the centres: half a pixel goes to the later token. Pixels of no token hold 0; `placement.covered()`
        tells them apart.

        Args:
            size: of the picture, if not that of the image.
            mode: "nearest", or "bilinear" between the centres of the tokens.

        Warns:
            AttentionWarning: the receptive fields are not known, and the grid is spread evenly over the image.
        """
        return paint(self.placement, self.values, size, mode)


def paint(placement: Placement, values: Tensor, size: tuple[int, int] | None, mode: str) -> Tensor:
    """`Placement.paint`, with a warning where the tokens' pixels are not known."""
    if not placement.known:
        warnings.warn(f"tokens are spread evenly over the image: {placement.note}", AttentionWarning, stacklevel=3)
    return placement.paint(values, size, mode)


def attention_map(
    model: nn.Module,
    images: Tensor,
    kind: str | None = None,
    *,
    layer: int | str = -1,
    heads: str = "mean",
    steps: str = "mean",
    weight: str = "none",
    target: Tensor | None = None,
    forward: Forward = call_model,
) -> AttentionMap:
    """The attention map of every image.

    Spike-driven Transformer (rates over channels and time steps, at most 1):

    - "Vhat_S" (default): spikes that leave the attention, q * g. "V_S": the spikes q that enter it.
    - "gate": the share of a token's V_S spikes that the gate lets through; 0 for a silent token.
    - "drive": spikes of k * v, the token's votes for opening the gate; after Erode with `dvs`.

    Spikformer: "ssa", the mean over queries j and channels of q_j k_i for key token i; "rate", spikes that leave it.

    Softmax attention (any network without spikes that forms N x N maps, as its layers apply them): "cls", the class
    token's row (default where there is one); "received", the mean over the queries of image tokens; "rollout", the
    product over layers up to `layer` of (A + 1) / 2, the class token's row or the mean over queries. Class and register
    tokens are no part of the map.

    Any network, by the structure that `spikeattn.structure(model, images)` infers: the mean over channels of

    - "attention" (default of other spiking transformers): what the attention of a block hands on: the spikes behind its
      last product, or that product, where it is a mask.
    - "q", "k", "v": what enters the attention as such; spikes where there are some.
    - "gate": the spikes that scale the others, where they have a value per token.
    - "products": the mean over queries of the N x N matrix, where the network forms one.
    - the path of a module, such as "blocks.1.attn.attn_lif", or "path:in" for what it is given; names of products in
      `structure(...).table("tensors")`, such as "block.1.attn.mul_1".

    Args:
        model: one of these; eval mode and reset neurons are seen to, and its modes restored.
        images: [B, C, H, W], or frames [B, T, C, H, W].
        kind: see above.
        layer: block to look at, from 0 or from the end, among those that have attention; "all" adds an axis.
        heads: "mean", or "each" for an axis of heads.
        steps: "mean", or "each" for an axis of time steps, for spiking models.
        weight: "gradient" multiplies scores by the gradient of the predicted class's logit with respect to them, before
            summing over channels, and keeps the positive part; of "ssa" the keys' spikes. Not for "gate", "rollout".
        target: classes [B] instead of the predicted ones, for the gradient.
        forward: calls the model on a batch, where model(images) is not how it takes one, as with a loop over time.

    Returns:
        AttentionMap: [B, h, w] on the grid of the tokens, with axes for layers, time steps and heads where asked for.

    Raises:
        SpikeattnError: a model without attention, or without a map of this kind, and why; unknown names, with the
            closest valid ones; images that do not fit, NaN in the map.
    """
    images = check_images(model, images)
    found = scores(model, images, MapRequest(kind, layer, heads, steps, weight, target, forward))
    size = (int(images.shape[-2]), int(images.shape[-1]))
    grid = (int(found.values.shape[-2]), int(found.values.shape[-1]))
    placed = found.placement
    if placed is None:
        placed = placement_of(model, images, found.where, grid, forward)
    return AttentionMap(found.values, found.axes, found.kind, found.layer, size, found.unit, placed)

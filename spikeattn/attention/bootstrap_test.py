"""Which attention of an image is more than noise: its map, the same map on resampled input, and their significance.

Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339, for ordinary and for spiking
transformers. Replicates of all images are folded into batches; one forward pass of a batch stops at the map it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeattn.attention.applied_maps import KINDS
from spikeattn.attention.capture import Forward, call_model, check_images
from spikeattn.attention.exact_test import exact_test
from spikeattn.attention.map_request import MapRequest
from spikeattn.attention.maps import paint
from spikeattn.attention.nulls import NULLS
from spikeattn.attention.placement import Placement, evenly
from spikeattn.attention.regularize import METHOD, regularize
from spikeattn.attention.replicates import Passes, Statistic, lower, scores_of
from spikeattn.attention.role_target import ROLES
from spikeattn.attention.scores import default_kind
from spikeattn.attention.shares_of_tokens import as_text
from spikeattn.attention.significance import DEFAULT_ESTIMATOR, Significance, assess
from spikeattn.attention.survey_placement import placement_of
from spikeattn.attention.tokens import TokenCounts, token_counts
from spikeattn.boundary import display
from spikeattn.boundary.arguments import switch
from spikeattn.compat.version import __version__
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.provenance import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
QUESTIONS = ("how much", "where")  # see `Attention.answer`


@dataclass(frozen=True, eq=False)
class Answer:
    """What of the maps is distinguishable from noise, as one question asks it.

    Attributes:
        maps: observed scores [image, (layer), (step), (head), h, w].
        significance: of each map, in the order of the leading axes of `maps`.
    """

    maps: Floats
    significance: tuple[Significance, ...]

    @property
    def z(self) -> Floats:
        """Like `maps`; so are p and lfdr."""
        return self._stacked("z")

    @property
    def p(self) -> Floats:
        return self._stacked("p")

    @property
    def q(self) -> Floats:
        """Like `maps`.

        Raises:
            SpikeattnError: the estimator has no q with so few replicates; see `Significance`.
        """
        return self._stacked("q")

    @property
    def lfdr(self) -> Floats:
        return self._stacked("lfdr")

    @property
    def pi0(self) -> Floats:
        """[image, (layer), (step), (head)]."""
        return np.array([found.pi0 for found in self.significance]).reshape(self.maps.shape[:-2])

    def regularized(self, method: str = METHOD, threshold: float | None = None) -> Floats:
        """`maps` without what is noise; methods and thresholds are those of `regularize`."""
        pairs = zip(_flat(self.maps), self.significance, strict=True)
        return np.stack([regularize(*pair, method, threshold) for pair in pairs]).reshape(self.maps.shape)

    def _stacked(self, name: str) -> Floats:
        return np.stack([found.measure(name) for found in self.significance]).reshape(self.maps.shape)


@dataclass(frozen=True, eq=False)
class Attention(Answer):
    """Attention of a batch of images and what of it is distinguishable from noise.

    Its own z, p, q and lfdr answer how much attention a token has; of maps of spikes `where` has the second answer.

    Attributes:
        maps: observed scores [image, (layer), (step), (head), h, w].
        significance: of each map, in the order of the leading axes of `maps`; of each image where it has one map.
        null_maps: scores on the replicates [image, replicate, (layer), (step), (head), h, w]; None with null="exact".
        image_size: height and width in pixels.
        provenance: model, null, statistic, replicates, seed and versions; JSON types.
        axes: names of the axes of `maps`.
        tokens: spikes of every token of the images, where they were asked for; `spurious_energy` takes them.
        placement: the pixels of every token.
        unit: value of one spike in the maps; None where they hold no spikes.
        images: the batch that was attended, on the CPU and not copied where it was there; for pictures.
    """

    null_maps: Floats | None
    image_size: tuple[int, int]
    provenance: dict[str, Any]
    axes: tuple[str, ...] = ("image", "row", "column")
    tokens: TokenCounts | None = None
    placement: Placement | None = field(default=None, repr=False)
    unit: float | None = None
    images: Tensor | None = field(default=None, repr=False)

    def to_image(
        self, values: Floats | None = None, size: tuple[int, int] | None = None, mode: str = "nearest"
    ) -> Floats:
        """`maps`, or values like them such as `regularized("q")`, on the pixels [..., H, W].

        `AttentionMap.to_image` says which.

        Raises:
            SpikeattnError: values of another grid, an unknown mode.

        Warns:
            AttentionWarning: the receptive fields are not known, and the grid is spread evenly over the image.
        """
        shown = torch.from_numpy(np.asarray(self.maps if values is None else values, dtype=np.float64))
        placement = self.placement
        if placement is None:
            placement = evenly(_grid(self.maps), self.image_size, "this result was put together without them")
        return paint(placement, shown, size, mode).numpy()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(self.axes, self.maps.shape, strict=True))
        answers = {QUESTIONS[0]: self} | ({} if self.where is None else {QUESTIONS[1]: self.where})
        text = as_text(answers, self.axes, self.provenance)
        return f"<Attention of {self.provenance['model']['name']}: maps {sizes}>\n{text}"

    def _repr_html_(self) -> str:
        """In a notebook: the shares of tokens that are more than noise, and the first images with their maps."""
        return display.view("attention_view").html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how often every p occurs among all tokens, beside what noise alone would give.

        Args:
            ax: axes to draw into; without, those of a new figure of pyplot.
        """
        return display.view("attention_view").plot(self, ax)

    def visualize(
        self,
        i: int = 0,
        ax: Axes | None = None,
        *,
        images: Tensor | None = None,
        question: str = "how much",
        layer: int = -1,
        step: int = -1,
        head: int = -1,
        outline: bool = True,
        colour_bar: bool = True,
    ) -> Axes:
        """Draw the map of image `i` over the image, on its pixels, with the outline of what is significant.

        Args:
            i: place of the image among those that were attended.
            ax: axes to draw into; without, those of a new figure of pyplot.
            images: the attended batch, where another picture shall lie behind the maps than what the model was given.
            question: "how much" or "where", to which the outlined tokens are significant.
            layer, step, head: which map, of those that have such an axis, from 0 or from the end; the last by default.
            outline: whether the tokens with q <= 0.1 are outlined.
            colour_bar: whether the scale of the scores stands beside it, the same for all images.

        Raises:
            SpikeattnError: no such image, layer, step or head; images of another size; an unknown question.
        """
        chosen = {"layer": layer, "step": step, "head": head}
        return display.view("attention_view").visualize(self, i, ax, images, question, chosen, outline, colour_bar)

    @cached_property
    def where(self) -> Answer | None:
        """The second question of maps of spikes: where, whatever the total. Every map is divided by its mean first.

        So it is of all maps whose sum is free, such as the gate of an SDT or a tensor named by its path. None for maps
        of softmax attention, whose rows add up to a constant: "how much" and "where" are one question there. None with
        null="exact", which has no replicates.
        """
        if self.null_maps is None or (self.unit is None and self.provenance["statistic"] in KINDS):
            return None
        return Answer(self.maps, assess_maps(self.maps, self.null_maps, self.unit, self.provenance, relative=True))

    def answer(self, question: str = "how much") -> Answer:
        """The answer to one of `QUESTIONS`: itself to "how much", `where` to "where".

        Maps of softmax attention have one answer to both. A network with spikes and its twin without are compared by
        "where", which both of them can be asked.

        Raises:
            SpikeattnError: an unknown question; "where" with null="exact", which has no replicates to ask.
        """
        if question not in QUESTIONS:
            raise unknown("question", question, QUESTIONS)
        if question == "how much":
            return self
        if self.null_maps is None:
            raise SpikeattnError(
                'null="exact" has no replicates, so "where, whatever the total" cannot be asked; take another null'
            )
        return self.where or self

    def frame(self) -> pd.DataFrame:
        """One row per token of every map: image, (layer), (step), (head), row, column, score, z, p, (q), lfdr.

        Layers, steps and heads are counted from 0. There is a q where the estimator gives one. Maps of spikes have the
        second answer beside the first, as where_z, where_p, (where_q), where_lfdr.
        """
        places = (index.ravel() for index in np.indices(self.maps.shape))
        columns = dict(zip(self.axes, places, strict=True)) | {"score": self.maps.ravel()}
        for prefix, answer in {"": self, "where_": self.where}.items():
            if answer is not None:
                has_q = all(found.q is not None for found in answer.significance)
                measures = ("z", "p", *(("q",) if has_q else ()), "lfdr")
                columns |= {f"{prefix}{name}": getattr(answer, name).ravel() for name in measures}
        return pd.DataFrame(columns)


def attend(
    model: nn.Module,
    images: Tensor,
    null: str = "normal",
    replicates: int = 200,
    statistic: str | Statistic | None = None,
    *,
    estimator: str = DEFAULT_ESTIMATOR,
    alternative: str | None = None,
    layer: int | str = -1,
    heads: str = "mean",
    steps: str = "mean",
    seed: int = 0,
    indices: Sequence[int] | None = None,
    ties: str = "plain",
    patch: tuple[int, int] | None = None,
    std_factor: float = 1.0,
    all_channels: bool = True,
    memory: float = 1.0,
    dtype: torch.dtype | None = None,
    tokens: bool = False,
    forward: Forward = call_model,
    progress: bool | None = None,
) -> Attention:
    """Attention maps of images, tested against the maps of the same network on resampled input.

    Args:
        model: any network with attention, or any module with a `statistic` of your own.
        images: [B, C, H, W], or frames [B, T, C, H, W], prepared as the model takes them.
        null: "normal", "uniform", "pixel", "patch" and "events" draw inputs (see `nulls.draw_inputs`) and run the
            network on them; "token" draws embedded tokens with replacement and runs the blocks alone; "exact" needs no
            forward pass and no replicates: the distribution of a token's spikes were every channel's spikes permuted
            over the tokens (Vhat_S, V_S and drive of a Spike-driven Transformer; a screen: it takes channels as
            independent).
        replicates: B. 200 give per-token p-values their nominal size at .05; the null of all tokens together needs
            fewer.
        statistic: kind of `attention_map` (a name of the model's own, a role such as "q", a tensor's path), by default
            the model's first, "attention" for spiking networks of others; or a function (model, images) -> [b, h, w]
            that runs the model on a batch and resets what state it has. Several maps of an image, [b, ..., h, w], are
            assessed one by one.
        estimator: "standardised" (ours, the default) keeps its level at every position, and asks for more attention
            than the null gives; "published", "plus-one", "per-token": see `assess`.
        alternative: "two-sided" or "greater", of the standardised estimator; "greater" by default.
        layer: block whose map is taken; "all" assesses the map of every block, each against its own null, from the same
            passes.
        heads, steps: "each" does so for the heads and the time steps; see `attention_map`.
        seed: of the replicates; the same bits for any batch, memory or device.
        indices: of the images among all that share the seed, [B]; by default 0, 1, ...
        ties: "random" breaks ties of spike counts at random; see `assess`.
        patch: height and width of the patches of null="patch"; by default those of a token.
        std_factor, all_channels: of null="normal".
        memory: GiB that a batch of replicates may occupy, estimated from one image.
        dtype: compute with a copy of the model in this type, such as torch.bfloat16; the maps are float64 anyhow.
        tokens: also count the spikes of every token of the images, in one more pass of all of them, by the model in its
            own type; for `spurious_energy`, with the batches of the profile and their numbers as `indices`. Off by
            default, because it needs a spiking model.
        forward: calls the model on a batch, where model(images) is not how it takes one.
        progress: whether a bar shows the replicates and the time left; by default on a terminal and in a notebook.

    Returns:
        Attention.

    Raises:
        SpikeattnError: arguments that do not fit, NaN in images or maps, a statistic of another shape.

    Warns:
        AttentionWarning: constant and one-token maps (nothing is called), and what else `assess` warns of.
    """
    images = check_images(model, images)
    if progress is not None:
        switch("progress", progress)
    _check(null, replicates, memory, statistic, {"layer": layer, "heads": heads, "steps": steps})
    own = statistic if callable(statistic) else None
    request = MapRequest(None if callable(statistic) else statistic, layer, heads, steps, forward=forward)
    numbers = list(range(len(images)) if indices is None else indices)
    if len(numbers) != len(images):
        raise SpikeattnError(f"indices has {len(numbers)} entries for {len(images)} images")
    counted = token_counts(model, images, numbers, heads=heads, layer=layer, forward=forward) if tokens else None
    original, model = model, model if dtype is None else lower(model, dtype, images.device)
    null_maps: Floats | None = None
    unit: float | None = None
    if null == "exact":
        lowered = images if dtype is None else images.to(dtype)
        maps, found, axes, module = exact_test(model, original, lowered, own, request)
        kind: str | None = request.kind or default_kind(model, images)
        placed = placement_of(original, images, module, _grid(maps))
    else:
        passes = Passes(model, own, request, dtype)
        options = {"seed": seed, "patch": patch, "std_factor": std_factor, "all_channels": all_channels}
        both, patch = scores_of(passes, images, null, replicates, numbers, memory, options, original, progress)
        maps, null_maps, axes, kind = both[:, 0].numpy(), both[:, 1:].numpy(), passes.axes, passes.kind
        if request.kind is not None and request.kind not in ROLES and layer == -1 and isinstance(passes.layer, int):
            layer = passes.layer  # a path names a tensor of one block
        placed = passes.placement(images[:1], original, _grid(maps))
        unit = passes.unit
    settings = {
        "null": null,
        "replicates": 0 if null == "exact" else replicates,
        "statistic": getattr(statistic, "__name__", None) or statistic or kind,
        "estimator": "exact" if null == "exact" else estimator,
        "layer": layer,
        "heads": heads,
        "steps": steps,
        "seed": seed,
        "indices": [int(number) for number in numbers],
        "ties": ties,
        **({} if alternative is None else {"alternative": alternative}),
        "patch": list(patch) if null == "patch" and patch is not None else None,
        "dtype": str(images.dtype if dtype is None else dtype).removeprefix("torch."),
        "model": describe(model),
        "spikeattn": __version__,
        "torch": torch.__version__,
    }
    if null_maps is not None:
        found = assess_maps(maps, null_maps, unit, settings)
    size = (int(images.shape[-2]), int(images.shape[-1]))
    shown = images.detach().cpu()
    return Attention(maps, found, null_maps, size, settings, axes, counted, placed, unit, shown)


def assess_maps(
    maps: Floats, null_maps: Floats, unit: float | None, settings: dict[str, Any], relative: bool = False
) -> tuple[Significance, ...]:
    """Every map of every image against its own null; `settings` as in the provenance of an `Attention`."""
    return tuple(
        assess(
            one,
            replicated,
            settings["estimator"],
            unit=unit,
            ties=settings["ties"],
            seed=settings["seed"] + number,
            alternative=settings.get("alternative"),
            relative=relative,
        )  # fmt: skip
        for number, of_image, null_of_image in zip(settings["indices"], maps, null_maps, strict=True)
        for one, replicated in zip(_flat(of_image), _flat(null_of_image, 1).swapaxes(0, 1), strict=True)
    )


def _grid(maps: Floats) -> tuple[int, int]:
    return int(maps.shape[-2]), int(maps.shape[-1])


def _flat(maps: Floats, kept: int = 0) -> Floats:
    """The first `kept` axes, one axis of all others but the last two, rows and columns."""
    return maps.reshape(*maps.shape[:kept], -1, *maps.shape[-2:])


def _check(null: str, replicates: int, memory: float, statistic: Any, which: dict[str, Any]) -> None:
    if null not in NULLS:
        raise unknown("null", null, NULLS)
    if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 1:
        raise SpikeattnError(f"replicates={replicates!r}: give a whole number of at least 1, and 200 for a p of .05")
    if not isinstance(memory, Real) or not memory > 0:
        raise SpikeattnError(f"memory={memory!r}: give the GiB that a batch of replicates may occupy")
    if statistic is not None and not isinstance(statistic, str) and not callable(statistic):
        raise SpikeattnError(
            f"statistic is a {type(statistic).__name__}; give the name of an attention map, or a function "
            "(model, images) -> [b, h, w]"
        )
    if callable(statistic) and which != {"layer": -1, "heads": "mean", "steps": "mean"}:
        raise SpikeattnError(
            "layer, heads and steps choose among the maps of `attention_map`; with a function as the statistic leave "
            "them out and let it give several maps of an image, [b, ..., h, w]"
        )

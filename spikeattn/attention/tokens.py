"""Spikes per token: what every token of an image costs, counted in one pass and joined later with its significance.

A run's count table has one number per image, tensor and time step; which token a spike belonged to is not in it. It is
counted here for the images of one `attend` call, at the taps of the recorder, and adds up to the rows of that table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model, capture, check_images
from spikeattn.attention.inferred_tokens import InferredLayouts
from spikeattn.attention.map_sources import Family, Tap, known_family
from spikeattn.attention.token_taps import Layouts, Unsigned, Watch, smallest
from spikeattn.counting.recorder import Recorder
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import plan
from spikeattn.tracing.state import state_kept
from spikeattn.tracing.taps import Plan


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Spikes of every token of some images.

    Attributes:
        counts: non-zero elements [image, tensor, t, token], tokens in raster order; uint16, or the smallest wider type
            that holds the largest count.
        tensors: names of the tensors, those of the ledger: with one place per token, inside the blocks or read there.
        grid: rows and columns of tokens.
        images: number of each image, as the profile numbers it.
        layers: path of every block.
        heads: of the attention.
        values: sums of |value| [image, t, token] of the tensors where these are other numbers (integer spikes).
        by_head: non-zero elements [image, t, head, token] of the tensors whose channels are split into heads, with
            heads="each"; else empty.
        pairs: spike pairs [image, t, head, token] of the matrix products, at the token over which the product sums, or
            else at the token of the right operand.
        pair_values: the same with every spike taken by its value, where these are other numbers.
        off_grid: tensors like `tensors` that have no place per token, and why they are not counted here.
        time_steps: T.
        ledger: hash of the ledger of the model at this input size.
        blocks: number in `layers` of every synapse, product and tensor of a network whose structure was inferred; empty
            where the paths in `layers` tell.
    """

    counts: Unsigned
    tensors: tuple[str, ...]
    grid: tuple[int, int]
    images: tuple[int, ...]
    layers: tuple[str, ...]
    heads: int
    values: Mapping[str, Unsigned]
    by_head: Mapping[str, Unsigned]
    pairs: Mapping[str, Unsigned]
    pair_values: Mapping[str, Unsigned]
    off_grid: Mapping[str, str]
    time_steps: int
    ledger: str
    blocks: Mapping[str, int] = field(default_factory=dict)

    def of(self, tensor: str, by: str = "nnz") -> Unsigned:
        """Counts [image, t, token] of a tensor: "nnz" non-zero elements, "abs" sums of |value|."""
        if tensor not in self.tensors:
            raise unknown("tensor with tokens", tensor, self.tensors)
        if by == "abs" and tensor in self.values:
            return self.values[tensor]
        return self.counts[:, self.tensors.index(tensor)]

    def layer_of(self, name: str) -> int | None:
        """The number of the block that a tensor, synapse or product lies in; None outside the blocks."""
        if self.blocks:
            return self.blocks.get(name, self.blocks.get(name.partition("@")[0]))
        return next((i for i, path in enumerate(self.layers) if name.startswith(f"{path}.")), None)


def token_counts(
    model: nn.Module,
    images: Tensor,
    indices: Sequence[int] | None = None,
    *,
    heads: str = "mean",
    layer: int | str = -1,
    forward: Forward = call_model,
) -> TokenCounts:
    """Count the spikes of every token of `images` in one forward pass, at the taps of the recorder.

    One flipped rounding flips spikes, and another batch sums in another order: give the batches that the profile ran,
    whole, or the counts may differ from its rows by a few.

    Args:
        model: a spiking transformer.
        images: [B, C, H, W], or frames [B, T, C, H, W].
        indices: number of each image in the profile, [B]; by default 0, 1, ...
        heads: "each" also counts the attention's tensors head by head; of a Spike-driven Transformer or SpikingJelly's
            Spikformer.
        layer: block whose token grid counts, where blocks have different ones.
        forward: calls the model on a batch.

    Raises:
        SpikeattnError: a model without spikes or without attention, images that do not fit, NaN; and what a profile of
            the model raises.
    """
    images = check_images(model, images)
    family = known_family(model)
    if not (nodes.has_neurons(model) if family is None else family.time):
        raise SpikeattnError(
            f"{type(model).__name__} has no spiking neurons, so there are no spikes to count per token; take a spiking "
            "transformer"
        )
    if heads not in ("mean", "each"):
        raise unknown("treatment of heads", heads, ("mean", "each"))
    numbers = list(range(len(images)) if indices is None else indices)
    if len(numbers) != len(images) or len(set(numbers)) != len(numbers):
        raise SpikeattnError(
            f"indices are {len(set(numbers))} different numbers for {len(images)} images; one for each is needed"
        )
    if family is None and heads == "each":
        raise SpikeattnError(
            f'tokens=True with heads="each": spikes by head are counted in a Spike-driven Transformer and in '
            f'SpikingJelly\'s Spikformer, and {type(model).__name__} is neither; leave heads at "mean"'
        )
    with nodes.uncompiled(), state_kept(model), nodes.evaluating(model):
        made = plan(model, images, forward=forward, neurons=nodes.predicate_of(model))
        if family is None:
            watched: Layouts | InferredLayouts = InferredLayouts(made, model, images, layer, forward)
        else:
            watched = _known(made, model, images, family, heads == "each", forward)
        nodes.reset(model)
        with torch.no_grad(), Recorder(model, made) as recorder, recorder.watching(len(images)) as tally:
            recorder.tally = seen = Watch(tally, watched)  # type: ignore[assignment]  # it hands on to the tally
            recorder.show(images)
            tally.collect(forward(model, images))
    tensors = tuple(t.name for t in made.ledger.tensors if t.name in watched.tokens)
    if not tensors:
        raise SpikeattnError(
            f"no tensor of {type(model).__name__} has a place per token of {watched.grid[0]}x{watched.grid[1]}: "
            + "; ".join(f"{name}, {why}" for name, why in list(watched.off_grid.items())[:3])
        )
    products = [pairs.name for pairs in made.pairs if ("pairs", pairs.name) in seen.sums]
    return TokenCounts(
        counts=smallest(np.stack([seen.sums["nnz", name] for name in tensors], axis=1)),
        tensors=tensors,
        grid=watched.grid,
        images=tuple(int(number) for number in numbers),
        layers=tuple(watched.layers),
        heads=watched.heads,
        values=seen.other_values("abs", "nnz", tensors),
        by_head={name: smallest(seen.sums["head", name]) for name in watched.heads_of},
        pairs={name: smallest(seen.sums["pairs", name]) for name in products},
        pair_values=seen.other_values("pairs_abs", "pairs", products),
        off_grid=watched.off_grid,
        time_steps=made.ledger.time_steps,
        ledger=made.ledger.hash(),
        blocks=watched.blocks,
    )


def _known(made: Plan, model: nn.Module, images: Tensor, family: Family, each: bool, forward: Forward) -> Layouts:
    """The layouts of a model whose attention is known beforehand."""
    with torch.no_grad():
        nodes.reset(model)
        _, grid, _ = capture(model, images[:1], (Tap(model.get_submodule("patch_embed")),))
        nodes.reset(model)
    paths = {module: path for path, module in model.named_modules()}
    attentions = tuple(paths[module] for module in family.attentions)
    layers = tuple(path.rpartition(".")[0] for path in attentions)
    return Layouts(made, grid, layers, attentions, family, each)


def merged(counted: Sequence[TokenCounts]) -> TokenCounts:
    """The token counts of all images in one; an image that stands twice is taken once.

    Raises:
        SpikeattnError: none, or counts of different networks, grids or treatments of heads.
    """
    if not counted:
        raise SpikeattnError("no token counts to merge; give at least one")
    first = counted[0]
    for other in counted[1:]:
        if (other.ledger, other.tensors, other.grid) != (first.ledger, first.tensors, first.grid):
            raise SpikeattnError(
                f"token counts of different networks or image sizes: {len(first.tensors)} tensors on "
                f"{first.grid[0]}x{first.grid[1]} tokens and {len(other.tensors)} on {other.grid[0]}x{other.grid[1]}"
            )
        if set(other.by_head) != set(first.by_head):
            raise SpikeattnError("some token counts are by head and some are not; give heads= alike in every call")
    seen: set[int] = set()
    picked = []
    for one in counted:
        fresh = [row for row, number in enumerate(one.images) if number not in seen]
        seen.update(one.images)
        picked.append((one, fresh))
    if len(picked) == 1:
        return first

    def joined(get: Callable[[TokenCounts], Unsigned]) -> Unsigned:
        return np.concatenate([get(one)[rows] for one, rows in picked])

    def mapping(field: str, otherwise: Callable[[TokenCounts, str], Unsigned]) -> dict[str, Unsigned]:
        names = dict.fromkeys(name for one in counted for name in getattr(one, field))

        def of(name: str) -> Unsigned:
            return joined(lambda one: getattr(one, field).get(name, otherwise(one, name)))

        return {name: of(name) for name in names}

    return replace(
        first,
        counts=joined(lambda one: one.counts),
        images=tuple(one.images[row] for one, rows in picked for row in rows),
        values=mapping("values", lambda one, name: one.of(name)),
        by_head=mapping("by_head", lambda one, name: one.by_head[name]),
        pairs=mapping("pairs", lambda one, name: one.pairs[name]),
        pair_values=mapping("pair_values", lambda one, name: one.pairs[name]),
    )

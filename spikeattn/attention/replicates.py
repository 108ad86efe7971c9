"""One network on images and their replicates: folded into batches, each pass ended at the map it is for.

The image itself goes along with its replicates, and batches differ by one at most, so that none is nearly empty.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.attention import linear_gelu
from spikeattn.attention.capture import call_model, capture, embedding_replaced, ready
from spikeattn.attention.map_request import MapRequest, Scores
from spikeattn.attention.map_sources import Tap, known_family, softmax_family
from spikeattn.attention.nulls import draw_inputs, draw_tokens
from spikeattn.attention.placement import Placement
from spikeattn.attention.scores import scores
from spikeattn.attention.survey_placement import placement_by_grid, placement_of
from spikeattn.compat.text_bars import text_bar
from spikeattn.errors import SpikeattnError
from spikeattn.models.ann import AnnTransformer

Statistic = Callable[[nn.Module, Tensor], Tensor]
Pair = tuple[int, int | None]  # number of the image, and of the replicate; None is the image itself

CPU_BATCH = (4, 32)  # replicates on a CPU: fewer leave it waiting for calls, more gain nothing
# Bytes that the widest layer of a batch may take on a CPU, by bytes of a value. ViT-S/16 on two threads of a Xeon with
# bfloat16 units: ms per replicate in float32 44 with 8 images and 94 with 32, in bfloat16 13 with 8 and 11 with 32.
CPU_CACHE = {4: 12 * 2**20, 2: 24 * 2**20}
LIVE = 3  # times the largest input and output of a module: what one image occupies at the peak of a forward pass
ROUNDING = 64  # units of rounding by which sums over tokens in another order may differ
MOVED = 0.01  # of the scores: a rounding that flips a spike may differ; with positions, nearly all of them do
WAITING = 64 * 2**20  # bytes of scores that stay on the model's device before they are fetched: each fetch waits for it


@dataclass(frozen=True)
class Probe:
    """What one image's pass shows.

    Attributes:
        largest: bytes that one module takes in and gives out, at most.
        grid: rows and columns of the map.
    """

    largest: int
    grid: tuple[int, int]


_PROBES: WeakKeyDictionary[nn.Module, dict[Any, Probe]] = WeakKeyDictionary()


def scores_of(
    passes: Passes,
    images: Tensor,
    null: str,
    replicates: int,
    numbers: list[int],
    memory: float,
    options: dict[str, Any],
    original: nn.Module,
    progress: bool | None = False,
) -> tuple[Tensor, tuple[int, int] | None]:
    """Scores [image, 1 + replicate, ..., h, w] float64 on the CPU, those of the image itself first; and the patch.

    Args:
        passes: of the model.
        numbers: of the images, which key their replicates.
        memory: GiB of a batch.
        options: of `draw_inputs`; a patch of None is the size of a token.
        original: the model that the user holds, of which the passes may run a copy.
        progress: whether a bar shows it; see `text_bar`.
    """
    probe = passes.probe(images[:1], original)
    if null == "token":
        _check_positions(passes, images, numbers, options["seed"])
    if null == "patch" and options["patch"] is None:
        options = options | {"patch": tuple(s // t for s, t in zip(images.shape[-2:], probe.grid, strict=True))}
    values = images.dtype if passes.dtype is None else passes.dtype
    most = batch_size(max(images[0].nbytes, probe.largest), memory, images.device, values.itemsize)
    pairs: list[Pair] = [(image, r) for image in range(len(images)) for r in (None, *range(replicates))]
    fetched, waiting = [], []
    with text_bar(progress, total=len(pairs), unit="map") as bar:
        for part in evenly(pairs, most):
            if null == "token":
                waiting.append(_on_tokens(passes.model, images, part, numbers, options["seed"], passes))
            else:
                waiting.append(passes(_inputs(null, images, part, numbers, options)))
            if sum(scores.nbytes for scores in waiting) > WAITING:
                fetched.append(torch.cat(waiting).cpu())
                waiting = []
            bar.update(len(part))
    fetched += [torch.cat(waiting).cpu()] if waiting else []
    return torch.cat(fetched).double().unflatten(0, (len(images), 1 + replicates)), options["patch"]


def evenly(pairs: list[Pair], most: int) -> Iterator[list[Pair]]:
    """As few parts of at most so many as there can be, their sizes equal or one apart."""
    parts = -(-len(pairs) // most)
    for number in range(parts):
        yield pairs[number * len(pairs) // parts : (number + 1) * len(pairs) // parts]


def lower(model: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A copy of the model in another type; on a CPU that computes in bfloat16 its MLPs as one kernel each layer."""
    plain = [p for p in model.parameters() if type(p) is nn.Parameter and p.is_floating_point()]
    cast = {id(p): nn.Parameter(p.detach().to(dtype, copy=True), p.requires_grad) for p in plain}
    model = copy.deepcopy(model, cast).to(dtype)  # parameters are cast as they are copied: one pass over memory
    if device.type == "cpu" and dtype == torch.bfloat16 and linear_gelu.available():
        linear_gelu.fuse(model)
    return model


class Passes:
    """Called with images it gives their scores [b, ..., h, w] on the model's device.

    `unit`, the value of one spike, `axes` and `kind` are known after the first pass.
    """

    def __init__(
        self, model: nn.Module, statistic: Statistic | None, request: MapRequest, dtype: torch.dtype | None
    ) -> None:
        self.model, self.statistic, self.request, self.dtype = model, statistic, request, dtype
        self.kind: str | None = None
        self._scores: Scores | None = None
        self.unit: float | None = None
        self.axes: tuple[str, ...] = ()

    def __call__(self, batch: Tensor) -> Tensor:
        batch = batch if self.dtype is None else batch.to(self.dtype)
        if self.statistic is not None:
            with torch.no_grad():  # not inference mode: the function may take gradients
                values = torch.as_tensor(self.statistic(self.model, batch)).detach()
            axes = ("image", *(f"map{i}" for i in range(1, values.dim() - 2)), "row", "column")
            if not torch.isfinite(values).all():
                raise SpikeattnError(
                    "the statistic gave NaN or infinite scores; look at the function that makes the maps"
                )
        else:
            self._scores = scores(self.model, batch, self.request)  # without the pixels: one look is enough for them
            values, axes = self._scores.values, self._scores.axes
            self.unit, self.kind = self._scores.unit, self._scores.kind
        self.axes = self.axes or axes
        if values.dim() < 3 or len(values) != len(batch) or axes != self.axes:
            raise SpikeattnError(
                f"the statistic gave {list(values.shape)} for {len(batch)} images; a map is [b, h, w], one per image"
            )
        return values

    @property
    def layer(self) -> int | str | None:
        """The number of the block of the last map; that of a tensor named by its path is found on the way."""
        return None if self._scores is None else self._scores.layer

    def placement(self, images: Tensor, original: nn.Module, grid: tuple[int, int]) -> Placement:
        """The pixels of the tokens of the last map, by the model that the user holds."""
        known, forward = self._scores, self.request.forward
        if known is None:
            return placement_by_grid(original, images, grid, forward)
        if known.placement is not None:
            return known.placement
        paths = {module: path for path, module in self.model.named_modules()}
        module = None if known.where is None else original.get_submodule(paths[known.where])
        return placement_of(original, images, module, grid, forward)

    def probe(self, image: Tensor, original: nn.Module) -> Probe:
        """What the pass of one image [1, ...] shows; of a named map found once for `original` and kept."""
        steps = getattr(self.model, "time_steps", None)
        request = self.request
        of_map = (request.kind, request.layer, request.heads, request.steps)
        key = (image.shape, image.dtype, image.device, self.dtype, *of_map, steps)
        own = self.statistic is not None or request.forward is not call_model
        known: dict[Any, Probe] = {} if own else _PROBES.setdefault(original, {})
        if key not in known:
            with _largest(self.model) as largest:
                values = self(image)
            known[key] = Probe(max(largest), (int(values.shape[-2]), int(values.shape[-1])))
        return known[key]


@contextmanager
def _largest(model: nn.Module) -> Iterator[list[int]]:
    """The bytes that every innermost module takes in and gives out, while the context lasts."""
    sizes: list[int] = [0]

    def measure(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        sizes.append(sum(x.nbytes for x in (*args, output) if isinstance(x, Tensor)))

    handles = [m.register_forward_hook(measure) for m in model.modules() if not any(True for _ in m.children())]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def batch_size(largest: int, memory: float, device: torch.device, itemsize: int) -> int:
    """Images of one batch, from the most bytes at a module while one image passes, in values of so many bytes."""
    fits = max(1, int(memory * 2**30 / (LIVE * largest)))
    if device.type != "cpu":
        return fits
    least, most = CPU_BATCH
    return min(fits, most, max(least, CPU_CACHE.get(itemsize, CPU_CACHE[4]) // largest))


def _inputs(null: str, images: Tensor, pairs: list[Pair], numbers: list[int], options: dict[str, Any]) -> Tensor:
    parts = []
    for image, wanted in _by_image(pairs).items():
        parts += [images[image : image + 1]] if None in wanted else []
        some = [replicate for replicate in wanted if replicate is not None]
        parts += [draw_inputs(null, images[image], some, index=numbers[image], **options)] if some else []
    return torch.cat(parts)


def _on_tokens(
    model: nn.Module,
    images: Tensor,
    pairs: list[Pair],
    numbers: list[int],
    seed: int,
    passes: Passes,
    order: Tensor | None = None,
) -> Tensor:
    """Scores on embedded tokens drawn with replacement: each image is embedded once a batch, the blocks run on all.

    Args:
        order: the positions of the embedded tokens of an image itself, in place of their own.
    """
    if not hasattr(model, "patch_embed"):
        raise SpikeattnError(f'null="token" draws from the output of patch_embed, which {type(model).__name__} lacks')
    if known_family(model) is None and softmax_family(model) is None:
        raise SpikeattnError(
            'null="token" draws embedded tokens and runs the blocks alone, and where the stem of '
            f'{type(model).__name__} ends is not known; take "normal", "pixel", "patch", "uniform" or, for frames, '
            '"events", which run it whole'
        )
    drawn = []
    for image, wanted in _by_image(pairs).items():
        with ready(model), torch.inference_mode():
            one = images[image : image + 1].to(next(model.parameters()).dtype)
            (embedded,), grid, _ = capture(model, one, (Tap(model.get_submodule("patch_embed")),))
            tokens = grid[0] * grid[1]
            some = [replicate for replicate in wanted if replicate is not None]
            positions = draw_tokens(tokens, some, seed=seed, index=numbers[image])
            if None in wanted:
                positions = torch.cat([(torch.arange(tokens) if order is None else order)[None], positions])
            drawn.append(_resampled(embedded, positions.to(embedded.device), isinstance(model, AnnTransformer)))
    axis = 1 if drawn[0].dim() == 5 else 0
    batch = torch.cat(drawn, axis)
    with embedding_replaced(model, batch):
        return passes(images[[image for image, _ in pairs]])


def _check_positions(passes: Passes, images: Tensor, numbers: list[int], seed: int) -> None:
    """Refuse a network whose blocks do not know where a token lies: there its map moves along with the tokens.

    It is tried with one permutation of the embedded tokens of the first image: maps of other numbers of tokens (pooling
    stages) cannot be compared, and pass.
    """
    model = passes.model
    pair: list[Pair] = [(0, None)]
    plain = _on_tokens(model, images, pair, numbers, seed, passes)
    with ready(model), torch.inference_mode():
        first = images[:1].to(next(model.parameters()).dtype)
        _, grid, _ = capture(model, first, (Tap(model.get_submodule("patch_embed")),))
    tokens = plain.shape[-2] * plain.shape[-1]
    if tokens != grid[0] * grid[1]:
        return
    order = np.random.default_rng(seed).permutation(tokens)
    moved = _on_tokens(model, images, pair, numbers, seed, passes, torch.from_numpy(order))
    expected = plain.flatten(-2)[..., torch.from_numpy(order).to(plain.device)]
    if expected.amin() == expected.amax():  # a constant map cannot tell
        return
    rounding = ROUNDING * torch.finfo(next(model.parameters()).dtype).eps * float(expected.abs().max())
    differing = ((moved.flatten(-2) - expected).abs() > rounding).double().mean()
    if differing <= MOVED:
        raise SpikeattnError(
            f'null="token" says nothing about {type(model).__name__}: behind its patch embedding the network does not '
            "know where a token lies: the map of permuted tokens is the permuted map, whatever the image (tried "
            'with one permutation). Take null="patch" or null="pixel", which draw the image itself'
        )


def _by_image(pairs: list[Pair]) -> dict[int, list[int | None]]:
    wanted: dict[int, list[int | None]] = {}
    for image, replicate in pairs:
        wanted.setdefault(image, []).append(replicate)
    return wanted


def _resampled(embedded: Tensor, positions: Tensor, channels_first: bool) -> Tensor:
    """Tokens of one image at `positions` [b, N]: [T, 1, D, h, w] -> [T, b, D, h, w], [1, D, h, w] or [1, ..., D]."""
    if embedded.dim() == 5:
        T, _, D, h, w = embedded.shape
        return embedded.reshape(T, D, h * w)[:, :, positions].reshape(T, D, -1, h, w).transpose(1, 2).contiguous()
    if channels_first:
        _, D, h, w = embedded.shape
        return embedded.reshape(D, h * w)[:, positions].reshape(D, -1, h, w).transpose(0, 1).contiguous()
    return embedded.reshape(-1, embedded.shape[-1])[positions].reshape(-1, *embedded.shape[1:])

"""Where the tokens of a map stand on the image, by a survey of the network."""

from __future__ import annotations

from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model
from spikeattn.attention.placement import Placement, evenly, tokens_of
from spikeattn.attention.survey import survey
from spikeattn.errors import SpikeattnError, failing


def placement_of(
    model: nn.Module, images: Tensor, module: nn.Module | None, grid: tuple[int, int], forward: Forward = call_model
) -> Placement:
    """Where the tokens that a module hands out stand on the image; spread evenly, with a note, where nobody knows."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    path = next((path for path, other in model.named_modules() if other is module), None)
    try:
        with failing("the model fails on two images"):
            seen = survey(model, images, forward)
    except SpikeattnError as error:
        return evenly(grid, size, str(error))
    outputs = seen.outputs.get(path) if path else None
    tokens = None if outputs is None else tokens_of(outputs[0].place.row, outputs[0].place.column, size)
    if tokens is not None and tokens.grid == grid:
        return tokens.placement
    lost = next(iter(seen.notes), None)
    why = f"nobody knows what {lost} does to places" if lost else "what lies before the tokens joins the whole image"
    return evenly(grid, size, f"their receptive fields cannot be derived, since {why}")


def placement_by_grid(
    model: nn.Module, images: Tensor, grid: tuple[int, int], forward: Forward = call_model
) -> Placement:
    """Where the tokens of a grid stand, if all tensors with such a grid agree; for a statistic of a user's own."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    try:
        with failing("the model fails on two images"):
            seen = survey(model, images, forward)
    except SpikeattnError as error:
        return evenly(grid, size, str(error))
    found: list[Placement] = []
    for calls in seen.outputs.values():
        tokens = tokens_of(calls[0].place.row, calls[0].place.column, size)
        if tokens is not None and tokens.grid == grid:
            found.append(tokens.placement)
    alike = all((f.rows == found[0].rows).all() and (f.columns == found[0].columns).all() for f in found)
    if found and alike:
        return found[0]
    why = "no tensor of the network has" if not found else "the network has several tensors, at different places, with"
    return evenly(grid, size, f"{why} a grid of {grid[0]}x{grid[1]} tokens")

"""A row for every test, layer and number of replicates: its level, its power, and what it calls on real images."""

from __future__ import annotations

import ast
import inspect
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from levels import exchangeable, questions, signals
from levels.draws import SEED, Draw
from levels.questions import Floats, tests_of
from spikeattn.attention import local_fdr, significance, standardised


def _code(part: Any) -> str:
    """The source without comments and docstrings: to say it in other words changes no number."""
    tree = ast.parse(inspect.getsource(part))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


# What the numbers of a row come from: the tests of the package, and this measurement.
MEASURED: tuple[Any, ...] = (  # modules and functions
    standardised,
    local_fdr,
    significance.benjamini_hochberg,
    significance.plus_one_p,
    significance.standardise,
    sys.modules[__name__],
    exchangeable,
    signals,
    questions,
)
CODE = "sha256:" + sha256("".join(map(_code, MEASURED)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Settings:
    """What a row depends on beside its model, null, layer, replicates and test.

    Attributes:
        images: whose replicates are tested, every one in turn.
        real_images: that are tested themselves.
        signal_maps: into which signals are planted, and which plus-one tests, per cell.
        seed: of the replicates; of the signals it is the layer's number.
        code: digest of the code of the tests and of this measurement, without its comments and docstrings.
    """

    images: int
    real_images: int
    signal_maps: int
    seed: int
    code: str


def settings(images: int, real_images: int, signal_maps: int) -> Settings:
    """The settings of a cell; `signal_maps` is rounded up to as many for each image."""
    return Settings(images, real_images, images * math.ceil(signal_maps / images), SEED, CODE)


def rows(drawn: Draw, B: int, chosen: Settings) -> Iterator[dict[str, object]]:
    """Every layer and test; of the replicates the first B + 1, of real images' null the first B."""
    n = len(drawn.maps)
    some = [i * n // chosen.images for i in range(chosen.images)]
    for layer in range(drawn.maps.shape[1]):
        noise = drawn.replicates[some, : B + 1, layer]  # [image, B + 1, m]
        for test in tests_of(drawn.unit):
            yield {
                "layer": layer,
                "replicates": B,
                "test": test,
                **level(noise, drawn.unit, test, chosen.signal_maps // chosen.images),
                **power(noise, drawn.unit, test, chosen.signal_maps // chosen.images, layer),
                "real_called": real(drawn.maps[:, layer], drawn.replicates[:, :B, layer], drawn.unit, test),
                **vars(chosen),
            }


def level(noise: Floats, unit: float | None, test: str, each: int) -> dict[str, float]:
    """How often something is called, and how often at which position, in maps with nothing to find.

    `lowest` leaves out positions that an exact test of their own scores would call in fewer than one of fifty maps,
    since hardly any score differs or the largest ones tie: `tied_positions`, of which `constant_positions` never move.
    """
    calls = [exchangeable.turns(of_image, unit, test, each) for of_image in noise]
    p, any_q, any_lfdr = (np.stack(flags) for flags in zip(*calls, strict=True))  # [image, maps, m]
    by_position = p.mean(axis=(0, 1))
    reach = [exchangeable.reach(questions.log_scores(of_image, unit, test).round(12)) for of_image in noise]
    tied = np.mean(reach, axis=0) < 1 / 50
    constant = (np.ptp(noise, axis=1) == 0).all(axis=0)
    return {
        "maps": any_q[..., 0].size,
        **mean("any_q", any_q.max(axis=2)),
        **mean("any_lfdr", any_lfdr.max(axis=2) if test != questions.PLUS_ONE else any_lfdr[..., 0] * math.nan),
        "level": float(by_position.mean()),
        "lowest": float(by_position[~tied].min()) if not tied.all() else math.nan,
        "highest": float(by_position.max()),
        "tied_positions": int(tied.sum()),
        "constant_positions": int(constant.sum()),
    }


def power(noise: Floats, unit: float | None, test: str, each: int, seed: int) -> dict[str, float]:
    """False discovery rate and power of signals planted into maps with nothing else to find."""
    rng = np.random.default_rng(seed)
    recoveries = [
        [signals.recover(of_image[i], np.delete(of_image, i, 0), unit, test, rng) for i in range(each)]
        for of_image in noise
    ]
    of_maps = pd.DataFrame([vars(one) | {"image": i} for i, of_image in enumerate(recoveries) for one in of_image])
    planted = of_maps[of_maps["signals"] > 0]
    row = {"signals": float(of_maps["signals"].mean())}
    for column, name in {"fdr": "false", "power": "power", "clear": "clear", "clear_power": "clear_power"}.items():
        row |= mean(column, [values.dropna() for _, values in planted.groupby("image")[name]])
    return row


def real(maps: Floats, null: Floats, unit: float | None, test: str) -> float:
    """Share of tokens at q <= .1 on images [n, m] against their null [n, B, m]."""
    calls = [questions.by_assess(one, its_null, unit, test)[1] for one, its_null in zip(maps, null, strict=True)]
    return float(np.mean(calls))


def mean(name: str, values: Iterable[ArrayLike]) -> dict[str, float]:
    """A mean of values per image [image][map] and its standard error, images being what is drawn independently."""
    of_images = [of_image for each in values if (of_image := np.asarray(each, float)).size]
    if not of_images:
        return {name: math.nan, f"{name}_se": math.nan}
    means = np.array([of_image.mean() for of_image in of_images])
    if len(means) == 1:
        return {name: float(means[0]), f"{name}_se": float(of_images[0].std() / math.sqrt(of_images[0].size))}
    every = np.concatenate(of_images)
    return {name: float(every.mean()), f"{name}_se": float(means.std(ddof=1) / math.sqrt(len(means)))}

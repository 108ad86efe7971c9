"""What may be given for an argument, checked where it comes in: one sentence instead of a failure further down."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from numbers import Integral, Number, Real
from pathlib import Path
from typing import Any

import numpy as np

from spikeattn.errors import SpikeattnError

_SHOWN = 60  # characters of a value: a tensor or a state_dict has thousands


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None, why: str = "") -> int:
    """A whole number from `least` to `most`; True and 3.0 are none.

    Args:
        why: the reason of the limits, or what else can be done, put behind the sentence.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise SpikeattnError(f"{name} is {shown(value)}; give a whole number {limits}{why}")
    return int(value)


def real_number(name: str, value: Any, least: float = -math.inf, why: str = "") -> float:
    """A real number of at least `least`, which NaN is not."""
    number: Any = value  # what `Real` can be compared with is no part of its type
    if not isinstance(value, Real) or isinstance(value, bool) or not number >= least:
        limits = "" if least == -math.inf else f" of at least {least:g}"
        raise SpikeattnError(f"{name} is {shown(value)}; give a number{limits}{why}")
    return float(value)


def switch(name: str, value: Any) -> bool:
    """True or False; a text such as "False" is true in Python, so it is no switch."""
    if not isinstance(value, bool | np.bool_):
        raise SpikeattnError(f"{name} is {shown(value)}; give True or False")
    return bool(value)


def function(name: str, value: Any, what: str) -> Callable[..., Any]:
    """Something that can be called; `what` says in the error what it is called with and gives."""
    if not callable(value):
        raise SpikeattnError(f"{name} is {shown(value)}; give {what}")
    return value


def path(name: str, value: Any) -> Path:
    """A path of the file system: text or `pathlib.Path`, and no empty text, which would be the working folder."""
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise SpikeattnError(f"{name} is {shown(value)}; give a path as text or pathlib.Path")
    if not text or "\0" in text:
        raise SpikeattnError(f"{name} is {text!r}, which no folder can be called; give a path, '.' for the present one")
    return Path(text)


def shown(value: Any) -> str:
    """A value as an error shows it: itself where it is a short number, text or list of such, else its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value) if _is_plain(value) else ""
    return text if 0 < len(text) <= _SHOWN else f"a {type(value).__name__}"


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a value has a text that says what it is; that of an object may say nothing, or fail."""
    if isinstance(value, tuple | list | dict):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, str | bytes | Number | np.generic | os.PathLike)

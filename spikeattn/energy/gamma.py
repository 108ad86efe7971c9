"""Gamma: the share of an ANN's multiply-accumulates that hardware skips because the activation is zero.

Measured where there are images and a network that runs on them: `measure_gamma` on a trained ANN, or the ReLU copy of
the spiking network itself. Nowhere else is it known. There the ratio of the energies is a range: over gamma from 0 to
.5, the share that ReLUs leave at random weights, or to where both networks cost the same if that is further.

A share that is assumed holds for the layers that may receive zeros, those behind a ReLU and the one that reads the
image, a layer like any other (the dark parts of images and silent frames are zeros). Behind GELU, softmax, a norm or a
sum it is 0. The spiking network is charged as its convention has it, zeros of the image included.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.boundary.number_format import NO_UPPER_LIMIT, with_bound, with_limits
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.energy.scope_line import ratio_text
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats, Interval
from spikeattn.stats.quantity import Quantity

HIGH = 0.5  # upper end of the range: a ReLU on values as often below 0 as above, as at random weights
MEASURED, GIVEN, ASSUMED = "measured", "given, not measured", "not measured"


@dataclass(frozen=True)
class GammaRange:
    """The ratio of two networks' energies over the zeros that the ANN's hardware may skip.

    Attributes:
        costs, against: the pricing.
        measured: whether the share was measured; then low and high are both the measured share.
        source: where it comes from, in words.
        low, high: ends of the range: 0, and the larger of .5 (or of a share that was given) and `break_even`.
        break_even: the share at which both networks cost the same; None where there is none from 0 to 1.
        at_low, at_high: the ratio at both ends, with intervals.
        at_zero: the ratio if nothing is skipped, whatever was measured.
        why: what a missing `break_even` means, "" where there is one.
    """

    costs: str
    against: str
    measured: bool
    source: str
    low: float
    high: float
    break_even: float | None
    at_low: Quantity
    at_high: Quantity
    at_zero: Quantity
    why: str

    def said(self) -> str:
        """The ratio at both ends and where both networks cost the same."""
        other = self.at_zero if self.measured else self.at_high
        return f"{self.at_low}, {other}; {self.same()}"

    def same(self) -> str:
        """At which gamma both networks cost the same."""
        return self.why if self.break_even is None else f"both cost the same at gamma {self.break_even:.3g}"

    def beside(self) -> str:
        """At which gamma `at_low` stands, and the ratio at the other end; what follows a ratio in one line."""
        other = self.at_zero if self.measured else self.at_high
        even = "no break-even gamma" if self.break_even is None else f"break-even gamma {self.break_even:.3g}"
        return f"{self.at_low.at}, {' '.join(ratio_text(other))} {other.at}, {even}"


@dataclass(frozen=True, eq=False)
class Zeros:
    """The zeros that the layers of an ANN receive.

    Attributes:
        able: [layers], whether a layer may receive any.
        shares: [layers], the share in each at which the tables are priced.
        measured: whether these were measured, else they are `given` in every layer that may receive zeros.
        given: the share that was given; 0 where none was.
        source: where the shares come from, in words.
    """

    able: NDArray[np.bool_]
    shares: Floats
    measured: bool
    given: float
    source: str

    @classmethod
    def of(cls, twin: DenseTwin, gamma: float | pd.DataFrame | None) -> Zeros:
        """Those of `twin`; `gamma` as of `compare`.

        Raises:
            SpikeattnError: gamma is no share, or a table of other layers.
        """
        layers = twin.layers
        able = np.asarray(layers["zeros"] if "zeros" in layers else layers["part"] != "attention", dtype=bool)
        if gamma is None and twin.gamma is not None:
            return cls(able, _checked(_by_layer(twin, twin.gamma)), True, 0.0, twin.gamma_from or MEASURED)
        if isinstance(gamma, pd.DataFrame):
            n = gamma.attrs.get("n_images")
            source = "by measure_gamma" + (f" on {n:,} image{'s' if n != 1 else ''}" if n else "")
            return cls(able, _checked(_by_layer(twin, gamma)), True, 0.0, source)
        if gamma is not None and (not isinstance(gamma, Real) or isinstance(gamma, bool)):
            raise SpikeattnError(
                f"gamma is a {type(gamma).__name__}; give a share from 0 to 1 or a measure_gamma table"
            )
        given = 0.0 if gamma is None else float(gamma)
        _checked(np.array([given]))
        return cls(able, np.where(able, given, 0.0), False, given, GIVEN if given else twin.gamma_from or ASSUMED)

    def skipped(self, share: float | None = None) -> Floats:
        """The share of multiply-accumulates that is skipped in every layer, or at a common share of zeros."""
        return self.shares if share is None else np.where(self.able, share, 0.0)

    def mean(self, macs: Floats, inner: NDArray[np.bool_]) -> float:
        """The measured share over all layers but those that read the image; else the share that was given."""
        if not self.measured:
            return self.given
        weights = np.where(inner, macs, 0.0)
        return float((self.shares * weights).sum() / weights.sum()) if weights.sum() else 0.0

    def note(self, macs: Floats) -> Note:
        """What is skipped, and in which layers nothing is."""
        total = macs.sum()
        none = float(macs[~self.able].sum() / total) if total else 0.0
        if self.measured:
            skipped = float((self.shares * macs).sum() / total) if total else 0.0
            text = f"{skipped:.4g} of the ANN's multiply-accumulates are skipped for a zero activation ({self.source})"
            return Note("gamma", text)
        text = (
            f"{self.given:g} of the ANN's activations behind ReLUs and of the image are taken for zeros and skipped "
            f"({self.source}); the rest, with {none:.3g} of its multiply-accumulates, lies behind none (softmax, "
            "GELU, norms, sums): gamma 0"
        )
        return Note("gamma", text)


def zeros_frame(frame: pd.DataFrame, dense: Floats, able: Floats, zeros: Zeros, shares: Floats) -> pd.DataFrame:
    """One row per scope of a pricing: the columns of `Comparison.zeros` but for cannot_lose.

    Args:
        frame: of `comparison_tables.frame_of`.
        dense: [scopes], mJ of the ANN with nothing skipped; `able`: the part of it that zeros may save.
        shares: [scopes], mean share of skipped multiply-accumulates where it was measured.
    """
    value, below, above = (frame[key].to_numpy() for key in ("energy_mj", "ci_low", "ci_high"))
    with np.errstate(divide="ignore", invalid="ignore"):
        even = (dense - value) / able
    even = np.where((even >= 0) & (even <= 1), even, np.nan)
    if zeros.measured:
        low = high = shares
        at_low = at_high = frame["against_mj"].to_numpy()
    else:
        low, high = np.zeros(len(dense)), np.fmax(max(HIGH, zeros.given), even)
        at_low, at_high = dense, dense - high * able
    found = frame[["costs", "against", "part", "interval"]].assign(
        measured=zeros.measured, low=low, high=high, break_even=even
    )
    for name, theirs in (("zero", dense), ("low", at_low), ("high", at_high)):
        with np.errstate(divide="ignore", invalid="ignore"):
            found[f"ratio_at_{name}"] = theirs / value
            found[f"ratio_at_{name}_from"] = theirs / above
            found[f"ratio_at_{name}_to"] = theirs / below
    return found


def ranges_of(zeros: pd.DataFrame, source: str, confidence: float) -> tuple[GammaRange, ...]:
    """The rows "total" of `Comparison.zeros` as records, one per pricing.

    Args:
        source: where the share of zeros comes from, in words.
    """
    totals = zeros[zeros["part"] == "total"].to_dict("records")
    return tuple(_range_of({str(key): value for key, value in row.items()}, source, confidence) for row in totals)


def _range_of(row: dict[str, Any], source: str, confidence: float) -> GammaRange:
    measured = "the measured " if row["measured"] else ""

    def at(end: str, gamma: str) -> Quantity:
        value, low, high = (float(row[f"ratio_at_{end}{limit}"]) for limit in ("", "_from", "_to"))
        return Quantity(value, low, high, str(row["interval"]), confidence, "", "", f"at {gamma}")

    low, high = (at(end, f"{measured}gamma {row[end]:.3g}") for end in ("low", "high"))
    zero = at("zero", "gamma 0")
    even = None if pd.isna(row["break_even"]) else float(row["break_even"])
    why = ""
    if even is None:
        dearer = "the ANN costs more" if zero.value > 1 else "the ANN is cheaper"
        why = f"no gamma makes both cost the same, {dearer} at any"
    return GammaRange(
        str(row["costs"]), str(row["against"]), bool(row["measured"]), source, float(row["low"]), float(row["high"]),
        even, low, high, zero, why,
    )  # fmt: skip


def in_words(interval: Interval) -> str:
    """A ratio with its limits, digits the same in all of them."""
    if interval.method == "lower bound":
        value, bound = with_bound(interval.value, interval.low, "at least")
        return f"{value} ({bound})" if bound else value
    if np.isnan(interval.low) or not np.isfinite(interval.value):
        return number(interval.value)
    if interval.value >= 1000:
        high = NO_UPPER_LIMIT if np.isinf(interval.high) else f"{interval.high:,.0f}"
        return f"{number(interval.value)} [{interval.low:,.0f}, {high}]"
    return " ".join(with_limits(interval.value, interval.low, interval.high))


def number(value: float) -> str:
    """Four digits, without an exponent for a large ratio."""
    return f"{value:,.0f}" if 1000 <= value < float("inf") else f"{value:.4g}"


def _by_layer(twin: DenseTwin, gamma: pd.DataFrame) -> Floats:
    """The column gamma of a `measure_gamma` table in the order of the twin's layers."""
    layers = twin.layers
    if missing := sorted({"layer", "gamma"} - set(gamma.columns)):
        raise SpikeattnError(f"gamma lacks the column {missing[0]!r}; give a share or the table of measure_gamma")
    known = dict(zip(gamma["layer"], gamma["gamma"], strict=True))
    if absent := [layer for layer in layers["layer"] if layer not in known]:
        raise SpikeattnError(
            f"gamma was measured on another network: {len(absent)} of the {len(layers)} layers of {twin.name} are "
            f"not in it, the first is {absent[0]!r}"
        )
    return layers["layer"].map(known).to_numpy(dtype=float)


def _checked(share: Floats) -> Floats:
    if (bad := ~((share >= 0) & (share <= 1))).any():
        raise SpikeattnError(f"gamma is {share[bad][0]:g}; it is a share, from 0 to 1")
    return share

"""The ANN quantised to what T time steps of spikes can tell apart: bits of every layer, and zeros that are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.costs import get_costs
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor

QUANTISED = "horowitz-45nm-int8"  # what the ANN of few bits, and the spiking network beside it, are priced in
_LIMITS = {"binary": (0.0, 1.0), "ternary": (-1.0, 1.0)}  # of a kind of spikes where the run did not look


def matched_bits(ledger: Ledger) -> tuple[dict[str, int], int]:
    """Bits that tell apart as many levels as the spikes of T steps: b = ceil(log2((max - min) x T + 1)).

    max and min are in units of the spikes, so 0 and 1 give ceil(log2(T + 1)).

    Returns:
        The bits by synapse and product, of the operand with the most levels; and the most bits of any of these.
    """
    T = ledger.time_steps
    read: dict[str, tuple[str, ...]] = {synapse.name: (synapse.input,) for synapse in ledger.synapses}
    read |= {product.name: product.operands for product in ledger.products}
    bits = {
        name: max((T * _levels(ledger.tensor(operand))).bit_length() for operand in operands)
        for name, operands in read.items()
    }
    return bits, max(bits.values(), default=T.bit_length())


def _levels(tensor: CountedTensor) -> int:
    """How many units the largest value of a tensor lies above its smallest, silence being one of the values.

    1, as of binary spikes, for a tensor that is no train of spikes, and for integer spikes whose limits nobody knows.
    """
    if tensor.number or tensor.summed or not tensor.spikes or tensor.maker == "input":
        return 1
    low, high = tensor.low, tensor.high
    if low is None or high is None:
        low, high = _LIMITS.get(tensor.kind, (0.0, 1.0))
    return max(round(max(high, 0.0) - min(low, 0.0)), 1)


@dataclass(frozen=True, eq=False)
class QuantisedAnn:
    """The twin of a spiking network with as many levels as its spikes have.

    Attributes:
        time_steps: of the spiking network.
        inner: [layers], all but those that read the image, which keep 8 bits and skip nothing.
        bits: [layers], each its own where they are the layers of the spiking network, else the largest of these.
        skipped: [layers], the share of the multiply-accumulates that hardware skips because the activation is zero.
        measured: whether that share was measured, not assumed.
    """

    time_steps: int
    inner: NDArray[np.bool_]
    bits: Floats
    skipped: Floats
    measured: bool

    @classmethod
    def of(cls, ledger: Ledger, twin: DenseTwin, gamma: float | pd.DataFrame) -> QuantisedAnn:
        """The quantised `twin` of the spiking network of this ledger; `gamma` as of `compare`."""
        own, most = matched_bits(ledger)
        names, inner = list(twin.layers["layer"]), ~twin.layers["reads_image"].to_numpy(dtype=bool)
        bits = [own[name] for name in names] if set(names) <= set(own) else [most] * len(names)
        skipped = np.where(inner, _gammas(twin, gamma), 0.0)
        measured = isinstance(gamma, pd.DataFrame)
        return cls(ledger.time_steps, inner, np.array(bits, dtype=float), skipped, measured)

    @property
    def most_bits(self) -> int:
        """The most bits of any layer behind the first."""
        return int(self.bits[self.inner].max()) if self.inner.any() else self.time_steps.bit_length()

    def pj(self) -> Floats:
        """pJ of one multiply-accumulate of every layer: an int8 multiplication x bits / 8 + an int8 addition (ours)."""
        int8 = get_costs(QUANTISED)
        narrow = (int8.price("mult") * self.bits / 8 + int8.price("add")) * (1 - self.skipped)
        return np.where(self.inner, narrow, int8.price("mac"))

    def bits_note(self) -> Note:
        """How many bits, and what one multiply-accumulate costs."""
        each, most, T = self.bits[self.inner], self.most_bits, self.time_steps
        steps = "binary steps" if most == T.bit_length() else "steps of these spikes"
        least, b = (f"{each.min():.0f} to ", "b") if len(set(each)) > 1 else ("", str(most))
        text = (
            f"{least}{most} bits tell apart as many levels as {T} {steps} (arXiv 2409.08290); multiply-accumulate = "
            f"int8 multiplication x {b}/8 + int8 addition (our choice), 8 bits in the layer that reads the image"
        )
        return Note("quantised", text)

    def gamma_note(self, mean: float) -> Note:
        """What share of the multiply-accumulates is skipped, on average."""
        how = "as measured" if self.measured else "assumed, not measured"
        text = f"{mean:.4g} of the quantised ANN's multiply-accumulates are skipped for a zero activation ({how})"
        return Note("gamma", text)


def _gammas(twin: DenseTwin, gamma: float | pd.DataFrame) -> Floats:
    """The share of skipped multiply-accumulates as it was given, per layer."""
    layers = twin.layers
    if isinstance(gamma, pd.DataFrame):
        if missing := sorted({"layer", "gamma"} - set(gamma.columns)):
            raise SpikeattnError(f"gamma lacks the column {missing[0]!r}; give a share or the table of measure_gamma")
        known = dict(zip(gamma["layer"], gamma["gamma"], strict=True))
        if absent := [layer for layer in layers["layer"] if layer not in known]:
            raise SpikeattnError(
                f"gamma was measured on another network: {len(absent)} of the {len(layers)} layers of {twin.name} are "
                f"not in it, the first is {absent[0]!r}"
            )
        share = layers["layer"].map(known).to_numpy(dtype=float)
    elif isinstance(gamma, Real) and not isinstance(gamma, bool):
        share = np.full(len(layers), float(gamma))
    else:
        raise SpikeattnError(f"gamma is a {type(gamma).__name__}; give a share from 0 to 1 or a measure_gamma table")
    if (bad := ~((share >= 0) & (share <= 1))).any():
        raise SpikeattnError(f"gamma is {share[bad][0]:g}; it is a share, from 0 to 1")
    return share

"""What attention alone is charged in a comparison: its additions, its AND gates, the leak of its neurons.

Masks of spikes cost nothing in published energy figures, and no convention charges neurons. In a whole network both are
small; of attention alone they are most of what there is, and a ratio without them is a division by nearly nothing. So
in the rows of attention alone, and only there, every AND gate has a price and every q, k and v neuron that leaks costs
one multiply-accumulate per step (Lemaire et al., arXiv 2210.13107, as in `models/memory.py`). Totals, parts and the
figures of papers stay as their convention counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.amounts import OPS, Amounts
from spikeattn.energy.by_part import Key, Scope
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import PJ_TO_MJ, Cost, CostTable
from spikeattn.energy.dense_twin import ATTENTION, shared_part
from spikeattn.energy.models.memory import NOT_LEAKY
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor

AND_GATE = Cost(
    pj=0.01,
    source="one AND gate with its wires, 45 nm: a third of an int8 addition, 0.03 (Horowitz 2014), which is some 40 "
    "gates; no published figure of a mask was found, so this is an upper bound",
    status="choice",
)
_ROLES = ("Q_S", "K_S", "V_S", "q", "k", "v")  # of the neurons that make q, k and v, as papers or `structure` have them
_SUMS = {"token_sum": "token sums", "average": "means", "matmul": "matrix products"}


@dataclass(frozen=True, eq=False)
class AttentionCharges:
    """What the rows of attention alone are charged besides what their convention counts.

    Attributes:
        scopes: of the comparison.
        gates, leaks: [scopes], AND gates and multiply-accumulates of leaking neurons per image.
        priced: [scopes], rows of attention alone that are charged these.
        unpriced: [scopes], rows of attention alone whose convention is a formula without gates and leak: no ratio.
        masked: [scopes], rows of the other tables that are attention and nothing else, with AND gates at no price.
        what: what the additions of attention are, in words.
        neurons: what of the neurons is charged, in words.
    """

    scopes: tuple[Scope, ...]
    gates: Floats
    leaks: Floats
    priced: NDArray[np.bool_]
    unpriced: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    what: str
    neurons: str

    @classmethod
    def of(
        cls, ledger: Ledger, convention: Convention, amounts: Amounts[Key], scopes: Sequence[Scope]
    ) -> AttentionCharges:
        """Those of a network under a convention."""
        members = np.stack([scope.members for scope in scopes], axis=1).astype(float)
        alone = np.array([scope.part == ATTENTION for scope in scopes])
        table = np.array([scope.table == "attention" for scope in scopes])
        counts, formula = convention.sop == "fan-out", convention.attention != "operations"
        gates = amounts.floor[:, OPS.index("mask")] @ members
        leaks, neurons = np.zeros(len(scopes)), "updates of the neurons as the convention counts them"
        if convention.neurons == "free":
            leaking = [t for t in qkv_neurons(ledger) if t.neuron not in NOT_LEAKY]
            sizes = dict.fromkeys(amounts.keys, 0)
            for tensor in leaking:
                sizes[shared_part(tensor.part), tensor.block] += tensor.elements
            leaks = np.array([sizes[key] for key in amounts.keys], dtype=float) * ledger.time_steps @ members
            neurons = "leak of the q, k, v neurons at one multiply-accumulate each per step"
            neurons = neurons if leaking else "no leak, for no q, k or v neuron is known to leak"
        ops = [p.op for p in ledger.products if shared_part(p.part) == ATTENTION]
        what = " and ".join(words for op, words in _SUMS.items() if op in ops) or "no additions"
        return cls(
            tuple(scopes), gates, leaks, table & (not formula) & (alone | counts), table & alone & formula,
            ~table & alone & counts & (gates > 0), what, neurons,
        )  # fmt: skip

    def extra(self, costs: CostTable) -> Floats:
        """[scopes], mJ per image of the AND gates without a price in these costs and of the leak."""
        gate = AND_GATE.pj if costs.price("mask") == 0 else 0.0  # a price of the table's own is in the energy already
        return np.where(self.priced, self.gates * gate + self.leaks * costs.price("mac"), 0.0) * PJ_TO_MJ

    def includes(self, costs: CostTable) -> list[str]:
        """[scopes], what the energy of a row holds, in words; "" outside the rows of attention alone."""
        pj = costs.price("mask") or AND_GATE.pj
        named = []
        for i, scope in enumerate(self.scopes):
            if scope.table != "attention":
                named.append("")
            elif self.priced[i]:
                layers = "" if scope.part == ATTENTION else "layers of q, k, v, "
                gates = f"AND gates at {pj:g} pJ, " if self.gates[i] else ""
                named.append(f"{layers}{self.what}, {gates}{self.neurons}")
            else:
                named.append("what the convention counts, AND gates and leak at no price")
        return named

    def without_ratio(self, costs: CostTable, energies: Floats) -> NDArray[np.bool_]:
        """[scopes], rows of attention whose ratio would rest on a price of zero, or on nothing at all."""
        masked = self.masked if costs.price("mask") == 0 else np.zeros_like(self.masked)
        nothing = np.array([scope.table == "attention" for scope in self.scopes]) & (energies == 0)
        return np.asarray(masked | self.unpriced | nothing)


def qkv_neurons(ledger: Ledger) -> list[CountedTensor]:
    """The neurons that make q, k and v of spiking attention.

    Those with such a role; in runs whose tensors have none, all neurons that an operation of attention receives.
    """
    inside = [p for p in ledger.products if shared_part(p.part) == ATTENTION]
    read = {name for product in inside for name in product.operands}
    neurons = [t for t in ledger.tensors if t.maker == "neuron" and shared_part(t.part) == ATTENTION]
    named = [t for t in neurons if t.role in _ROLES]
    known = {t.block for t in named}
    return named + [t for t in neurons if t.name in read and t.block not in known]


def cleared(frame: pd.DataFrame, rows: NDArray[np.bool_]) -> pd.DataFrame:
    """A frame of a comparison in which nothing is compared in these rows."""
    frame = frame.copy()
    frame.loc[rows, ["ratio", "ratio_low", "ratio_high", "break_even"]] = np.nan
    frame.loc[rows, ["cannot_lose", "interval", "verdict"]] = None
    return frame

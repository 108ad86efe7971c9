"""What the ANN of a ledger costs under the formulas that papers print, from the ledger's geometry alone.

A comparison counts a twin that exists; the formulas here are for reproducing printed figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikeattn.energy.conventions import EVIDENCE
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage.ledger import Ledger

ATTENTION = {
    "2N^2D": "Q K^T and A V: N x N x D multiply-accumulates each",
    "2ND^2": "2 x N x D x D instead",
    "N^2D/2": "a quarter of 2 x N x N x D",
}


@dataclass(frozen=True)
class DenseFormula:
    """How a paper counts the multiply-accumulates of an ordinary transformer.

    Attributes:
        attention: one of `ATTENTION`, per block.
        softmax: whether softmax and scaling are counted, 2 N^2 + N^2 per block.
        head: whether the classifier is counted.
    """

    name: str
    source: str
    evidence: str
    attention: str = "2N^2D"
    softmax: bool = False
    head: bool = True

    def __post_init__(self) -> None:
        if self.attention not in ATTENTION:
            raise unknown(f"attention of formula {self.name!r}", self.attention, ATTENTION)
        if self.evidence not in EVIDENCE:
            raise unknown(f"evidence of formula {self.name!r}", self.evidence, EVIDENCE)

    def attention_macs(self, tokens: int, channels: int) -> float:
        """Multiply-accumulates of one block's attention without Q, K and V."""
        N, D = tokens, channels
        products = {"2N^2D": 2 * N * N * D, "2ND^2": 2 * N * D * D, "N^2D/2": N * N * D / 2}[self.attention]
        return products + 3 * N * N * self.softmax


DENSE: Mapping[str, DenseFormula] = {
    formula.name: formula
    for formula in (
        DenseFormula("dense", "dimensions of the layers; Q K^T and A V as they take place", "own definition"),
        DenseFormula(
            "sdt-ann-printed",
            "reconstruction of the ANN figures of arXiv 2307.01694: matrix products as 2*N*D^2; softmax and scaling",
            "reconstruction, fairly strong",
            attention="2ND^2",
            softmax=True,
        ),
        DenseFormula(
            "spikformer-ann-printed",
            "reconstruction of the ANN figure of arXiv 2209.15425: a quarter of the matrix products, no classifier",
            "reconstruction, weak",
            attention="N^2D/2",
            head=False,
        ),
    )
}


def tokens_and_channels(ledger: Ledger) -> tuple[int, int, int]:
    """Blocks, tokens N and channels D of a spike-driven transformer; all its blocks are alike."""
    sums = [product for product in ledger.products if product.op == "token_sum"]
    operands = [ledger.tensor(product.operands[0]) for product in sums]
    tokens = [p.summed_over or t.elements // t.shape[0] for p, t in zip(sums, operands, strict=True)]
    sizes = {(n, tensor.elements // n) for n, tensor in zip(tokens, operands, strict=True)}
    if len(sizes) != 1:
        raise SpikeattnError(f"{len(sizes)} sizes of attention blocks in this model; these formulas need one")
    return len(operands), *sizes.pop()


def dense_macs(ledger: Ledger, formula: DenseFormula) -> float:
    """Multiply-accumulates of the whole ANN per image."""
    blocks, tokens, channels = tokens_and_channels(ledger)
    layers = sum(s.dense_macs for s in ledger.synapses if formula.head or s.part != "head")
    return layers + blocks * formula.attention_macs(tokens, channels)

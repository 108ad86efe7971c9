"""The same network without spikes: what its layers would cost as multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.recording.ledger import Ledger


@dataclass(frozen=True)
class DenseTwin:
    """Multiply-accumulates of one image through the same layers with real activations and T = 1.

    Attributes:
        layers: of all layers with weights.
        attention: of the matrix products of softmax attention in place of each spike-driven one.
        note: what is in `macs`, in a sentence.
    """

    layers: int
    attention: int
    note: str

    @property
    def macs(self) -> int:
        """All multiply-accumulates per image."""
        return self.layers + self.attention


def dense_twin(ledger: Ledger) -> DenseTwin:
    """The ordinary network beside a spiking one: the same layers once, and softmax attention where SDSA stands.

    A block of spike-driven attention with N tokens of D channels becomes Q K^T and A V, 2 N^2 D multiply-accumulates
    (Yao et al., NeurIPS 2023, table 1; the softmax and its scaling, some 3 N^2, are left out). Matrix products that
    the spiking network has itself are taken over as they are.
    """
    attention = sum(product.elements for product in ledger.products if product.op == "matmul")
    sums = [ledger.tensor(p.operands[0]) for p in ledger.products if p.op == "token_sum" and p.part == "SDSA"]
    for tensor in sums:
        tokens = tensor.elements // tensor.shape[0]
        attention += 2 * tokens * tensor.elements
    note = "the same layers once, as multiply-accumulates"
    if sums:
        note += f", and softmax attention (2 N^2 D) in place of the {len(sums)} spike-driven ones"
    elif attention:
        note += ", and the same matrix products"
    return DenseTwin(ledger.dense_macs(), attention, note)

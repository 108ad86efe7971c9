"""Conventions: which operations a published energy figure counts, as a record of named switches.

Papers price the same network differently: with the rate of another tensor, with or without the border of a padded
convolution, with the first convolution once or at every step. A `Convention` names each such choice; `rules.py` turns
it and a ledger into operations. `docs/energy.md` derives every formula.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeattn.boundary.arguments import shown
from spikeattn.energy.custom_records import changed_name, changes
from spikeattn.errors import SpikeattnError, unknown

DEFAULT = "exact"

# The order of the switches is the order of the steps of a waterfall.
SWITCHES: dict[str, dict[str, str]] = {
    "sop": {
        "fan-out": "additions that take place: every spike times the weights it meets, counted during the pass",
        "rate": "rate x dense operations; over-counts the border of padded convolutions",
    },
    "layer_rate": {
        "input": "the rate of the tensor the layer receives",
        "before-pool": "the rate of the neurons before the pooling, as the published hooks measure it",
        "own-output": "the rate of the neurons that bear the layer's own name, which it feeds (stem convolutions); "
        "other layers by what they receive",
    },
    "qkv_rate": {
        "input": "Q, K and V layers are charged by the tensor they receive",
        "mean-output": "by the mean rate of their outputs Q_S, K_S and V_S",
    },
    "qkv_size": {
        "ND^2": "N x D x D dense operations per Q, K or V layer",
        "N^2D": "N x N x D instead",
    },
    "attention": {
        "operations": "token sums, matrix products and masks as they take place",
        "rate-sum": "(R_Q + R_K) x N x D additions per token sum and step, no masks; no formula for matrix products",
        "rate-sum-products": "as rate-sum; a matrix product of spikes: its dense operations x the rate of its first "
        "binary operand, R_Q + R_K over both products",
        "least-rate": "a matrix product of spikes: its dense operations x the smaller rate of its binary operands; no "
        "masks",
        "none": "no operation without weights is counted",
    },
    "first_layer": {
        "by-kind": "a real input costs MACs, an input of spikes or event counts additions",
        "mac": "MACs whatever the input is",
        "mac-input-rate": "MACs x the share of non-zero pixels, which is 1 for a still image",
        "mac-output-rate": "MACs x the rate of the neurons that the first layer feeds",
        "ac": "additions whatever the input is, as if every pixel were a spike train of rate 1",
    },
    "first_conv": {
        "once": "the MACs of a still image are charged once, for they are the same at every step",
        "every-step": "the MACs of the first layer are charged at every time step",
    },
    "head": {
        "by-kind": "the classifier adds for spikes and multiplies for a real input",
        "mac": "the classifier multiplies, once per image: the mean over the time steps goes in",
    },
    "spikes": {
        "value": "an integer spike counts by its value",
        "non-zero": "every non-zero element counts as one spike",
        "mac": "a layer adds for 0/1 spikes alone; any other value makes it dense MACs",
    },
    "batch_norm": {
        "folded": "batch norms fold into the weights before them and cost nothing",
        "counted": "two MACs per output element of every layer but the classifier",
    },
    "neurons": {
        "free": "membrane updates are not counted",
        "counted": "one addition per neuron and time step, onto its membrane potential",
    },
    "additions": {
        "counted": "residual sums, one addition per element and time step, and sums and averages of numbers",
        "free": "residual sums, and sums and averages of numbers, are not counted",
    },
}
_OF_RATES = {"layer_rate": "input", "qkv_rate": "input", "qkv_size": "ND^2"}

EVIDENCE = {
    "own definition": "spikeattn's own, or a preset whose switches the user changed",
    "as written": "the formula of a paper or of published code; its printed figures may have come about otherwise",
    "reconstruction, fairly strong": "our reading of printed figures; it reproduces all that can be checked",
    "reconstruction, weak": "our reading of printed figures; few figures can be checked",
}


@dataclass(frozen=True)
class Convention:
    """One way to count operations: a value for every switch of `SWITCHES`, who counts so, and how sure that is.

    Attributes:
        source: where the choices come from.
        evidence: one of `EVIDENCE`.
        checked_on: the published figures it was compared with, and what came out.

    Raises:
        SpikeattnError: a switch has an unknown value, or two switches contradict each other.
    """

    name: str
    source: str
    evidence: str = "own definition"
    checked_on: str = "nothing"
    sop: str = "fan-out"
    layer_rate: str = "input"
    qkv_rate: str = "input"
    qkv_size: str = "ND^2"
    attention: str = "operations"
    first_layer: str = "by-kind"
    first_conv: str = "once"
    head: str = "by-kind"
    spikes: str = "value"
    batch_norm: str = "folded"
    neurons: str = "free"
    additions: str = "counted"

    def __post_init__(self) -> None:
        for switch, choices in SWITCHES.items():
            if str(getattr(self, switch)) not in choices:
                raise unknown(f"value of switch {switch!r}", str(getattr(self, switch)), choices)
        if self.evidence not in EVIDENCE:
            raise unknown(f"evidence of convention {self.name!r}", str(self.evidence), EVIDENCE)
        for switch, neutral in _OF_RATES.items():
            if self.sop == "fan-out" and getattr(self, switch) != neutral:
                raise SpikeattnError(
                    f"convention {self.name!r}: {switch}={getattr(self, switch)!r} pairs a layer with a rate, which "
                    "sop='fan-out' does not use; set sop='rate' too"
                )

    def switches(self) -> dict[str, str]:
        """The value of every switch."""
        return {switch: getattr(self, switch) for switch in SWITCHES}


PRESETS: dict[str, Convention] = {
    preset.name: preset
    for preset in (
        Convention(
            "exact",
            "spikeattn: the operations that take place",
            checked_on="sops equal those of SpikingJelly's SynOpCounter",
        ),
        Convention(
            "sdt-paper",
            "Yao et al., Spike-driven Transformer, NeurIPS 2023 (arXiv 2307.01694), Table 1 as written: first "
            "convolution E_MAC*T*R_C*FL with R_C = 1 for a still image, other convolutions E_AC*T*R_C*FL with the "
            "rates of Table S1, taken before the pooling",
            evidence="as written",
            checked_on="Table S1 of SDT-8-512: 5.35 mJ, beside the printed 4.50",
            sop="rate",
            layer_rate="before-pool",
            qkv_rate="mean-output",
            attention="rate-sum",
            first_layer="mac-input-rate",
            first_conv="every-step",
            spikes="non-zero",
            additions="free",
        ),
        Convention(
            "sdt-printed",
            "spikeattn's reconstruction of the 4.50 mJ printed for SDT-8-512 (arXiv 2307.01694, Table 3) from its "
            "Table S1: first convolution x the rate of Conv1, convolutions 2 to 4 by the row of their own name, QKV "
            "as 3*N^2*D x Input; no statement of the paper's authors",
            evidence="reconstruction, weak",
            checked_on="one figure: 4.498 for the printed 4.50 mJ, one of 125 combinations tried",
            sop="rate",
            layer_rate="own-output",
            qkv_size="N^2D",
            attention="rate-sum",
            first_layer="mac-output-rate",
            first_conv="every-step",
            spikes="non-zero",
            additions="free",
        ),
        Convention(
            "input-rate",
            "SOP(l) = rate x T x FLOPs(l) with the rate of the layer's input, as defined in Zhou et al., Spikformer, "
            "ICLR 2023 (arXiv 2209.15425); first convolution and attention as in `exact`",
            evidence="as written",
            checked_on="Table S1 of SDT-8-512: 5.61 mJ, where pooled rates stand for a lower bound; 4.50 is printed",
            sop="rate",
            additions="free",
        ),
        Convention(
            "spikformer",
            "Zhou et al., Spikformer, ICLR 2023 (arXiv 2209.15425): E_MAC*FL of the first convolution + E_AC * sum of "
            "SOP(l); the first convolution at every step as its printed energies have it, matrix products as in the "
            "code its authors name for it (Spikingformer's)",
            evidence="reconstruction, fairly strong",
            checked_on="five of five spiking rows of its Table 2 from their own SOPs, within rounding, with the first "
            "convolution at the width of D = 512 in all of them",
            sop="rate",
            attention="least-rate",
            first_conv="every-step",
            additions="free",
        ),
        Convention(
            "spikingformer-code",
            "Zhou et al., Spikingformer (arXiv 2304.11954), published energy code: layers that receive 0/1 spikes "
            "rate x dense ACs, all others dense MACs; products T*H*N*d^2*(min(r_K, r_V) + r_Q); no batch norms, no "
            "neurons; its classifier receives the mean over the time steps",
            evidence="as written",
            checked_on="0.3473 G MAC of 8-512, and the energies of 8-384, 8-512 and 8-768 from their printed ACs, "
            "within rounding",
            sop="rate",
            attention="least-rate",
            first_conv="every-step",
            head="mac",
            spikes="mac",
            additions="free",
        ),
        Convention(
            "meta-spikeformer",
            "Yao et al., Meta-SpikeFormer (SDT v2), ICLR 2024 (arXiv 2404.03663): QKV T*R_C*3*FL, SDSA-1 and -2 "
            "T*R*N*D, SDSA-3 and -4 T*R*N*D^2, here per head; the first convolution as in the authors' SDT v1",
            evidence="as written",
            sop="rate",
            attention="rate-sum-products",
            first_layer="mac-input-rate",
            first_conv="every-step",
            spikes="non-zero",
            additions="free",
        ),
        Convention(
            "syops",
            "syops-counter 0.0.5 (Chen et al., arXiv 2301.11929), its code: rate x dense ACs for 0/1 inputs, dense "
            "MACs for any other, two MACs per element of a batch norm, an AC per neuron and step; operations that are "
            "no modules count nothing. Its biases and pools are left out here",
            evidence="as written",
            checked_on="its own hooks on a small convolutional SNN without biases and pools: the same MACs and ACs",
            sop="rate",
            attention="none",
            first_conv="every-step",
            spikes="mac",
            batch_norm="counted",
            neurons="counted",
            additions="free",
        ),
    )
}


def list_conventions() -> tuple[str, ...]:
    """Names of the presets, `exact` first."""
    return tuple(PRESETS)


def get_convention(convention: str | Convention = DEFAULT, **switches: str) -> Convention:
    """The preset of this name (or the convention itself) with some switches changed.

    A changed convention carries the changes in its name, "exact[first_conv=every-step]", and loses the preset's
    evidence, so that no figure can pass for the preset's.

    Raises:
        SpikeattnError: unknown preset, switch or value, with the closest valid names.
    """
    if isinstance(convention, str):
        if convention not in PRESETS:
            raise unknown("convention", convention, PRESETS)
        convention = PRESETS[convention]
    if not isinstance(convention, Convention):
        raise SpikeattnError(
            f"convention is {shown(convention)}; give a name of list_conventions() or a Convention, which "
            "get_convention(name, switch=value) makes"
        )
    changed = changes(convention, switches, SWITCHES, "switch of convention")
    if not changed:
        return convention
    name = changed_name(convention.name, changed)
    return replace(convention, name=name, evidence="own definition", checked_on="nothing", **changed)

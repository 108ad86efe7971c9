"""Conventions: which operations a published energy figure counts, as a record of named switches.

Papers price the same network differently: with the rate of another tensor, with or without the border of a padded
convolution, with the first convolution once or at every step. A `Convention` names each such choice; `terms.py` turns
it and a ledger into operations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeattn.errors import SpikeattnError, unknown

DEFAULT = "exact"

SWITCHES: dict[str, dict[str, str]] = {
    "sop": {
        "fan-out": "additions that take place: every spike times the weights it meets, counted during the pass",
        "rate": "rate x dense operations; over-counts the border of padded convolutions",
    },
    "layer_rate": {
        "input": "the rate of the tensor the layer receives",
        "before-pool": "the rate of the neurons before the pooling, as the published hooks measure it",
    },
    "qkv_rate": {
        "input": "Q, K and V layers are charged by the tensor they receive",
        "mean-output": "by the mean rate of their outputs Q_S, K_S and V_S",
    },
    "attention": {
        "operations": "token sums, matrix products and masks as they take place",
        "rate-sum": "(R_Q + R_K) x N x D additions per step, no masks",
    },
    "first_layer": {
        "by-kind": "a real input costs MACs, an input of spikes or event counts additions",
        "mac": "MACs whatever the input is",
    },
    "first_conv": {
        "once": "the MACs of a still image are charged once, for they are the same at every step",
        "every-step": "the MACs of the first layer are charged at every time step",
    },
    "spikes": {
        "value": "an integer spike counts by its value",
        "non-zero": "every non-zero element counts as one spike",
    },
}


@dataclass(frozen=True)
class Convention:
    """One way to count operations: a value for every switch of `SWITCHES`, and who counts so.

    Raises:
        SpikeattnError: a switch has an unknown value, or two switches contradict each other.
    """

    name: str
    source: str
    sop: str = "fan-out"
    layer_rate: str = "input"
    qkv_rate: str = "input"
    attention: str = "operations"
    first_layer: str = "by-kind"
    first_conv: str = "once"
    spikes: str = "value"

    def __post_init__(self) -> None:
        for switch, values in SWITCHES.items():
            if getattr(self, switch) not in values:
                raise unknown(f"value of switch {switch!r}", str(getattr(self, switch)), values)
        for switch in ("layer_rate", "qkv_rate"):
            if self.sop == "fan-out" and getattr(self, switch) != "input":
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
            "spikeattn: the operations that take place; sops agree with SpikingJelly's SynOpCounter",
        ),
        Convention(
            "sdt-paper",
            "Yao et al., Spike-driven Transformer, NeurIPS 2023 (arXiv 2307.01694), Table 1 as written: first "
            "convolution E_MAC*T*FL (R_C = 1), other convolutions E_AC*T*R_C*FL with the rates of Table S1, taken "
            "before the pooling",
            sop="rate",
            layer_rate="before-pool",
            qkv_rate="mean-output",
            attention="rate-sum",
            first_layer="mac",
            first_conv="every-step",
            spikes="non-zero",
        ),
        Convention(
            "input-rate",
            "SOP(l) = rate x T x FLOPs(l) with the rate of the layer's input, as defined in Zhou et al., Spikformer, "
            "ICLR 2023 (arXiv 2209.15425); first convolution and attention as in `exact`",
            sop="rate",
        ),
    )
}


def list_conventions() -> tuple[str, ...]:
    """Names of the presets, `exact` first."""
    return tuple(PRESETS)


def get_convention(convention: str | Convention = DEFAULT, **overrides: str) -> Convention:
    """The preset of this name (or the convention itself) with some switches changed.

    A changed convention carries the changes in its name, "exact[first_conv=every-step]", so that no figure can pass
    for the preset's.

    Raises:
        SpikeattnError: unknown preset, switch or value, with the closest valid names.
    """
    if isinstance(convention, str):
        if convention not in PRESETS:
            raise unknown("convention", convention, PRESETS)
        convention = PRESETS[convention]
    for switch in overrides:
        if switch not in SWITCHES:
            raise unknown(f"switch of convention {convention.name!r}", switch, SWITCHES)
    changed = {switch: value for switch, value in overrides.items() if getattr(convention, switch) != value}
    if not changed:
        return convention
    listed = ", ".join(f"{switch}={value}" for switch, value in sorted(changed.items()))
    return replace(convention, name=f"{convention.name}[{listed}]", **changed)

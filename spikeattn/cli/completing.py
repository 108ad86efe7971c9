"""What the shell offers behind an option: names, written down here, for a key press cannot wait for torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

TWINS = (
    "ann_2_256", "ann_2_256_cifar10dvs", "ann_2_256_gesture", "ann_2_512", "ann_6_512", "ann_8_384", "ann_8_512",
    "ann_8_768", "ann_10_512", "ann_digits", "ann_digits_events", "ann_digits_scenes", "ann_nmnist",
)  # fmt: skip
MODELS = tuple(f"sdt{name.removeprefix('ann')}" for name in TWINS)
NETWORKS = (*MODELS, *TWINS, "vit_digits")
DATA = (
    "digits", "digits-events", "digits-scenes", "cifar10:", "imagenet:", "folder:", "nmnist:", "dvs128-gesture:",
    "cifar10-dvs:",
)  # fmt: skip
COSTS = (
    "horowitz-45nm-fp32", "7nm-fp16", "7nm-int8", "horowitz-45nm-fp16", "horowitz-45nm-int32",
    "horowitz-45nm-int8-acc32", "horowitz-45nm-int8", "loihi", "truenorth", "tianjic", "odin", "reckon", "ubrain",
    "neuronflow", "spinnaker", "spinnaker2", "seneca",
)  # fmt: skip
CONVENTIONS = (
    "exact", "sdt-paper", "sdt-printed", "input-rate", "spikformer", "spikingformer-code", "meta-spikeformer", "syops",
)  # fmt: skip
ENERGY_MODELS = (
    "compute", "compute+memory", "lemaire-2022", "qualia-sram", "spikingjelly-simple", "keras-spiking-loihi",
    "keras-spiking-spinnaker", "keras-spiking-spinnaker2", "keras-spiking-cpu", "keras-spiking-gpu",
    "keras-spiking-arm", "sana-fe-loihi", "ns-ace", "s-ace", "spikes-per-synapse",
)  # fmt: skip


def offering(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Completes a word to the names that begin with it, and the last of several between commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete

"""Networks that nobody here wrote, at the sizes of their papers: SpikingJelly's, and the authors' where clones are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Network:
    """A network for ImageNet at 224 px.

    Attributes:
        build: makes it; None for a file of a clone.
        repository, file: owner/name and FILE.py:factory below a folder of clones.
        arguments: of the factory.
        neurons: names of classes of its own, which the table of neurons does not have.
        integer: its neurons give integers (I-LIF).
        statistics: it keeps statistics of its own while it is trained, without which it gives NaN.
    """

    build: Build | None = None
    repository: str = ""
    file: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    neurons: tuple[str, ...] = ()
    integer: bool = False
    statistics: bool = False


def _spikformer() -> nn.Module:
    from spikingjelly.activation_based.model import spikformer

    return spikformer.Spikformer(4, 3, 224, 224, 16, 1000, 512, 8, 4, 8)


def _qkformer() -> nn.Module:
    from spikingjelly.activation_based.model import qkformer

    return qkformer.qkformer_10_384()


def _maxformer() -> nn.Module:
    from spikingjelly.activation_based.model import maxformer

    return maxformer.maxformer_10_384()


def _sew_resnet18() -> nn.Module:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import sew_resnet

    net = sew_resnet.sew_resnet18(spiking_neuron=neuron.IFNode, cnf="ADD", detach_reset=True)
    functional.set_step_mode(net, "m")
    return _Repeated(net, 4)


class _Repeated(nn.Module):
    """A multi-step network shown a still image [B, ...] at each of T time steps; its scores are the mean."""

    def __init__(self, net: nn.Module, T: int) -> None:
        super().__init__()
        self.net, self.T = net, T

    def forward(self, images):  # type: ignore[no-untyped-def]
        return self.net(images.expand(self.T, *images.shape)).mean(0)


_SDT = {
    "img_size_h": 224, "img_size_w": 224, "patch_size": 16, "in_channels": 3, "num_classes": 1000, "embed_dims": 512,
    "num_heads": 8, "mlp_ratios": 4, "depths": 8, "sr_ratios": 1, "T": 4, "pooling_stat": "1111",
}  # fmt: skip  # conf/imagenet/8_512_300E_t4.yml
NETWORKS = {
    "SpikingJelly: Spikformer-8-512": Network(_spikformer),
    "SpikingJelly: QKFormer-10-384": Network(_qkformer),
    "SpikingJelly: MaxFormer-10-384": Network(_maxformer),
    "SpikingJelly: SEW-ResNet-18": Network(_sew_resnet18),
    "Spikformer-8-512": Network(None, "ZK-Zhou/spikformer", "imagenet/model.py:spikformer"),
    "SDT-8-512": Network(None, "BICLab/Spike-Driven-Transformer", "model/spikeformer.py:sdt", _SDT),
    "SDT-V2-8-384": Network(
        None, "BICLab/Spike-Driven-Transformer-V2", "classification/models.py:metaspikformer_8_384"
    ),
    "SDT-V3-T (I-LIF)": Network(
        None,
        "BICLab/Spike-Driven-Transformer-V3",
        "SDT_V3/Classification/Model_Base/models.py:Efficient_Spiking_Transformer_t",
        neurons=("MultiSpike",),
        integer=True,
    ),
    "SpikingResformer-Ti": Network(
        None, "xyshi2000/SpikingResformer", "models/spikingresformer.py:spikingresformer_ti", {"T": 4}, statistics=True
    ),
}


def address_of(network: Network, clones: Path) -> str | None:
    """FILE.py:factory of a published network; None for one that SpikingJelly brings."""
    return f"{clones}/{network.repository.replace('/', '+')}/{network.file}" if network.repository else None


def at_hand(clones: Path | None) -> dict[str, Network]:
    """The networks that can be built here."""
    found = {}
    for name, network in NETWORKS.items():
        address = None if clones is None else address_of(network, clones)
        if not network.repository or (address is not None and Path(address.rpartition(":")[0]).is_file()):
            found[name] = network
    return found

"""Published energies of networks that SpikingJelly or timm can build: dense counts, and what the energy implies.

No firing rates of these spiking networks were published, so their energies cannot be computed. Their dense operations
can, and with the formula of their papers the printed energy implies one mean rate, which can be judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from spikeattn.compat.spikingjelly_version import is_current, require_current, what_is_there
from spikeattn.compat.torch_modes import without_memory
from spikeattn.energy.costs import PJ_TO_MJ, get_costs
from spikeattn.energy.published_rows import Row, make_row, rows_of, title_of, where_printed
from spikeattn.energy.torch_macs import Operation, operations_of

if TYPE_CHECKING:
    from torch import nn

COSTS = "horowitz-45nm-fp32"
SIZES = {"(288)": 288, "(384)": 384, "@384": 384}  # by what a model's name says; 224 pixels otherwise
# timm's networks of the printed names.
ANNS = {
    "ViT-B (384 ANN)": ("vit_base_patch16_384", 384),
    "DeiT-B (ANN)": ("deit_base_patch16_224", 224),
    "Swin-B (ANN)": ("swin_base_patch4_window7_224", 224),
    "ViT 86M": ("vit_base_patch16_224", 224),
    "60M": ("resnet152", 224),
}
PAPERS = ("QKFormer", "Max-Former", "ViT (ANN)", "RSB-CNN-152 (ANN)")
FORMULA = "E_MAC x (first convolution x T + classifier) + E_AC x rate x T x all other operations"


@dataclass(frozen=True)
class Dense:
    """Multiply-accumulates of one time step: of the image's convolution, of the classifier, of everything."""

    first: int
    head: int
    total: int
    parameters: int


def network_rows() -> Iterator[Row]:
    """Dense counts and implied rates of QKFormer and Max-Former, and the energies of the ANNs beside them."""
    seen = set()
    for printed in rows_of(*PAPERS):
        if printed["model"] in ANNS:
            yield from _ann(printed)
            continue
        if not is_current():
            note = f"firing rates were not published; its dense operations need SpikingJelly 2, {what_is_there()}"
            number, where = printed["power_mJ"], where_printed(printed)
            yield make_row(title_of(printed), "energy, mJ", "", None, number, "", where, note)
            continue
        dense = dense_of(printed["paper"], _width(printed["model"]), _size(printed["model"]))
        first = (printed["paper"], _width(printed["model"]), _size(printed["model"])) not in seen
        seen.add((printed["paper"], _width(printed["model"]), _size(printed["model"])))
        yield from _spiking(printed, dense, first)


def _spiking(printed: dict[str, str], dense: Dense, first: bool) -> Iterator[Row]:
    costs, name, where = get_costs(COSTS), title_of(printed), where_printed(printed)
    mac, ac, T = costs.price("mac"), costs.price("ac"), int(printed["T"])
    own, weak = "own definition", "reconstruction, weak"
    if first:  # of a network that several rows print
        number = printed["params_M"]
        yield make_row(name, "parameters, M", "", dense.parameters / 1e6, number, own, where)
        note = "all layers and products of one time step, counted by torch on SpikingJelly's network"
        yield make_row(name, "dense operations of one step, G", "dense", dense.total / 1e9, "", own, where, note)
        note = "the convolution that reads the image, one time step"
        yield make_row(name, "MACs of the first layer, G", "dense", dense.first / 1e9, "", own, where, note)
    macs = T * dense.first + dense.head
    additions = T * (dense.total - dense.first - dense.head)
    energy = float(printed["power_mJ"])
    rate = (energy / PJ_TO_MJ - mac * macs) / (ac * additions)
    yield make_row(
        name, "mean rate that the printed energy implies", "spikingformer-code", rate, "", weak, where,
        f"{FORMULA}; {mac * macs * PJ_TO_MJ:.3g} mJ of it are MACs, at any rate",
    )  # fmt: skip
    note = f"firing rates were not published; {energy:g} mJ need a mean rate of {rate:.4f}, weighted by operations"
    yield make_row(name, "energy, mJ", "", None, printed["power_mJ"], "", where, note)


def _ann(printed: dict[str, str]) -> Iterator[Row]:
    """An ANN of timm's: its MACs x the price of one."""
    network, size = ANNS[printed["model"]]
    mac = get_costs(COSTS).price("mac")
    macs, number = macs_of(network, size), printed["power_mJ"]
    note = (
        f"{macs / 1e9:.4g} G MACs of timm's {network} at {size} px; the printed figure is {float(number) / mac:.4g} G"
    )
    name, where = title_of(printed), where_printed(printed)
    yield make_row(name, "energy, mJ", "dense", macs * mac * PJ_TO_MJ, number, "as written", where, note)


def _width(model: str) -> int:
    return int(model.split()[0].rpartition("-")[2])


def _size(model: str) -> int:
    return next((size for mark, size in SIZES.items() if mark in model), 224)


@lru_cache
def dense_of(paper: str, width: int, size: int) -> Dense:
    """Dense counts of QKFormer-10 or Max-Former-10 of this width, without memory for its weights."""
    require_current(f"dense counts of {paper}")
    import torch
    from spikingjelly.activation_based.model.maxformer import MaxFormer
    from spikingjelly.activation_based.model.qkformer import QKFormer

    with torch.device("meta"):
        if paper == "QKFormer":  # heads of 64 channels, as qkformer_10_384 has them
            heads = (width // 64,) * 3
            net: nn.Module = QKFormer(T=1, embed_dims=width, num_heads=heads, depths=(1, 2, 7))
        else:
            net = MaxFormer(T=1, embed_dims=width, depths=(1, 2, 7))
    run = [each for each in _run(net, size) if each.macs]
    by_module = {each.module: each.macs for each in run}
    first, head = run[0], by_module["head"]
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Dense(first.macs, head, sum(each.macs for each in run), parameters)


@lru_cache
def macs_of(network: str, size: int) -> int:
    """Multiply-accumulates of one of timm's networks for one image."""
    import timm

    with without_memory():
        net = timm.create_model(network)
    return sum(each.macs for each in _run(net, size))


def _run(net: nn.Module, size: int) -> list[Operation]:
    import torch

    return operations_of(net, lambda model: model(torch.empty(1, 3, size, size, device="meta")))

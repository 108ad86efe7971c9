"""An oracle for any network: additions and MACs at the level of torch functions, one image at a time.

A function mode sees `F.conv2d`, `F.linear`, `@` and `einsum` as the model writes them, far above the operations that
spikeattn watches; each is recomputed with |spikes| and weights of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import spikeattn as sa
from spikeattn.energy.activity import CountedActivity
from spikeattn.energy.amounts import OPS, amounts_by_part
from spikeattn.energy.conventions import get_convention

_CONVOLUTIONS = {getattr(torch, f"conv{t}{d}d") for d in (1, 2, 3) for t in ("", "_transpose")}
_PRODUCTS = {torch.matmul, torch.bmm, torch.mm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm}


class Oracle(TorchFunctionMode):
    """Counts what runs inside: `sops` (additions of whole numbers), `macs` (real numbers met real numbers).

    Args:
        neurons: modules whose insides are passed over.
        unit: what the spikes are multiples of, given the weight that they meet.
    """

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module], unit: Callable[[Tensor], float]) -> None:
        super().__init__()
        self.sops = self.macs = 0
        self.weights = {p.data_ptr() for p in model.parameters()}
        self.unit, self.inside = unit, 0
        self.handles = []
        for neuron in neurons:
            self.handles.append(neuron.register_forward_pre_hook(lambda *_: self._move(1)))
            self.handles.append(neuron.register_forward_hook(lambda *_: self._move(-1)))

    def _move(self, by: int) -> None:
        self.inside += by

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.inside:
            with torch._C.DisableTorchFunction():
                self._count(func, args, kwargs, out)
        return out

    def _count(self, func, args, kwargs, out: Tensor) -> None:
        if func in _CONVOLUTIONS:
            x, w = args[:2]
            positions = x if "transpose" in func.__name__ else out
            rest = {key: value for key, value in kwargs.items() if key != "bias"}
            ones = torch.ones_like(w).double()
            self._add(x, w, lambda v: func(v, ones, None, *args[3:], **rest), positions[:, :1].numel() * w.numel())
        elif func is F.linear:
            x, w = args[:2]
            self._add(x, w, lambda v: v.sum() * w.shape[0], x.numel() * w.shape[0])
        elif func in _PRODUCTS or (func is torch.einsum and len(args) == 3):
            a, b = args[-2:]
            run = (lambda p, q: torch.einsum(args[0], p, q)) if func is torch.einsum else torch.matmul
            self._product(a, b, lambda p, q: round(run(p, q).sum().item()))
            out.summed = True

    def _add(self, x: Tensor, w: Tensor, additions: Callable[[Tensor], Tensor], dense: int) -> None:
        values = whole(x.double() / self.unit(w))
        if values is None:
            self.macs += dense
        else:
            self.sops += round(additions(values.abs()).sum().item())

    def _product(self, a: Tensor, b: Tensor, run: Callable[[Tensor, Tensor], int]) -> None:
        """Both binary or both integer: the pairs that meet; else each spike of the simpler one adds a row."""
        values = [whole(x.double()) for x in (a, b)]
        ones = [torch.ones_like(x, dtype=torch.double) for x in (a, b)]
        weights = [x.data_ptr() in self.weights for x in (a, b)]
        binary = [
            v is not None and bool((v * (v - 1) == 0).all()) and not hasattr(x, "summed")  # integers in other images
            for x, v in zip((a, b), values, strict=True)
        ]
        spiking = [v is not None for v in values]
        if any(weights):
            adding = [not weight for weight in weights]
        elif all(spiking) and binary[0] == binary[1]:
            adding = [True, True]
        else:
            adding = binary if any(binary) else spiking
        counted = [v.abs() if add else one for v, one, add in zip(values, ones, adding, strict=True)]
        if any(adding):
            self.sops += run(*counted)
        else:
            self.macs += run(*ones)


def whole(x: Tensor) -> Tensor | None:
    """The values as whole numbers, or None where they are none."""
    return x.round() if bool(((x - x.round()).abs() < 1e-6).all()) else None


def reset_net(model: nn.Module) -> None:
    """As SpikingJelly's function of this name: `reset` of every module that has it."""
    for module in model.modules():
        if hasattr(module, "reset"):
            module.reset()


def by_brute_force(
    model: nn.Module, images: Tensor, call: Callable | None, is_neuron: Callable[[nn.Module], bool], unit: Callable
) -> list[tuple[int, int]]:
    """(SOPs, MACs) of every image, each run alone."""
    counted = []
    for image in images.split(1):
        reset_net(model)
        oracle = Oracle(model, [m for m in model.modules() if is_neuron(m)], unit)
        with torch.no_grad(), oracle:
            call(model, image) if call else model(image)
        for handle in oracle.handles:
            handle.remove()
        counted.append((oracle.sops, oracle.macs))
    reset_net(model)
    return counted


def amounts(profile: sa.Profile) -> dict[str, list[int]]:
    """Operations of every image under `exact`, by kind: "sop", "mac", "ac", "mask"."""
    activity = CountedActivity(profile.ledger, profile.counts)
    counted = amounts_by_part(activity, get_convention("exact")).per_image
    return {op: [round(v) for v in counted[:, :, k].sum(axis=1)] for k, op in enumerate(OPS)}


def assert_exact(
    model: nn.Module,
    images: Tensor,
    call: Callable | None = None,
    *,
    macs_once: int = 0,
    unit: Callable[[Tensor], float] = lambda w: 1.0,
    is_neuron: Callable[[nn.Module], bool] | None = None,
    **options,
) -> sa.Profile:
    """Profile in batches of two and the rest; SOPs of every image equal brute force, MACs up to `macs_once`.

    Args:
        macs_once: MACs of layers on a still image that the model repeats, which are charged once.
    """
    from spikeattn.tracing.neurons import is_spiking_neuron

    model.eval()
    if call is not None:
        options["forward"] = call
    if is_neuron is not None:
        options["neurons"] = is_neuron
    profile = sa.profile(model, [part for part in (images[:2], images[2:]) if len(part)], **options)
    expected = by_brute_force(model, images, call, is_neuron or is_spiking_neuron, unit)
    found = amounts(profile)
    assert found["sop"] == [sops for sops, _ in expected]
    assert found["mac"] == [macs - macs_once for _, macs in expected]
    assert sum(found["sop"]) > 0
    return profile


def exact(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights k/64, whose sums are exact in any order, so that an image gives the same spikes in every batch."""
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        bound = max(1, round(128 / max(p[0].numel(), 1) ** 0.5)) if p.dim() > 1 else 16
        p.data = torch.randint(-bound, bound + 1, p.shape, generator=generator) / 64
    return model.eval()


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Values k/16 between -2 and 2."""
    return torch.randint(-32, 33, shape, generator=torch.Generator().manual_seed(seed)) / 16

"""Nothing is a weight because nobody saw it: what meets a tensor of unknown origin is counted exactly, or listed.

Every network here has one multiplication in a module of its own, `site`, between a neuron and a head or ahead of the
first neuron. What is right is computed from plain runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from tests.counting.brute_force import exact, pictures

T = 4


def IF(mode: str = "m") -> nn.Module:
    return neuron.IFNode(step_mode=mode, v_threshold=0.25)


# ----------------------------------------------------------------------------------------- what there must be of a site
@dataclass
class Amounts:
    """Totals over all images of what is known of the site: additions and MACs that are right."""

    sops: tuple[int, ...] = ()
    macs: tuple[int, ...] = ()


def entries_of(profile: sa.Profile, site: str) -> tuple[list, list]:
    """Rows counted, and entries listed, of a module."""
    listed = [u for u in profile.ledger.uncounted if u.name.split(".")[0].split("@")[0].startswith(site)]
    names = {e.name for e in (*profile.ledger.synapses, *profile.ledger.products)}
    names = {name for name in names if name.split(".")[0].split("@")[0].startswith(site)}
    table = profile.operations().query("counted and synapse in @names")
    return table.to_dict("records"), listed


def assert_accounted(
    model: nn.Module, images: Tensor, right: Amounts, site: str = "site", must: str | None = None, **options
) -> sa.Profile:
    """A site is counted with the right numbers, or listed and an error under `strict`; `must` says which of the two."""
    profile = sa.profile(model, images.split(2), **options)
    counted, listed = entries_of(profile, site)
    assert counted or listed, f"{site} has vanished: {[s.name for s in profile.ledger.synapses]}"
    if must == "counted":
        assert counted and not listed
    if must == "listed":
        assert listed
    if listed:
        assert all(u.reason for u in listed)
        with pytest.raises(sa.SpikeattnError, match="strict"):
            sa.profile(model, images.split(2), strict=True, **options)
    else:
        sops, macs = (sum(int(row[what]) for row in counted) for what in ("sops", "macs"))
        assert sops in (right.sops or (0,)) and macs in (right.macs or (0,)), (sops, macs, right)
    return profile


def spikes_of(model: nn.Module, images: Tensor, name: str = "lif") -> Tensor:
    """The first tensor that a module gives in one plain pass."""
    seen: list[Tensor] = []
    handle = dict(model.named_modules())[name].register_forward_hook(lambda m, args, out: seen.append(out))
    functional.reset_net(model)
    with torch.no_grad():
        model(images)
    functional.reset_net(model)
    handle.remove()
    return seen[0]


# --------------------------------------------------------------------------------------------- behind a neuron
CONSTANT = torch.randint(-8, 9, (8, 5), generator=torch.Generator().manual_seed(7)) / 16


class Site(nn.Module):
    """What happens to the spikes [T, B, N, 8] of a neuron, and the potentials that it keeps."""

    def __init__(self, how: Callable[[Site, Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.how = how
        self.w, self.wide = nn.Parameter(torch.zeros(5, 8)), nn.Parameter(torch.zeros(1, 8, 5))
        self.register_buffer("fixed", CONSTANT.clone())
        self.register_buffer("written", torch.zeros(T, 1, 3, 8))
        self.kept, self.named = [CONSTANT.clone()], {"w": CONSTANT.clone()}
        self.plain = CONSTANT.clone()

    def forward(self, spikes: Tensor, lif: nn.Module) -> Tensor:
        return self.how(self, spikes, lif)


class Behind(nn.Module):
    """[B, 3, 6] -> fc -> neuron -> site -> logits."""

    def __init__(self, how: Callable[[Site, Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.fc, self.lif, self.lif2, self.site = nn.Linear(6, 8), IF(), IF(), Site(how)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.fc(x).expand(T, -1, -1, -1))
        return self.lif2(self.site(spikes, self.lif)).flatten(2).sum(0)


def by_weight(model: nn.Module, images: Tensor, columns: int = 5) -> Amounts:
    return Amounts(sops=(int(spikes_of(model, images).sum()) * columns,))


def by_pairs(model: nn.Module, images: Tensor) -> Amounts:
    """q k^T with q = k."""
    spikes = spikes_of(model, images)
    return Amounts(sops=(int((spikes @ spikes.mT).sum()),))


def by_rows(model: nn.Module, images: Tensor) -> Amounts:
    """Each spike adds a row of three numbers."""
    return Amounts(sops=(int(spikes_of(model, images).sum()) * 3,))


WEIGHTS: dict[str, Callable[[Site, Tensor, nn.Module], Tensor]] = {
    "parameter": lambda site, s, lif: s @ site.w.t(),
    "buffer": lambda site, s, lif: s @ site.fixed,
    "list": lambda site, s, lif: s @ site.kept[0],
    "dict": lambda site, s, lif: s @ site.named["w"],
    "attribute": lambda site, s, lif: s @ site.plain,
    "expanded": lambda site, s, lif: (s.flatten(0, 1) @ site.wide.expand(T * s.shape[1], -1, -1)).unflatten(0, (T, -1)),
    "sliced": lambda site, s, lif: s @ site.w.t()[:, :5].contiguous(),
    "part": lambda site, s, lif: F.linear(s, site.w[0:5:1]),
    "cast": lambda site, s, lif: (s.double() @ site.w.t().double()).float(),
    "cast and back": lambda site, s, lif: s @ site.w.t().to(torch.float64).to(torch.float32),
    "scaled": lambda site, s, lif: s @ (site.w.t() * 2),
    "normed": lambda site, s, lif: s @ (site.w / site.w.abs().sum(1, keepdim=True).clamp(min=1)).t(),
    "stacked": lambda site, s, lif: s @ torch.cat([site.w[:2], site.w[2:]]).t(),
    "einsum": lambda site, s, lif: torch.einsum("tbnc,oc->tbno", s, site.w),
    "detached": lambda site, s, lif: s @ site.w.detach().clone().t(),
    "data of a parameter": lambda site, s, lif: s @ site.w.data.t(),
}


@pytest.mark.parametrize("how", WEIGHTS)
def test_what_a_module_held_before_the_pass_is_a_weight(how: str) -> None:
    model, images = exact(Behind(WEIGHTS[how]), seed=1), pictures(5, 3, 6)
    right = by_weight(model, images)
    assert right.sops[0]
    assert_accounted(model, images, right, must="counted")


def copied(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 1)


def written(site: Site, s: Tensor, lif: nn.Module) -> Tensor:
    """A buffer, but with spikes in it."""
    site.written = s.new_zeros(s.shape)
    site.written.copy_(s)
    return s @ site.written.mT


def assigned(site: Site, s: Tensor, lif: nn.Module) -> Tensor:
    site.cache = s.clone()
    return s @ site.cache.mT


STRANGERS: dict[str, tuple[Callable[[Site, Tensor, nn.Module], Tensor], Callable[[nn.Module, Tensor], Amounts]]] = {
    "numpy copy": (lambda site, s, lif: s @ copied(s).mT, by_pairs),
    "numpy view": (lambda site, s, lif: s @ torch.from_numpy(s.numpy()).mT, by_pairs),
    "list": (lambda site, s, lif: s @ torch.tensor(s.tolist()).mT, by_pairs),
    "dlpack": (lambda site, s, lif: s @ torch.from_dlpack(s.contiguous()).mT, by_pairs),
    "parameter made of spikes": (lambda site, s, lif: s @ nn.Parameter(s).mT, by_pairs),
    "parameter made of a copy": (lambda site, s, lif: s @ nn.Parameter(s.clone(), requires_grad=False).mT, by_pairs),
    "buffer written in the pass": (written, by_pairs),
    "attribute set in the pass": (assigned, by_pairs),
    "data of spikes": (lambda site, s, lif: s @ s.data.mT, by_pairs),
    "global constant": (lambda site, s, lif: s @ CONSTANT, by_weight),
    "constant made in the pass": (lambda site, s, lif: s @ torch.full((8, 5), 0.5), by_weight),
    "membrane": (lambda site, s, lif: s @ lif.v.mT.clone(), by_rows),
    "both from numpy": (lambda site, s, lif: copied(s) @ copied(s).mT, by_pairs),
}  # fmt: skip


@pytest.mark.parametrize("how", STRANGERS)
def test_spikes_that_meet_a_tensor_of_unknown_origin(how: str) -> None:
    meet, judge = STRANGERS[how]
    model, images = exact(Behind(meet), seed=1), pictures(5, 3, 6)
    right = judge(model, images)
    assert 0 < right.sops[0] < int(spikes_of(model, images).sum()) * (3 if judge is by_pairs else 6)
    if how == "both from numpy":  # which rows are which image's is lost: that may be the error
        try:
            sa.profile(model, images.split(2))
        except sa.SpikeattnError as error:
            assert "which image" in str(error)
            return
    assert_accounted(model, images, right)


# ----------------------------------------------------------------------------------------- operators of other kinds
# The schema is given: torch 2.4 cannot read one from annotations that are strings.
@torch.library.custom_op("spikeattn_tests::linear", mutates_args=(), schema="(Tensor x, Tensor w) -> Tensor")
def custom_linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.t()


@custom_linear.register_fake
def _(x: Tensor, w: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], w.shape[0])


class Sparse(nn.Module):
    """A sparse matrix of weights, all of them stored, so that dense and sparse operations are the same number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", CONSTANT.add(1).t().contiguous().to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.weight, x.flatten(0, -2).t()).t().unflatten(0, x.shape[:-1])


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return custom_linear(x, self.w)


class OneLong(nn.Module):
    """einsum over an axis of length 1: torch multiplies elements there."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x.sum(-1, keepdim=True).clamp(0, 1), self.w)


class OneLongSpikes(OneLong):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x[..., :1], self.w)


class Between(nn.Module):
    """[B, 3, 6] -> fc -> neuron -> site (8 -> 5) -> neuron."""

    def __init__(self, site: nn.Module) -> None:
        super().__init__()
        self.fc, self.lif, self.site, self.lif2 = nn.Linear(6, 8), IF(), site, IF()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.site(self.lif(self.fc(x).expand(T, -1, -1, -1)))).flatten(2).sum(0)


class Ahead(nn.Module):
    """[B, 3, 6] -> site, once per image -> neuron -> head."""

    def __init__(self, site: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.site, self.lif, self.head = site, IF(), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.site(x).expand(T, -1, -1, -1))).mean((0, 2))


@pytest.mark.parametrize("kind", [Custom, Sparse, OneLongSpikes])
def test_spikes_in_operators_of_other_kinds(kind: type) -> None:
    model, images = exact(Between(kind()), seed=1), pictures(5, 3, 6)
    spikes = spikes_of(model, images)
    received = spikes[..., :1] if kind is OneLongSpikes else spikes
    assert_accounted(model, images, Amounts(sops=(int(received.sum()) * 5,)))


class Function(nn.Module):
    """`function(site, x)` on data [B, 3, 6] with weights of the module."""

    def __init__(self, function: Callable[[Function, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


DATA: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # the site, its width, its MACs per image
    "custom operator": (lambda: Function(lambda site, x: custom_linear(x, site.w), 8, 6), 8, 3 * 48),
    "global constant": (lambda: Function(lambda site, x: x[..., :5] @ CONSTANT.t(), 1), 8, 3 * 40),
    "numpy round trip": (lambda: Function(lambda site, x: copied(x) @ site.w, 6, 8), 8, 3 * 48),
    "numpy view": (lambda: Function(lambda site, x: torch.from_numpy(x.numpy()) @ site.w, 6, 8), 8, 3 * 48),
    "list": (lambda: Function(lambda site, x: torch.tensor(x.tolist()) @ site.w, 6, 8), 8, 3 * 48),
    "dlpack": (lambda: Function(lambda site, x: torch.from_dlpack(x) @ site.w, 6, 8), 8, 3 * 48),
    "parameter made of data": (lambda: Function(lambda site, x: nn.Parameter(x) @ site.w, 6, 8), 8, 3 * 48),
    "data with itself": (lambda: Function(lambda site, x: x @ nn.Parameter(x.clone()).mT, 1), 3, 3 * 18),
    "data with its copy": (lambda: Function(lambda site, x: x @ copied(x).mT, 1), 3, 3 * 18),
    "einsum of length 1": (
        lambda: Function(lambda site, x: torch.einsum("bni,oi->bno", x[..., :1], site.w), 8, 1), 8, 3 * 8
    ),
    "outer product": (lambda: Function(lambda site, x: x[..., :1] * site.w, 8), 8, 3 * 8),
}  # fmt: skip


@pytest.mark.parametrize("how", DATA)
def test_data_ahead_of_the_first_neuron(how: str) -> None:
    """A copy outside torch may lose which rows are which image's: then that is the error, and no number is printed."""
    make, width, macs = DATA[how]
    model, images = exact(Ahead(make(), width), seed=1), pictures(5, 3, 6)
    spikes = spikes_of(model, images)
    if how in ("numpy round trip", "list"):
        try:
            sa.profile(model, images.split(2))
        except sa.SpikeattnError as error:
            assert "which image" in str(error)
            return
    profile = assert_accounted(model, images, Amounts(macs=(5 * macs,)))
    found = profile.counts.column("nnz", "lif")
    assert spikes.any() and found.sum(1).tolist() == spikes.sum((0, 2, 3)).long().tolist()


def test_a_quantised_linear_layer() -> None:
    """One scale for the batch: no image is alone there. That is said, and the layer is counted or listed."""
    torch.manual_seed(0)
    site = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 8)), {nn.Linear})
    assert_accounted(Ahead(site).eval(), pictures(5, 3, 6), Amounts(macs=(5 * 3 * 48,)))


class Deform(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4, channels, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d

        flat = x.flatten(0, -4)
        out = deform_conv2d(flat, flat.new_full((len(flat), 18, *x.shape[-2:]), 0.25), self.w, padding=1)
        return out.unflatten(0, x.shape[:-3])


class Pictures(nn.Module):
    """[B, 2, 4, 4] -> conv -> neuron -> site -> neuron, or with the site in front."""

    def __init__(self, site: nn.Module, first: bool = False) -> None:
        super().__init__()
        self.conv, self.lif, self.site, self.lif2 = nn.Conv2d(2, 4, 3, padding=1), IF(), site, IF()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            return self.lif(self.site(x).expand(T, *x.shape[:1], -1, -1, -1)).sum(0).flatten(1)
        x = self.conv(x).expand(T, len(x), -1, -1, -1)
        return self.lif2(self.site(self.lif(x))).sum(0).flatten(1)


@pytest.mark.parametrize("first", [True, False], ids=["on data", "on spikes"])
def test_deformable_convolution(first: bool) -> None:
    """It interpolates between positions, so its input is no train of spikes: listed, or MACs."""
    model = exact(Pictures(Deform(2 if first else 4), first), seed=1)
    macs = 3 * 16 * 4 * 9 * (2 if first else 4 * T)
    assert_accounted(model, pictures(3, 2, 4, 4), Amounts(macs=(macs,)))


# ------------------------------------------------------------------------- neurons that give more than one tensor
class Own(nn.Module):
    """One step of a leaky neuron; `gives` says what it returns."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, x: Tensor, v: Tensor):
        v = v / 2 + x
        spikes = (v >= 0.5).to(x.dtype)
        v = v - spikes / 2
        if self.gives == "dict":
            return {"mem": v, "spk": spikes}
        return (v, spikes) if self.gives == "membrane first" else (spikes, v)


class Pairwise(nn.Module):
    """`read` is what the layer behind the neuron takes of what it gives."""

    def __init__(self, gives: str, read: str) -> None:
        super().__init__()
        self.fc, self.own, self.site, self.read = nn.Linear(6, 8), Own(gives), nn.Linear(8, 4), read

    def forward(self, x: Tensor) -> Tensor:
        v, out, self.sums = torch.zeros(1), 0, []
        for _ in range(T):
            given = self.own(self.fc(x), v)
            v, spikes = self.parts(given)
            self.sums.append(int(spikes.sum()))
            out = out + self.site(spikes if self.read == "spikes" else v)
        return out

    def parts(self, given) -> tuple[Tensor, Tensor]:
        if isinstance(given, dict):
            return given["mem"], given["spk"]
        return given if self.own.gives == "membrane first" else given[::-1]


@pytest.mark.parametrize("read", ["spikes", "membrane"])
@pytest.mark.parametrize("gives", ["membrane first", "spikes first", "dict"])
def test_neurons_that_give_spikes_and_membrane(gives: str, read: str) -> None:
    model, images = exact(Pairwise(gives, read), seed=1), pictures(5, 6)
    with torch.no_grad():
        model(images)
    spikes = sum(model.sums)
    right = Amounts(sops=(spikes * 4,)) if read == "spikes" else Amounts(macs=(5 * T * 32,))
    must = "counted" if (gives, read) == ("spikes first", "spikes") else None
    profile = assert_accounted(model, images, right, must=must, neurons=lambda module: isinstance(module, Own))
    assert spikes and profile.time_steps == T
    if profile.ledger.tensor("own").spikes:
        assert int(profile.counts.column("nnz", "own").sum()) == spikes


class Readout(nn.Module):
    """The potential of the last neuron is what the head reads, at every step or at the end."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.fc, self.fc2, self.site, self.when = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), when
        self.lif, self.last = IF("m" if when == "after" else "s"), IF("m" if when == "after" else "s")

    def forward(self, x: Tensor) -> Tensor:
        if self.when == "after":
            self.last(self.fc2(self.lif(self.fc(x).expand(T, -1, -1))))
            return self.site(self.last.v)
        h, out = self.fc(x), 0
        for _ in range(T):
            self.last(self.fc2(self.lif(h)))
            out = out + self.site(self.last.v)
        return out


@pytest.mark.parametrize("when", ["after", "at every step"])
def test_a_head_that_reads_the_membrane(when: str) -> None:
    model, images = exact(Readout(when), seed=1), pictures(5, 6)
    assert_accounted(model, images, Amounts(macs=(5 * 24 * (1 if when == "after" else T),)))


class Potentials(nn.Module):
    """`lif.v` is multiplied between two neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.site, self.lif2 = nn.Linear(6, 8), IF("s"), nn.Linear(8, 4), IF("s")

    def forward(self, x: Tensor) -> Tensor:
        h, out = self.fc(x), 0
        for _ in range(T):
            self.lif(h)
            out = out + self.lif2(self.site(self.lif.v))
        return out


def test_potentials_that_are_read_after_the_neuron_are_real_numbers() -> None:
    assert_accounted(exact(Potentials(), seed=1), pictures(5, 6), Amounts(macs=(5 * T * 32,)))


# --------------------------------------------------------------------------------- operations without a rule, listed
class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class Upsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


HEAVY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "group norm": (lambda: nn.GroupNorm(2, 4), "norm"),
    "layer norm": (lambda: nn.LayerNorm([4, 4, 4]), "norm"),
    "bilinear": (Upsample, "bilinear"),
    "softmax": (Softmax, "softmax"),
}


class Potential(nn.Module):
    """[B, 2, 4, 4] -> neuron -> conv -> site on potentials [., 4, 4, 4] -> neuron; all steps at once or one by one."""

    def __init__(self, site: nn.Module, mode: str) -> None:
        super().__init__()
        self.lif, self.conv, self.site, self.lif2 = IF(mode), nn.Conv2d(2, 4, 3, padding=1), site, IF(mode)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "m":
            spikes = self.lif(x.expand(T, *x.shape))
            x = self.site(self.conv(spikes.flatten(0, 1))).unflatten(0, (T, -1))
            return self.lif2(x).sum(0).flatten(1)
        return sum(self.lif2(self.site(self.conv(self.lif(x)))) for _ in range(T)).flatten(1)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("how", HEAVY)
def test_operations_on_real_numbers_without_a_rule_are_listed_once_with_their_size(how: str, mode: str) -> None:
    make, op = HEAVY[how]
    model, images = exact(Potential(make(), mode), seed=1), pictures(3, 2, 4, 4)
    profile = sa.profile(model, images.split(2))
    listed = [u for u in profile.ledger.uncounted if u.name.startswith("site")]
    assert len(listed) == 1 and op in f"{listed[0].name} {listed[0].op}"
    sizes = (64, 256) if how == "bilinear" else (64,)  # of one image at one step, or of all that was traced
    elements = {size * steps * images for size in sizes for steps in (1, T) for images in (1, 2, 3)}
    numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", listed[0].reason)]
    dims = [4, 8, 8] if how == "bilinear" else [4, 4, 4]
    shaped = any(numbers[i : i + 3] in (dims, [4, 4, 4]) for i in range(len(numbers)))
    assert shaped or elements & set(numbers), listed[0].reason
    with pytest.raises(sa.SpikeattnError, match="strict"):
        sa.profile(model, images.split(2), strict=True)


# ----------------------------------------------------------------------------------------- kinds by construction
def table(model: nn.Module, images: Tensor, order: tuple[int, ...] | list[int], batch: int = 2, **options):
    """The operations of these images in this order."""
    return sa.profile(model, images[list(order)].split(batch), **options).operations()


def assert_any_order(model: nn.Module, images: Tensor, **options) -> pd.DataFrame:
    """The same operations in every order; the first one is that of `images`."""
    n = len(images)
    orders = [list(range(n)), list(range(n))[::-1], [*range(n // 2, n), *range(n // 2)]]
    tables = [table(model, images, order, **options) for order in orders]
    tables.append(table(model, images, orders[0], batch=n, **options))
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)
    return tables[0].set_index("synapse")


class TokenMean(nn.Module):
    """A layer on the mean of the spikes over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.site, self.lif2 = nn.Linear(6, 8), IF(), nn.Linear(8, 4), IF()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.fc(x).expand(T, -1, -1, -1))
        return self.lif2(self.site(spikes.mean(2))).sum(0)


def test_a_mean_over_tokens_is_a_real_number_whatever_the_first_images_are() -> None:
    """Where all tokens are alike the mean is 0 or 1: no property of the network."""
    images = pictures(6, 3, 6)
    images[:2] = images[:2, :1]
    model = exact(TokenMean(), seed=1)
    means = spikes_of(model, images).mean(2)
    assert bool((means[:, :2] * (means[:, :2] - 1) == 0).all()) and bool(means.frac().any())
    found = assert_any_order(model, images)
    assert (found.macs["site"], found.sops["site"]) == (6 * T * 32, 0)
    alike = sa.profile(model, [images[:2]]).operations().set_index("synapse")
    assert (alike.macs["site"], alike.sops["site"]) == (2 * T * 32, 0)


class First(nn.Module):
    """A layer on the input: frames [B, T, 6], or still images [B, 6] that are repeated behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(6, 8), IF(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return self.head(self.lif(h.transpose(0, 1) if x.dim() == 3 else h.expand(T, *h.shape))).mean(0)


def whole(*shape: int, most: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("most", [1, 3], ids=["0/1", "0..3"])
@pytest.mark.parametrize("said", [None, "events", "pixels"])
@pytest.mark.parametrize("frames", [True, False], ids=["frames", "stills"])
def test_whole_numbers_are_events_in_frames_and_pixels_in_stills(frames: bool, said: str | None, most: int) -> None:
    images = whole(6, T, 6, most=most) if frames else whole(6, 6, most=most)
    options = {} if said is None else {"input": said}
    found = assert_any_order(exact(First(), seed=1), images, **options)
    events = frames if said is None else said == "events"
    right = (int(images.sum()) * 8, 0) if events else (0, 6 * 48 * (T if frames else 1))
    assert (found.sops["fc"], found.macs["fc"]) == right


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_frames_of_other_types_are_events(dtype: torch.dtype) -> None:
    images = whole(6, T, 6, most=1 if dtype is torch.bool else 3).to(dtype)
    images[0] = 0
    found = assert_any_order(exact(First(), seed=1), images, forward=lambda model, x: model(x.float()))
    assert (found.sops["fc"], found.macs["fc"]) == (int(images.sum()) * 8, 0)


def test_real_frames_are_multiplied_whatever_the_first_ones_are() -> None:
    images = pictures(6, T, 6)
    images[0], images[1] = 0, 1
    found = assert_any_order(exact(First(), seed=1), images)
    assert (found.sops["fc"], found.macs["fc"]) == (0, 6 * T * 48)


def test_a_wrong_word_for_the_input_is_an_error() -> None:
    with pytest.raises(sa.SpikeattnError, match="input.*events.*pixels"):
        sa.profile(exact(First(), seed=1), [whole(2, 6)], input="spikes")


# ---------------------------------------------------------------------------------------------- any order of images
class Levels(nn.Module):
    """Spikes of 1/4, 2/4, 3/4 and 1, without time."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, 4)) / 4


class Quantised(nn.Module):
    def __init__(self, attend: bool) -> None:
        super().__init__()
        self.spike, self.spike2, self.attend = Levels(), Levels(), attend
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, 6]
        x = self.spike(x)
        x = self.spike2(self.fc(x) * 4)
        return self.head(x @ (x.mT @ x) if self.attend else x).mean(1)


@pytest.mark.parametrize("attend", [False, True], ids=["", "in products"])
def test_levels_that_only_later_images_have(attend: bool) -> None:
    images = whole(6, 3, 6, most=5, seed=2) - 1
    images[:2] = images[:2].clamp(0).sign() * 4  # the first two are 0 or 1 behind the neuron
    images[2] = 2
    model = exact(Quantised(attend), seed=1)
    options = {"neurons": lambda module: isinstance(module, Levels), "time_steps": 1}
    spikes = model.spike(images)
    assert set(spikes[:2].unique().tolist()) == {0, 1} and 0.25 in spikes
    found = assert_any_order(model, images, **options)
    assert (found.sops["fc"], found.macs["fc"]) == (int(spikes.sum() * 4) * 6, 0)


class Deep(nn.Module):
    """Convolutions, a max-pool, attention with q k^T v, a token sum: all kinds of entries."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.lif, self.lif2, self.lif3, self.head = IF(), IF(), IF(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 5:
            x = self.conv(x.flatten(0, 1)).unflatten(0, (-1, T)).transpose(0, 1)
        else:
            x = self.conv(x).expand(T, len(x), -1, -1, -1)
        x = F.max_pool2d(self.lif(x).flatten(0, 1), 2)
        q = self.lif2(self.conv2(x).unflatten(0, (T, -1))).flatten(3).mT  # [T, B, N, 4]
        return self.head(self.lif3(q @ (q.mT @ q)).sum(2)).mean(0)


@pytest.mark.parametrize("first", ["blank", "two blank", "silent", "bright", "0/1"])
@pytest.mark.parametrize("frames", [False, True], ids=["stills", "frames"])
def test_the_order_of_the_images_changes_no_operation(frames: bool, first: str) -> None:
    images = pictures(6, T, 2, 4, 4) if frames else pictures(6, 2, 4, 4)
    if first in ("blank", "two blank"):
        images[: 1 if first == "blank" else 2] = 0
    elif first == "silent":
        images[:2] = -8
    elif first == "bright":
        images[:2] = 8
    else:
        images[:2] = images[:2].sign().clamp(0)
    model = exact(Deep(), seed=3)
    if first in ("two blank", "silent"):  # a first batch without any spike
        model.conv.bias.data.fill_(-0.25)
        model.conv.weight.data.abs_()
        assert not spikes_of(model, images[:2]).any()
    found = assert_any_order(model, images)
    assert spikes_of(model, images).any() and (found.sops["conv"], found.macs["conv"]) == (
        0, 6 * 16 * 4 * 18 * (T if frames else 1)
    )  # fmt: skip


def test_the_order_of_event_frames_changes_no_operation() -> None:
    images = whole(4, T, 2, 4, 4, most=2)
    images[0] = 0
    model = exact(Deep(), seed=3)
    tables = [table(model, images, order, batch=1) for order in list(permutations(range(4)))[::5]]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)
    added = F.conv2d(images.flatten(0, 1), torch.ones(4, 2, 3, 3), padding=1).sum()
    found = tables[0].set_index("synapse")
    assert np.array_equal([found.sops["conv"], found.macs["conv"]], [int(added), 0])


@pytest.mark.parametrize(
    ("pool", "size", "counted"),
    [
        (nn.AvgPool2d(4), 4, True),
        (nn.AdaptiveAvgPool2d(1), 7, True),
        (nn.AvgPool2d(3), 4, False),
        (nn.AvgPool2d(3, 3, 1), 3, False),
        (nn.AvgPool2d(7), 8, False),
    ],
    ids=lambda value: str(value),
)
def test_an_average_of_a_part_of_the_map_is_listed_and_never_charged_for_all(pool, size, counted) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), neuron.IFNode(0.01), pool, nn.Flatten(), nn.Linear(2, 3))
    profile = sa.profile(net, [torch.rand(3, 1, size, size)], time_steps=1)
    averages = [product.op for product in profile.ledger.products]
    listed = [entry.op for entry in profile.ledger.uncounted]
    assert (averages, listed) == ((["average"], []) if counted else ([], ["avg_pool2d"]))
    if counted:
        spikes = profile.counts.column("nnz", "1").sum(axis=1)
        assert profile.operations(per_image=True).groupby("image")["acs"].sum().tolist() == spikes.tolist()

"""Where images and time steps lie is derived: small networks in every order of axes against a hook on a plain run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.paper_names import PaperName
from tests.counting.brute_force import amounts, by_brute_force, exact, pictures
from tests.tracing.layout_networks import CASES, FRAMES, IF, Along, Case, Net, Split, Stateful, T, is_neuron

MIXES = re.compile(r"mix(es|ing)? .*images|images.*mix", re.IGNORECASE | re.DOTALL)


def profiled(case: Case, images: Tensor | None = None, batch: int | None = None) -> sa.Profile:
    images = case.images if images is None else images
    return sa.profile(case.model(), images.split(batch or case.batch), **case.options)


# ---------------------------------------------------------------------------------------------------------- counts
def assert_counts(case: Case, profile: sa.Profile) -> None:
    """Spikes of every neuron, and additions of every layer, per image and time step."""
    assert profile.time_steps == case.steps
    for name, right in case.expected().items():
        found = profile.counts.column("nnz", name) if name in case.neurons else profile.counts.fan(name)
        assert found.shape == right.shape and np.array_equal(found, right.numpy()), name
        assert right.any(1).all()  # every image has spikes, or the test says nothing


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_a_hook_and_operations_those_of_brute_force(name: str) -> None:
    """In batches of as many images as there are steps, and of the two images that are left."""
    case = CASES[name]
    profile = profiled(case)
    assert_counts(case, profile)
    if case.operations:
        found, neurons = amounts(profile), case.options.get("neurons", is_neuron)
        right = by_brute_force(case.model(), case.images, None, neurons, lambda w: 1.0)
        assert found["sop"] == [sops for sops, _ in right]
        assert found["mac"] == [macs - case.once for _, macs in right]


@pytest.mark.parametrize("name", list(CASES)[::3])
def test_the_number_of_images_does_not_matter(name: str) -> None:
    assert_counts(CASES[name], profiled(CASES[name], batch=3))


@pytest.mark.parametrize("order", ["BTP", "TBP", "PTB", "BPT"])
def test_dense_operations_of_tokens_in_the_axis_are_those_of_one_step(order: str) -> None:
    synapse = profiled(CASES[f"tokens in the axis, {'*'.join(order)}"]).ledger.synapse("fc2")
    assert (synapse.dense_macs, synapse.every_step) == (3 * 2 * 8 * 8, True)


# -------------------------------------------------------------------------------------------------------- products
class Heads(nn.Module):
    """Attention of tokens [B, N, 6] whose heads share an axis with time and images, in the order `order`.

    Attributes:
        order: of "H", "T" and "B" in that axis, slowest first.
        how: "qk" for (q k^T) v, "kv" for q (k^T v).
    """

    def __init__(self, order: str, heads: int, how: str = "qk") -> None:
        super().__init__()
        self.order, self.heads, self.how = order, heads, how
        self.q, self.k, self.v = (nn.Linear(6, 2 * heads) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif, self.out_lif = (IF() for _ in range(4))
        self.head = nn.Linear(2 * heads, 3)

    def merge(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.heads, -1)).transpose(2, 3)  # [T, B, H, N, d]
        return x.permute(*("TBH".index(letter) for letter in self.order), 3, 4).flatten(0, 2)

    def apart(self, x: Tensor) -> Tensor:
        sizes = {"T": T, "H": self.heads, "B": -1}
        x = x.unflatten(0, tuple(sizes[letter] for letter in self.order))
        return x.permute(*(self.order.index(letter) for letter in "TBH"), 3, 4).transpose(2, 3).flatten(3)

    def forward(self, x: Tensor) -> Tensor:
        pairs = ((self.q, self.q_lif), (self.k, self.k_lif), (self.v, self.v_lif))
        q, k, v = (self.merge(lif(fc(x).expand(T, -1, -1, -1))) for fc, lif in pairs)
        if self.how == "qk":
            out = torch.bmm(torch.bmm(q, k.transpose(1, 2)), v)
        else:
            out = torch.bmm(q, torch.bmm(k.transpose(1, 2), v))
        return self.head(self.out_lif(self.apart(out) * 0.25).sum(2)).mean(0)


def spikes_of(model: nn.Module, images: Tensor, *names: str) -> list[Tensor]:
    """What these modules give in one plain pass."""
    seen: dict[str, Tensor] = {}
    modules, handles = dict(model.named_modules()), []
    for name in names:
        hook = lambda m, args, out, name=name: seen.__setitem__(name, out)  # noqa: E731
        handles.append(modules[name].register_forward_hook(hook))
    functional.reset_net(model)
    with torch.no_grad():
        model(images)
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return [seen[name] for name in names]


@pytest.mark.parametrize(("heads", "batch", "how"), [(2, 4, "qk"), (4, 4, "qk"), (3, 3, "qk"), (4, 4, "kv")])
@pytest.mark.parametrize("order", ["".join(letters) for letters in permutations("HTB")])
def test_heads_time_and_images_in_one_axis(order: str, heads: int, batch: int, how: str) -> None:
    model, images = exact(Heads(order, heads, how), seed=3), pictures(6, 4, 6, seed=1)
    profile = sa.profile(model, images.split(batch))
    q, k, v, out = spikes_of(model, images, "q_lif", "k_lif", "v_lif", "out_lif")
    a, b = (q, k) if how == "qk" else (k, v)  # [T, B, N, H*d] each
    split = [x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (a, b)]
    met = split[0] @ split[1].mT if how == "qk" else split[0].mT @ split[1]
    first, second = (p for p in profile.ledger.products if p.op == "matmul")
    assert profile.time_steps == T and first.every_step and second.every_step
    assert np.array_equal(profile.counts.column("pairs", first.name), met.flatten(2).sum(2).T.long().numpy())
    assert np.array_equal(profile.counts.column("nnz", "out_lif"), out.flatten(2).sum(2).T.long().numpy())
    right = by_brute_force(model, images, None, lambda m: isinstance(m, neuron.BaseNode), lambda w: 1.0)
    assert amounts(profile)["sop"] == [sops for sops, _ in right]
    assert first.elements == heads * 4 * 2 * (4 if how == "qk" else 2)


class OverTime(nn.Module):
    """Attention among the tokens of `chunk` time steps, with heads; all T of them for chunk = T."""

    def __init__(self, chunk: int, heads: int, how: str) -> None:
        super().__init__()
        self.chunk, self.heads, self.how = chunk, heads, how
        self.fc, self.q, self.k, self.v = (nn.Linear(n, 8) for n in (6, 8, 8, 8))
        self.lif, self.q_lif, self.k_lif, self.v_lif, self.out_lif = (IF() for _ in range(5))
        self.head = nn.Linear(8, 3)

    def cut(self, x: Tensor) -> Tensor:
        n, c, (_, B, N, D) = T // self.chunk, self.chunk, x.shape
        x = x.view(n, c, B, N, self.heads, D // self.heads).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(n, B, self.heads, c * N, D // self.heads)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif(self.fc(x).expand(T, -1, -1, -1))
        pairs = ((self.q, self.q_lif), (self.k, self.k_lif), (self.v, self.v_lif))
        q, k, v = (self.cut(lif(fc(x))) for fc, lif in pairs)
        y = (q @ k.mT) @ v if self.how == "qk" else q @ (k.mT @ v)
        y = y.unflatten(3, (self.chunk, -1)).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
        return self.head(self.out_lif(y * 0.25).mean(2)).mean(0)


@pytest.mark.parametrize("how", ["qk", "kv"])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("chunk", [2, T])
def test_attention_over_time_steps_is_counted_once_per_image(chunk: int, heads: int, how: str) -> None:
    model, images = exact(OverTime(chunk, heads, how), seed=4), pictures(6, 5, 6, seed=1)
    profile = sa.profile(model, images.split(T))
    q, k, v, out = spikes_of(model, images, "q_lif", "k_lif", "v_lif", "out_lif")
    q, k, v = (model.cut(x) for x in (q, k, v))
    met = q @ k.mT if how == "qk" else k.mT @ v  # [chunks, B, H, ...]
    first, second = (p for p in profile.ledger.products if p.op == "matmul")
    pairs = profile.counts.column("pairs", first.name)
    assert pairs.shape == (6, 1) and pairs[:, 0].tolist() == met.sum((0, 2, 3, 4)).long().tolist()
    assert profile.time_steps == T and not first.every_step and not second.every_step
    assert np.array_equal(profile.counts.column("nnz", "out_lif"), out.flatten(2).sum(2).T.long().numpy())
    right = by_brute_force(model, images, None, lambda m: isinstance(m, neuron.BaseNode), lambda w: 1.0)
    assert amounts(profile)["sop"] == [sops for sops, _ in right]


class Delayed(nn.Module):
    """The second layer takes the spikes of the step before: it is called T - 1 times."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif, self.lif2 = IF("s"), IF("s")

    def forward(self, x: Tensor) -> Tensor:
        out, before = torch.zeros(len(x), 3), None
        for t in range(T):
            if before is not None:
                out = out + self.head(self.lif2(self.fc2(before)))
            before = self.lif(self.fc(x[:, t]))
        return out


def test_a_second_layer_one_step_behind_is_counted_in_full() -> None:
    """Whether its calls belong to the steps of the loop or of the spikes that they receive, none of them is lost."""
    model = exact(Delayed(), seed=2)
    spikes: list[Tensor] = []
    handle = model.lif2.register_forward_hook(lambda m, args, out: spikes.append(out.sum(1)))
    with torch.no_grad():
        model(FRAMES)
    handle.remove()
    functional.reset_net(model)
    profile = sa.profile(model, FRAMES.split(T))
    found, right = profile.counts.column("nnz", "lif2"), torch.stack(spikes, 1).long().numpy()
    nothing = np.zeros((6, 1), dtype=int)
    assert profile.time_steps == T and right.any()
    assert any(np.array_equal(found, np.hstack(parts)) for parts in ((nothing, right), (right, nothing)))
    sops = [sops for sops, _ in by_brute_force(model, FRAMES, None, is_neuron, lambda w: 1.0)]
    assert amounts(profile)["sop"] == sops


# ---------------------------------------------------------------------------------------------- mixing the images
class Mixing(nn.Module):
    """Two layers on a still image; `how` says where images meet, in tensors [T, B, 8], [B, T, 8] or [T*B, 8]."""

    def __init__(self, how: str, layout: str = "TB") -> None:
        super().__init__()
        self.how, self.layout = how, layout
        self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        if layout == "TB":
            self.lif, self.lif2 = IF(), IF()
        elif layout == "BT":
            self.lif, self.lif2 = Along(1), Along(1)
        else:
            self.lif, self.lif2 = Split("TB"), Split("TB")
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)
        self.axis = {"TB": 1, "BT": 0, "T*B": 0}[layout]

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        x = x.unsqueeze(1).expand(-1, T, -1) if self.layout == "BT" else x.expand(T, *x.shape)
        x = x.flatten(0, 1) if self.layout == "T*B" else x
        x = self.lif2(self.fc2(self.lif(MEET[self.how](self, x))))
        x = self.head(x)
        return (x.view(T, -1, 3) if self.layout == "T*B" else x).mean(1 if self.layout == "BT" else 0)


def across(net: Mixing, x: Tensor) -> Tensor:
    """Attention whose tokens are the images."""
    tokens = x.movedim(net.axis, -2)
    return x + (torch.matmul(tokens, tokens.mT) / 8 @ tokens).movedim(-2, net.axis)


def scrambled(net: Mixing, x: Tensor) -> Tensor:
    """A multi-step neuron over [T*B, ...]: it hands its potential from image to image."""
    return net.lif2(x.flatten(0, 1)).view(x.shape)


MEET: dict[str, Callable[[Mixing, Tensor], Tensor]] = {
    "mean": lambda net, x: x - x.mean(net.axis, keepdim=True),
    "weakly": lambda net, x: x - x.mean(net.axis, keepdim=True) * 1e-9,
    "softmax": lambda net, x: torch.softmax(x, net.axis) * 8,
    "norm": lambda net, x: net.norm(x.flatten(0, -2)).view(x.shape),
    "attention": across,
    "neuron": scrambled,
    "roll": lambda net, x: x + x.roll(1, net.axis),
    "flip": lambda net, x: x + x.flip(net.axis),
    "max": lambda net, x: x - x.amax(net.axis, keepdim=True),
    "cumsum": lambda net, x: x.cumsum(net.axis),
    "std": lambda net, x: x / (x.std(net.axis, keepdim=True, unbiased=False) + 1),
}
NAMED = {  # what the error names: the operation, where it is joined or where that shows, or the neuron
    "mean": "mean", "weakly": "mean", "softmax": "softmax", "norm": "norm", "attention": "matmul|bmm|mm",
    "neuron": "lif2", "roll": "roll|add", "flip": "flip|add", "max": "max",
    "cumsum": "cumsum", "std": "std|var",
}  # fmt: skip


class Labelled(Mixing):
    """Names of tensors, also of one that is not there: they are no proof that images stay apart."""

    def paper_names(self) -> dict[str, PaperName]:
        return {name: PaperName("SPS", None, "x") for name in ("lif", "fc", "typo")}


def assert_refused(model: nn.Module, batches: Sequence[Tensor], named: str, **options) -> None:
    with pytest.raises(sa.SpikeattnError, match=MIXES) as error:
        sa.profile(exact(model, seed=2), batches, **options)
    assert re.search(named, str(error.value)), str(error.value)


@pytest.mark.parametrize("labelled", [False, True], ids=["", "labelled"])
@pytest.mark.parametrize("how", MEET)
def test_a_network_that_mixes_images_is_refused(how: str, labelled: bool) -> None:
    assert_refused((Labelled if labelled else Mixing)(how), [pictures(4, 6)], NAMED[how])


def test_images_in_another_order_are_no_counts_of_theirs(monkeypatch) -> None:
    """Every row is that of one image, but of another one than the input's: no number for the wrong image."""
    monkeypatch.setitem(MEET, "roll alone", lambda net, x: x.roll(1, net.axis))
    with pytest.raises(sa.SpikeattnError, match="images") as error:
        sa.profile(exact(Mixing("roll alone"), seed=2), [pictures(4, 6)])
    assert re.search("roll|lif", str(error.value))


@pytest.mark.parametrize("labelled", [False, True], ids=["", "labelled"])
@pytest.mark.parametrize("layout", ["BT", "T*B"])
@pytest.mark.parametrize("how", ["mean", "softmax", "norm", "attention", "roll", "flip", "max"])
def test_mixing_is_found_in_other_orders_of_axes(how: str, layout: str, labelled: bool) -> None:
    assert_refused((Labelled if labelled else Mixing)(how, layout), [pictures(4, 6)], NAMED[how], neurons=is_neuron)


@pytest.mark.parametrize("images", ["reversed", "equal", "dark", "two", "many"])
@pytest.mark.parametrize("how", ["mean", "norm", "neuron", "flip", "attention"])
def test_mixing_is_found_whatever_the_images_are(how: str, images: str) -> None:
    """It is proven by the operations: of equal or dark images no count would move."""
    x = pictures(9, 6)
    batch = {"reversed": x.flip(0), "equal": x[:1].repeat(4, 1), "dark": x[:4] * 0, "two": x[:2], "many": x}[images]
    assert_refused(Mixing(how), [batch], NAMED[how])


class Logging(nn.Module):
    """Joins of all images that reach no neuron and no output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.log = how, []
        self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif, self.lif2 = IF(), IF()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        if self.how == "sum":
            print("potential", x.sum())
        elif self.how == "item":
            self.log.append(x.mean().item())
        elif self.how == "max":
            assert x.max() < 1e6
        elif self.how == "finite":
            assert x.isfinite().all()
        elif self.how == "kept":
            self.log.append(x.detach().mean(0))
        spikes = self.lif(x.expand(T, *x.shape))
        if self.how == "rate":
            print("rate", float(spikes.mean()))
        elif self.how == "binary":
            assert torch.equal(spikes, spikes * spikes)
        return self.head(self.lif2(self.fc2(spikes))).mean(0)


@pytest.mark.parametrize("how", ["sum", "item", "max", "finite", "kept", "rate", "binary"])
def test_joins_for_a_log_or_an_assertion_are_harmless(how: str) -> None:
    model, images = exact(Logging(how), seed=2), pictures(6, 6)
    profile = sa.profile(model, images.split(T))
    for name, spikes in zip(("lif", "lif2"), spikes_of(model, images, "lif", "lif2"), strict=True):
        assert np.array_equal(profile.counts.column("nnz", name), spikes.sum(2).T.long().numpy())


def test_the_check_of_one_hot_itself_is_harmless() -> None:
    """one_hot looks for the smallest and the largest of all ids before it begins."""

    def body(net: Net, ids: Tensor) -> Tensor:  # [B, 3]
        return net.head(net.lif(net.fc(F.one_hot(ids, 6).float()).expand(T, -1, -1, -1)).sum(2)).mean(0)

    model = exact(Net(body, fc=nn.Linear(6, 8), lif=IF(), head=nn.Linear(8, 3)), seed=2)
    ids = torch.randint(0, 6, (6, 3), generator=torch.Generator().manual_seed(0))
    profile = sa.profile(model, ids.split(T))
    (spikes,) = spikes_of(model, ids, "lif")
    assert np.array_equal(profile.counts.column("nnz", "lif"), spikes.flatten(2).sum(2).T.long().numpy())


@pytest.mark.parametrize("how", ["mean", "softmax", "norm", "attention", "roll", "flip", "neuron"])
def test_one_image_per_batch_is_profiled_and_the_result_says_that_it_mixes(how: str) -> None:
    model, images = exact(Mixing(how), seed=2), pictures(3, 6)
    profile = sa.profile(model, images.split(1))
    assert any(MIXES.search(warning) for warning in profile.ledger.warnings), profile.ledger.warnings
    right = torch.cat([spikes_of(model, image, "lif")[0].sum(2).T for image in images.split(1)])
    assert np.array_equal(profile.counts.column("nnz", "lif"), right.long().numpy())


@pytest.mark.parametrize("how", ["mean", "norm"])
def test_mixing_is_refused_when_a_later_batch_holds_more_images(how: str) -> None:
    x = pictures(4, 6)
    assert_refused(Mixing(how), [x[:1], x[1:]], "")


# ------------------------------------------------------------------------------------------------------- one step
class Once(nn.Module):
    """A neuron of the user's own that is called once and does not say what its axes are."""

    def __init__(self, node: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif, self.lif2 = node(), node()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif2(self.fc2(self.lif(self.fc(x)))))


class Threshold(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x >= 1).to(x.dtype)


@pytest.mark.parametrize("shape", [(6,), (4, 6)], ids=["[B, C]", "[B, N, C]"])
@pytest.mark.parametrize("node", [Threshold, Stateful])
def test_one_time_step_is_never_taken_in_silence(node: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model, images = exact(Once(node), seed=2), pictures(6, *shape)
    options = {"neurons": lambda module: isinstance(module, node)}
    profile = sa.profile(model, images.split(T), **options)
    assert profile.time_steps == 1 and any("time_steps" in warning for warning in profile.ledger.warnings)
    said = sa.profile(model, images.split(T), time_steps=1, **options)
    assert said.time_steps == 1 and not any("time_steps" in warning for warning in said.ledger.warnings)
    (spikes,) = spikes_of(model, images, "lif")
    right = spikes.flatten(1).sum(1).long().tolist()
    for found in (profile, said):
        assert found.counts.column("nnz", "lif")[:, 0].tolist() == right


@pytest.mark.parametrize("images", [3, T])
def test_a_loader_that_gives_time_first_is_told_to_transpose(images: int) -> None:
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), IF(), layer.Conv2d(4, 4, 3, padding=1, step_mode="m"), IF()
    )
    model, frames = exact(net, seed=2), pictures(images, T, 2, 6, 6)
    with pytest.raises(sa.SpikeattnError, match="transpose"):
        sa.profile(model, [frames.transpose(0, 1).contiguous()])
    turned = sa.profile(model, [frames], forward=lambda model, x: model(x.transpose(0, 1)))
    (spikes,) = spikes_of(model, frames.transpose(0, 1), "1")
    assert np.array_equal(turned.counts.column("nnz", "1"), spikes.flatten(2).sum(2).T.long().numpy())


# ------------------------------------------------------------------------------------------------------ soundness
def table(profile: sa.Profile) -> dict[tuple[str, str], np.ndarray]:
    """Everything that was counted, [images, steps] by (measure, name)."""
    counts, ledger = profile.counts, profile.ledger
    found = {(by, t.name): counts.column(by, t.name) for t in ledger.tensors for by in ("nnz", "abs")}
    found |= {("fan", s.name): counts.fan(s.name) for s in ledger.synapses if ledger.tensor(s.input).spikes}
    pairs = (p.name for p in ledger.products if counts.has("pairs", p.name))
    return found | {("pairs", name): counts.column("pairs", name) for name in pairs}


SOUND = [
    "repeat, behind the first layer", "stack, ahead of it", "one_hot", "conv3d over time, later",
    "tokens in the axis, B*T*P", "tokens in the axis, P*T*B", "as many windows as steps",
    "as many channels as steps, images first", "own neuron [B*T, ...], stills", "loop, cat",
]  # fmt: skip


@pytest.mark.parametrize("image", [0, 2])
@pytest.mark.parametrize("name", SOUND)
def test_a_changed_image_moves_its_own_counts_alone(name: str, image: int) -> None:
    case = CASES[name]
    images = case.images[:T]
    other = images.clone()
    other[image] = case.images[5]
    assert_only(case, images, other, image)


CAUSAL = [name for name, case in CASES.items() if case.frames]


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_changed_frame_moves_the_counts_of_its_image_from_that_step_on(name: str, step: int) -> None:
    case = CASES[name]
    images = case.images[:T]
    other = images.clone()
    other[1, step] = -other[1, step] + 0.5
    before, after = assert_only(case, images, other, 1)
    for key in (*(("nnz", name) for name in case.neurons), *(("fan", name) for name in case.layers)):
        assert np.array_equal(before[key][:, :step], after[key][:, :step]), key


def assert_only(case: Case, images: Tensor, other: Tensor, image: int) -> tuple[dict, dict]:
    """Counts of both batches; they differ in the rows of this image, and only there."""
    before, after = (table(profiled(case, x)) for x in (images, other))
    rest = [i for i in range(len(images)) if i != image]
    assert before.keys() == after.keys()
    for key, values in before.items():
        assert np.array_equal(values[rest], after[key][rest]), key
    moved = [name for name in case.neurons if not np.array_equal(before["nnz", name][image], after["nnz", name][image])]
    assert moved  # or the test says nothing
    return before, after

"""Small networks that keep images and time steps in every order of axes, and what a hook on a plain run counts in them.

A `Case` says of every neuron how its output is ordered: letters of axes, slowest first, "T" time, "B" images, others as
in `sizes`; whether they are axes of their own or share one makes no difference. "t" in front: its calls are the steps.
Weights are k/64 and images k/16, whose sums are exact in any order, so that a batch never changes an image's spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from tests.counting.brute_force import exact, pictures

T = 4
LOW = 0.25  # threshold of all neurons, so low that every image has spikes at every step


def IF(mode: str = "m") -> nn.Module:
    return neuron.IFNode(step_mode=mode, v_threshold=LOW)


# ----------------------------------------------------------------------------------------------------- own neurons
class Along(nn.Module):
    """An integrate-and-fire neuron in plain torch that runs along one axis; it says neither T nor its step mode."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x.select(self.axis, 0)), []
        for step in x.unbind(self.axis):
            v = v + step
            spikes.append((v >= LOW).to(x.dtype))
            v = v - spikes[-1] * LOW
        return torch.stack(spikes, self.axis)


class Split(nn.Module):
    """The same on [T*B, ...], [B*T, ...] or [B*T*tokens, ...], which it takes apart and puts together again."""

    def __init__(self, order: str, tokens: int = 1) -> None:
        super().__init__()
        self.order, self.sizes = order, {"T": T, "B": -1, "P": tokens}

    def forward(self, x: Tensor) -> Tensor:
        axis = self.order.index("T")
        parts = x.reshape(*(self.sizes[letter] for letter in self.order), *x.shape[1:])
        v, spikes = torch.zeros_like(parts.select(axis, 0)), []
        for t in range(T):
            v = v + parts.select(axis, t)
            spikes.append((v >= LOW).to(x.dtype))
            v = v - spikes[-1] * LOW
        return torch.stack(spikes, axis).reshape(x.shape)


class Stateful(nn.Module):
    """One step per call; the potential stays in an attribute until `reset`."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | None = None

    def reset(self) -> None:
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        self.v = x if self.v is None else self.v + x
        spikes = (self.v >= LOW).to(x.dtype)
        self.v = self.v - spikes * LOW
        return spikes


class StepByStep(nn.Module):
    """A single-step neuron in a module that takes all steps, [T, B, ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = IF("s")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.lif(x[t]) for t in range(len(x))])


OWN = (Along, Split, Stateful)


# ------------------------------------------------------------------------------------------------------------ cases
class Net(nn.Module):
    """Modules by name, and `body(net, x)`, the forward pass."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


@dataclass(frozen=True)
class Case:
    """A network and what is right about it.

    Attributes:
        make: the network; its weights are made exact.
        images: stills [B, ...] or frames.
        neurons: order of the axes of what each neuron gives.
        layers: the same for what linear layers receive that are fed with spikes.
        late: neurons and layers that do not run at the first steps, and how many these are.
        sizes: of the letters of axes besides T and B.
        steps: T.
        batch: images per batch.
        once: MACs per image that the network repeats because it repeats a still image, which are charged once.
        frames: axis of the input that holds frames, for checks step by step.
        operations: whether SOPs and MACs of the whole network are compared with the oracle.
    """

    make: Callable[[], nn.Module]
    images: Tensor
    neurons: Mapping[str, str]
    layers: Mapping[str, str] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    steps: int = T
    batch: int = T
    once: int = 0
    frames: int | None = None
    operations: bool = True

    def model(self) -> nn.Module:
        return exact(self.make(), seed=2)

    @property
    def options(self) -> dict:
        own = any(isinstance(m, OWN) for m in self.make().modules())
        return {"neurons": is_neuron} if own else {}

    def expected(self, images: Tensor | None = None) -> dict[str, Tensor]:
        """[images, T] of every neuron (spikes) and layer (additions), as hooks see them in one plain pass."""
        images = self.images if images is None else images
        model, seen = self.model(), {name: [] for name in (*self.neurons, *self.layers)}
        modules = dict(model.named_modules())
        for name in self.neurons:
            modules[name].register_forward_hook(lambda m, args, out, name=name: seen[name].append(out))
        for name in self.layers:
            modules[name].register_forward_pre_hook(lambda m, args, name=name: seen[name].append(args[0]))
        functional.reset_net(model)
        with torch.no_grad():
            model(images)
        functional.reset_net(model)
        found = {}
        for name, order in {**self.neurons, **self.layers}.items():
            late, width = self.late.get(name, 0), modules[name].out_features if name in self.layers else 1
            found[name] = torch.zeros(len(images), self.steps, dtype=torch.int64)
            found[name][:, late:] = per_step(seen[name], order, {**self.sizes, "T": self.steps - late}, len(images))
            found[name] *= width
        return found


def per_step(calls: list[Tensor], order: str, sizes: Mapping[str, int], batch: int) -> Tensor:
    """[B, T] spikes, by value, of what a neuron gave or a layer got, call by call."""
    x = torch.stack(calls) if order[0] == "t" else torch.cat(calls)
    order, sizes = order.upper(), {**sizes, "B": batch}
    x = x.abs().reshape(*(sizes[letter] for letter in order), -1)
    x = x.movedim((order.index("B"), order.index("T")), (0, 1))
    return x.flatten(2).sum(2).round().long()


def is_neuron(module: nn.Module) -> bool:
    return isinstance(module, (*OWN, neuron.BaseNode))


def _linear(**modules: nn.Module) -> dict[str, nn.Module]:
    """Layers for 6 features in, 8 inside, 3 classes, and two multi-step neurons; others in their place."""
    layers = {"fc": nn.Linear(6, 8), "lif": IF(), "fc2": nn.Linear(8, 8), "lif2": IF(), "head": nn.Linear(8, 3)}
    return {**layers, **modules}


STILLS, FRAMES = pictures(6, 6), pictures(6, T, 6, seed=1)
_TB = {"neurons": {"lif": "TB", "lif2": "TB"}, "layers": {"fc2": "TB", "head": "TB"}}
_LOOP = {"neurons": {"lif": "tB", "lif2": "tB"}, "layers": {"fc2": "tB", "head": "tB"}}
_STEM = 3 * 48  # MACs of fc at the three steps at which a still image is the same again


def _rest(net: Net, h: Tensor) -> Tensor:
    """From the potentials [T, B, 8] of the first neuron to logits."""
    return net.head(net.lif2(net.fc2(net.lif(h)))).mean(0)


# ------------------------------------------------------------------------------------------------ where time begins
def _cat(x: Tensor) -> Tensor:
    return torch.cat([x.unsqueeze(0)] * T)


def _buffer(x: Tensor) -> Tensor:
    frames = x.new_zeros(T, *x.shape)
    for t in range(T):
        frames[t] = x
    return frames


BIRTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "repeat": lambda x: x.unsqueeze(0).repeat(T, 1, 1),
    "repeat within axis 0": lambda x: x.repeat(T, 1).view(T, -1, x.shape[1]),
    "repeat_interleave": lambda x: x.repeat_interleave(T, 0).view(-1, T, x.shape[1]).transpose(0, 1),
    "expand": lambda x: x.expand(T, *x.shape),
    "expand, images first": lambda x: x.unsqueeze(1).expand(-1, T, -1).transpose(0, 1),
    "stack": lambda x: torch.stack([x] * T),
    "cat": _cat,
    "buffer": _buffer,
    "broadcast": lambda x: x + torch.zeros(T, 1, 1),
}


def _born(birth: Callable[[Tensor], Tensor]) -> Case:
    """The first layer runs once per image, ahead of time."""
    return Case(lambda: Net(lambda net, x: _rest(net, birth(net.fc(x))), **_linear()), STILLS, **_TB)


def _born_early(birth: Callable[[Tensor], Tensor]) -> Case:
    """The first layer repeats itself, and is charged once."""
    return Case(lambda: Net(lambda net, x: _rest(net, net.fc(birth(x))), **_linear()), STILLS, once=_STEM, **_TB)


def _one_hot(net: Net, x: Tensor) -> Tensor:
    """Direct coding: a feature of level k is a spike at step k."""
    return _rest(net, net.fc(F.one_hot(x, T).permute(2, 0, 1).float()))


def _conv3d_first(net: Net, x: Tensor) -> Tensor:
    """[B, 2, T, 4, 4]: the layer joins three steps, and time begins behind it."""
    return net.head(net.lif(net.conv(x).permute(2, 0, 1, 3, 4)).flatten(3).sum(3)).mean(0)


def _conv3d_later(net: Net, x: Tensor) -> Tensor:
    """[B, 2, T, 4, 4]: spikes of three steps meet in the layer between two neurons."""
    spikes = net.lif(x.permute(2, 0, 1, 3, 4))
    return net.head(net.lif2(net.conv(spikes.permute(1, 2, 0, 3, 4)).permute(2, 0, 1, 3, 4)).flatten(3).sum(3)).mean(0)


_BIRTH_CASES = {
    **{f"{name}, behind the first layer": _born(birth) for name, birth in BIRTHS.items()},
    **{f"{name}, ahead of it": _born_early(BIRTHS[name]) for name in ("repeat", "expand", "stack")},
    "one_hot": Case(  # what the first layer gets is the input in another form: the oracle is no judge of its kind
        lambda: Net(_one_hot, **_linear()), torch.randint(0, T, (6, 6), generator=torch.Generator().manual_seed(3)),
        **_TB, operations=False,
    ),
    "conv3d over time, first": Case(
        lambda: Net(_conv3d_first, conv=nn.Conv3d(2, 8, 3, padding=1), lif=IF(), head=nn.Linear(8, 3)),
        pictures(6, 2, T, 4, 4), {"lif": "TB"},
    ),
    "conv3d over time, later": Case(
        lambda: Net(_conv3d_later, conv=nn.Conv3d(2, 8, 3, padding=1), lif=IF(), lif2=IF(), head=nn.Linear(8, 3)),
        pictures(6, 2, T, 4, 4), {"lif": "TB", "lif2": "TB"},
    ),
}  # fmt: skip


# -------------------------------------------------------------------------------- tokens and windows in the same axis
def _tokens(order: str, own: bool = False) -> Case:
    """[B, P, N, 6]: a layer, and perhaps the neuron behind it, on [B*T*P, N, C] or another order of the three."""
    places = [("T", "B", "P").index(letter) for letter in order]
    back = [order.index(letter) for letter in "TBP"]

    def body(net: Net, x: Tensor) -> Tensor:
        spikes = net.lif(_times(net.fc(x)))  # [T, B, P, N, 8]
        shape = [spikes.shape[place] for place in places]
        merged = net.fc2(spikes.permute(*places, 3, 4).flatten(0, 2))
        if own:
            return net.head(net.lif2(merged).sum(1)).unflatten(0, shape).permute(*back, 3).sum((0, 2))
        return net.head(net.lif2(merged.unflatten(0, shape).permute(*back, 3, 4)).sum((2, 3))).mean(0)

    return Case(
        lambda: Net(body, **_linear(**({"lif2": Split(order, tokens=3)} if own else {}))), pictures(6, 3, 2, 6),
        {"lif": "TBP", "lif2": order if own else "TBP"}, {"fc2": order}, sizes={"P": 3},
    )  # fmt: skip


def _times(x: Tensor) -> Tensor:
    return x.expand(T, *x.shape)


def _windows(windows: int) -> Case:
    """[B*nW, T, tokens of the window, C]: layers and neurons of the user's own, which run over axis 1."""

    def body(net: Net, x: Tensor) -> Tensor:  # [B, 8, 6]
        spikes = net.lif(_times(net.fc(x)))
        cut = spikes.unflatten(2, (windows, -1)).permute(1, 2, 0, 3, 4).flatten(0, 1)
        spikes = net.own(net.fc2(cut))
        return net.head(spikes.unflatten(0, (-1, windows)).sum((1, 3))).mean(1)

    return Case(
        lambda: Net(body, **_linear(own=Along(1), lif2=nn.Identity())), pictures(6, 8, 6),
        {"lif": "TB", "own": "BWT"}, {"fc2": "BWT"}, sizes={"W": windows},
    )  # fmt: skip


def _channels(net: Net, x: Tensor) -> Tensor:
    """[B, T, 4, 4] where T is a number of channels, too: layers on [T*B, 4, 4, 4]."""
    spikes = net.lif(net.conv(x).expand(T, *x.shape))
    spikes = net.lif2(net.conv2(spikes.flatten(0, 1)).unflatten(0, (T, -1)))
    return net.head(spikes.sum((3, 4))).mean(0)


def _conv(**modules: nn.Module) -> dict[str, nn.Module]:
    layers = {"conv": nn.Conv2d(T, T, 3, padding=1), "lif": IF(), "conv2": nn.Conv2d(T, T, 3, padding=1), "lif2": IF()}
    return {**layers, "head": nn.Linear(T, 3), **modules}


def _channels_own(net: Net, x: Tensor) -> Tensor:
    """The same on [B, T, C, ...] with C = T."""
    spikes = net.lif(net.conv(x).unsqueeze(1).expand(-1, T, -1, -1, -1))
    spikes = net.lif2(net.conv2(spikes.flatten(0, 1)).unflatten(0, (-1, T)))
    return net.head(spikes.sum((3, 4))).mean(1)


def _channels_then_tokens(net: Net, x: Tensor) -> Tensor:
    """[T, B, 4, 4 tokens]: every axis has the length of time."""
    spikes = net.lif(net.conv(x).expand(T, *x.shape))
    spikes = net.lif2(net.conv2(spikes.flatten(0, 1)).unflatten(0, (T, -1)))
    return net.head(spikes.sum(3)).mean(0)


_MERGED_CASES = {
    **{f"tokens in the axis, {'*'.join(order)}": _tokens(order) for order in ("BTP", "TBP", "PTB", "BPT")},
    **{f"own neuron on tokens in the axis, {'*'.join(order)}": _tokens(order, own=True) for order in ("BTP", "TBP")},
    "2 windows": _windows(2),
    "as many windows as steps": _windows(4),
    "as many channels as steps": Case(
        lambda: Net(_channels, **_conv()), pictures(6, T, 4, 4), {"lif": "TB", "lif2": "TB"}, {"head": "TB"}
    ),
    "as many channels as steps, images first": Case(
        lambda: Net(_channels_own, **_conv(lif=Along(1), lif2=Along(1))), pictures(6, T, 4, 4),
        {"lif": "BT", "lif2": "BT"}, {"head": "BT"},
    ),
    "as many channels and tokens as steps": Case(
        lambda: Net(_channels_then_tokens, **_conv(conv=nn.Conv1d(T, T, 1), conv2=nn.Conv1d(T, T, 3, padding=1))),
        pictures(6, T, 4), {"lif": "TB", "lif2": "TB"}, {"head": "TB"},
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------ own neurons, all layouts
def _images_first(net: Net, x: Tensor) -> Tensor:
    """[B, T, ...] throughout; a still image is repeated along axis 1."""
    x = x if x.dim() == 3 else x.unsqueeze(1).repeat(1, T, 1)
    return net.head(net.lif2(net.fc2(net.lif(net.fc(x))))).mean(1)


def _time_first(net: Net, x: Tensor) -> Tensor:
    return _rest(net, net.fc(x.transpose(0, 1) if x.dim() == 3 else x.unsqueeze(0).repeat(T, 1, 1)))


def _split(order: str) -> Callable[[Net, Tensor], Tensor]:
    def body(net: Net, x: Tensor) -> Tensor:
        if x.dim() == 3:
            x = (x.transpose(0, 1) if order == "TB" else x).flatten(0, 1)
        else:
            x = x.repeat(T, 1) if order == "TB" else x.repeat_interleave(T, 0)
        out = net.head(net.lif2(net.fc2(net.lif(net.fc(x)))))
        return out.view(T, -1, 3).mean(0) if order == "TB" else out.view(-1, T, 3).mean(1)

    return body


def _axes(order: str) -> dict[str, dict[str, str]]:
    return {"neurons": {"lif": order, "lif2": order}, "layers": {"fc2": order, "head": order}}


def _own(body: Callable[[Net, Tensor], Tensor], node: Callable[[], nn.Module], order: str, frames: bool) -> Case:
    images, once = (FRAMES, 0) if frames else (STILLS, _STEM)
    return Case(
        lambda: Net(body, **_linear(lif=node(), lif2=node())), images, **_axes(order), once=once,
        frames=1 if frames else None,
    )  # fmt: skip


_OWN_CASES = {
    f"own neuron {name}, {'frames' if frames else 'stills'}": _own(body, node, order, frames)
    for frames in (False, True)
    for name, body, node, order in (
        ("[B, T, ...]", _images_first, lambda: Along(1), "BT"),
        ("[T, B, ...]", _time_first, lambda: Along(0), "TB"),
        ("[T*B, ...]", _split("TB"), lambda: Split("TB"), "TB"),
        ("[B*T, ...]", _split("BT"), lambda: Split("BT"), "BT"),
    )
}


# ---------------------------------------------------------------------------------------------------------- loops
def _loop(tail: str) -> Callable[[Net, Tensor], Tensor]:
    """Steps one after another; of frames x[:, t]. `tail` is what becomes of the spikes."""

    def body(net: Net, x: Tensor) -> Tensor:
        seen, buffer = [], torch.zeros(T, len(x), 8)
        for t in range(T):
            step = x[:, t] if x.dim() == 3 else x
            seen.append(net.lif2(net.fc2(net.lif(net.fc(step)))))
            buffer[t] = seen[-1]
        if tail == "stack":
            return net.head(torch.stack(seen)).mean(0)
        if tail == "stack, images first":
            return net.head(torch.stack(seen, 1)).mean(1)
        if tail == "cat":
            return net.head(torch.cat(seen)).view(T, -1, 3).mean(0)
        if tail == "buffer":
            return net.head(buffer).mean(0)
        return sum(net.head(spikes) for spikes in seen)

    return body


def _two_loops(net: Net, x: Tensor) -> Tensor:
    """The second layer begins when the first one has seen all steps."""
    seen = [net.lif(net.fc(x[:, t])) for t in range(T)]
    return sum(net.head(net.lif2(net.fc2(spikes))) for spikes in seen)


def _late(net: Net, x: Tensor) -> Tensor:
    """The first step has no second layer."""
    out = torch.zeros(len(x), 3)
    for t in range(T):
        spikes = net.lif(net.fc(x[:, t]))
        if t > 0:
            out = out + net.head(net.lif2(net.fc2(spikes)))
    return out


def _tail_of_steps(net: Net, x: Tensor) -> Tensor:
    """x[1:] behind a multi-step neuron."""
    spikes = net.lif(net.fc(x.transpose(0, 1)))
    return net.head(net.lif2(net.fc2(spikes[1:]))).mean(0)


def _difference(net: Net, x: Tensor) -> Tensor:
    """x[1:] - x[:-1] of spikes: what changes from step to step."""
    spikes = net.lif(net.fc(x.transpose(0, 1)))
    return net.head(net.lif2(net.fc2(spikes[1:] - spikes[:-1]))).mean(0)


def _single(**modules: nn.Module) -> dict[str, nn.Module]:
    return _linear(**{"lif": IF("s"), "lif2": IF("s"), **modules})


_HEADS = {"stack": "TB", "stack, images first": "BT", "cat": "TB", "buffer": "TB", "sum": "tB"}


def _loop_case(tail: str, frames: bool, **modules: nn.Module) -> Case:
    layers = {"fc2": "tB", "head": _HEADS[tail]}
    return Case(
        lambda: Net(_loop(tail), **_single(**{k: type(m)() for k, m in modules.items()})), FRAMES if frames else STILLS,
        {"lif": "tB", "lif2": "tB"}, layers, once=0 if frames else _STEM, frames=1 if frames else None,
    )  # fmt: skip


_LOOP_CASES = {
    **{f"loop, {tail}": _loop_case(tail, False) for tail in _HEADS},
    **{f"loop over frames, {tail}": _loop_case(tail, True) for tail in ("stack", "buffer", "sum")},
    "loop of a stateful own neuron": _loop_case("sum", False, lif=Stateful(), lif2=Stateful()),
    "loop of a stateful own neuron over frames": _loop_case("stack", True, lif=Stateful(), lif2=Stateful()),
    "two loops": Case(lambda: Net(_two_loops, **_single()), FRAMES, **_LOOP, frames=1),
    "second layer from the second step on": Case(
        lambda: Net(_late, **_single()), FRAMES, **_LOOP, late={"lif2": 1, "fc2": 1, "head": 1}, frames=1
    ),
    "second layer from the second step on, own": Case(
        lambda: Net(_late, **_single(lif=Stateful(), lif2=Stateful())), FRAMES, **_LOOP,
        late={"lif2": 1, "fc2": 1, "head": 1}, frames=1,
    ),
    "x[1:]": Case(
        lambda: Net(_tail_of_steps, **_linear()), FRAMES, **_TB, late={"lif2": 1, "fc2": 1, "head": 1}, frames=1
    ),
    "x[1:] - x[:-1]": Case(
        lambda: Net(_difference, **_linear()), FRAMES, **_TB, late={"lif2": 1, "fc2": 1, "head": 1}, frames=1
    ),
    "frames that the network transposes": Case(lambda: Net(_time_first, **_linear()), FRAMES, **_TB, frames=1),
    "step by step inside a module": Case(
        lambda: Net(_time_first, **_linear(lif=StepByStep(), lif2=StepByStep())), FRAMES,
        {"lif.lif": "tB", "lif2.lif": "tB"}, {"fc2": "TB", "head": "TB"}, frames=1,
    ),
    "step by step inside a module, stills": Case(
        lambda: Net(_time_first, **_linear(lif=StepByStep(), lif2=StepByStep())), STILLS,
        {"lif.lif": "tB", "lif2.lif": "tB"}, {"fc2": "TB", "head": "TB"}, once=_STEM,
    ),
}  # fmt: skip


CASES: dict[str, Case] = {**_BIRTH_CASES, **_MERGED_CASES, **_OWN_CASES, **_LOOP_CASES}

"""Random small spiking networks, each from a recipe that two programs run.

`RandomNet` runs a recipe as a researcher would write it: batches, many layouts of time and images, modules and
functions. `interpret` runs it on one image in float64, always on [steps, *shape], and counts the operations: it knows
what every tensor is (spikes or real numbers, a still image or not) from the recipe alone.

    python -m tests.tracing.random_networks 17      # prints the recipe of seed 17 and what its images cost
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

LAYOUTS = ("TB", "BT", "T*B", "B*T")
SPIKES = {"if": "binary", "soft": "binary", "lif": "binary", "own": "binary", "ilif": "integer", "signs": "ternary"}
NODES = {
    "if": lambda mode: neuron.IFNode(step_mode=mode),
    "soft": lambda mode: neuron.IFNode(v_reset=None, step_mode=mode),
    "lif": lambda mode: neuron.LIFNode(step_mode=mode),
    "ilif": lambda mode: neuron.ILIFNode(tau=2.0, step_mode=mode),
    "signs": lambda mode: neuron.TernaryLIFNode(step_mode=mode),
}


# --------------------------------------------------------------------------------------------------------------- recipe
@dataclass(frozen=True)
class Value:
    """What is known of a tensor by construction.

    Attributes:
        shape: of one image at one step: [C], tokens [N, C], or maps [C, L] and [C, H, W], as `form` says.
        kind: "real", "binary", "ternary" or "integer".
        still: the same at every step, since it comes from a still image through no neuron.
        timed: it has been given steps (in a loop: never).
        depth: layers since the last spikes, which bounds the digits of its values.
        straight: spikes as a neuron gave them, or others of their like in other places.
    """

    name: str
    shape: tuple[int, ...]
    form: str
    kind: str
    still: bool
    timed: bool
    depth: int = 0
    straight: bool = False

    @property
    def spikes(self) -> bool:
        return self.kind != "real"


@dataclass(frozen=True)
class Step:
    """One operation: what it makes of what, how the network writes it (`how`), and on which layout."""

    out: Value
    op: str
    ins: tuple[str, ...]
    layer: str = ""
    how: str = ""
    layout: str = "B"
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        args = [*self.ins, *([repr(self.layer)] if self.layer else []), *(f"{k}={v}" for k, v in self.args.items())]
        still = ", still" if self.out.still else ""
        return (
            f"{self.out.name} = {self.op}({', '.join(args)})  # {self.out.kind} {list(self.out.shape)}{still}; "
            f"on [{self.layout}]" + (f", written as {self.how!r}" if self.how else "")
        )


@dataclass
class Recipe:
    """A network and its images.

    Attributes:
        mode: "m" (all steps at once) or "s" (a loop over single steps).
        source: "still" [B, ...], "frames" (real) or "events" (whole numbers), both [B, frames, ...].
        batches: images in each batch.
        own: the layout of neurons of our own, or "" for SpikingJelly's.
        before, body, after: steps ahead of the loop, in it (all of them where there is none), and behind it.
        weights, biases: by layer.
        modules: arguments of layers that are modules; other layers are bare parameters.
        nodes: kind of every neuron.
    """

    seed: int
    T: int
    mode: str
    source: str
    frames: int
    batches: tuple[int, ...]
    own: str
    shape: tuple[int, ...]
    before: list[Step] = field(default_factory=list)
    body: list[Step] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)
    stacked: str = ""
    twice: bool = False
    weights: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor | None] = field(default_factory=dict)
    modules: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        taken = {"still": "x [B", "frames": f"real x [B, {self.frames}", "events": f"whole x [B, {self.frames}"}
        lines = [
            f"seed {self.seed}: T={self.T}, batches of {self.batches}, {taken[self.source]}, "
            f"{str(list(self.shape))[1:]}, {'a loop' if self.mode == 's' else 'all steps at once'}, "
            + (f"own neurons on [{self.own}]" if self.own else "SpikingJelly's neurons")
        ]
        lines += [f"  {name}: {kind}" for name, kind in self.nodes.items()]
        for name, weight in self.weights.items():
            kind, options = self.modules.get(name, ("parameter", {}))
            bias = "" if self.biases[name] is None else " + bias"
            lines.append(f"  {name}: {kind} {list(weight.shape)}{bias} {options or ''}".rstrip())
        lines += [f"  {step}" for step in self.before]
        indent = "  "
        if self.mode == "s":
            lines, indent = [*lines, "  for t in range(T):"], "    "
        lines += [f"{indent}{step}" for step in self.body]
        lines += [f"  {self.stacked}: stacked over the loop"] if self.stacked else []
        return "\n".join([*lines, *(f"  {step}" for step in self.after)])

    def images(self) -> list[Tensor]:
        """The batches: quarters between -2 and 2 (never whole throughout), or events 0 to 2."""
        generator = torch.Generator().manual_seed(self.seed)
        steps = () if self.source == "still" else (self.frames,)
        shape = (sum(self.batches), *steps, *self.shape)
        if self.source == "events":
            x = (torch.randint(-2, 3, shape, generator=generator)).clamp(min=0).float()
        else:
            x = torch.randint(-8, 9, shape, generator=generator) / 4
            x.view(shape[0], -1)[:, ::3] += 0.125
        return list(x.split(self.batches))

    def options(self) -> dict[str, Any]:
        """What `sa.profile` is told."""
        options: dict[str, Any] = {}
        if self.own:
            options = {"neurons": lambda module: isinstance(module, OwnNeuron), "time_steps": self.T}
            options |= {"layout": "BT"} if self.own.startswith("B") and self.mode == "m" else {}
        elif self.twice and self.mode == "s":
            options = {"time_steps": self.T}
        return options

    @property
    def first_neuron(self) -> str:
        return next(iter(self.nodes))


# -------------------------------------------------------------------------------------------------------------- network
class OwnNeuron(nn.Module):
    """A leaky neuron in plain torch. On one step [B, ...] it keeps a potential, on all steps it keeps nothing."""

    def __init__(self, layout: str, T: int) -> None:
        super().__init__()
        self.layout, self.T = layout, T
        self.v: Tensor | float = 0.0

    def reset(self) -> None:
        self.v = 0.0

    def extra_repr(self) -> str:
        return self.layout

    @staticmethod
    def update(v: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        v = v * 0.5 + x
        spikes = (v > 1).to(x.dtype)
        return spikes, v - spikes

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "B":
            spikes, self.v = self.update(self.v, x)
            return spikes
        steps = {
            "TB": lambda: x.unbind(0), "BT": lambda: x.unbind(1), "T*B": lambda: x.chunk(self.T),
            "B*T": lambda: x.unflatten(0, (-1, self.T)).unbind(1),
        }[self.layout]()  # fmt: skip
        v, out = torch.zeros_like(steps[0]), []
        for step in steps:
            spikes, v = self.update(v, step)
            out.append(spikes)
        return {
            "TB": lambda: torch.stack(out), "BT": lambda: torch.stack(out, 1), "T*B": lambda: torch.cat(out),
            "B*T": lambda: torch.stack(out, 1).flatten(0, 1),
        }[self.layout]()  # fmt: skip


def relayout(x: Tensor, source: str, target: str, steps: int) -> Tensor:
    """The same values with time and images in another order, or merged into one axis."""
    if source == target:
        return x
    if "*" in source:
        x = x.unflatten(0, (steps, -1) if source == "T*B" else (-1, steps))
    if source[0] != target[0]:
        x = x.transpose(0, 1)
    return x.flatten(0, 1) if "*" in target else x


class RandomNet(nn.Module):
    """The network of a recipe: [B, ...] or [B, frames, ...] -> logits [B, 3]."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        for name, weight in recipe.weights.items():
            bias = recipe.biases[name]
            if name in recipe.modules:
                kind, options = recipe.modules[name]
                module = getattr(nn, kind)(**options, bias=bias is not None)
                module.weight.data = weight.clone()
                if bias is not None:
                    module.bias.data = bias.clone()
                setattr(self, name, module)
            else:
                self.register_parameter(name, nn.Parameter(weight.clone()))
                if bias is not None:
                    self.register_parameter(f"{name}_bias", nn.Parameter(bias.clone()))
        for name, kind in recipe.nodes.items():
            own = recipe.own
            setattr(self, name, OwnNeuron(own, recipe.T) if own else NODES[kind](recipe.mode))

    def forward(self, x: Tensor) -> Tensor:
        r = self.recipe
        found: dict[str, tuple[Tensor, str, int]] = {"x": (x, "B" if r.source == "still" else "BT", r.frames)}
        self._run(r.before, found)
        if r.mode == "m":
            self._run(r.body, found)
            logits, layout, steps = found[r.body[-1].out.name]
            return relayout(logits, layout, "TB", steps).mean(0)
        total: Tensor | float = 0.0
        kept: list[Tensor] = []
        for t in range(r.T):
            now = dict(found)
            if r.source != "still":
                now["x"] = (x[:, t + r.frames - r.T], "B", 1)
            for step in r.body:
                for name in step.ins:
                    if name.startswith("last "):
                        now[name] = found.get(name, (x.new_zeros(len(x), *step.args["zeros"]), "B", 1))
                self._run([step], now)
                found[f"last {step.out.name}"] = now[step.out.name]
            if r.stacked:
                kept.append(now[r.stacked][0])
            else:
                total = total + now[r.body[-1].out.name][0]
        if not r.stacked:
            return total
        found[r.stacked] = (torch.stack(kept), "TB", r.T)
        self._run(r.after, found)
        logits, layout, steps = found[r.after[-1].out.name]
        return relayout(logits, layout, "TB", steps).sum(0)

    def _run(self, steps: Iterable[Step], found: dict[str, tuple[Tensor, str, int]]) -> None:
        for step in steps:
            x, layout, count = found[step.ins[0]]
            if step.op == "repeat":
                found[step.out.name] = (self._repeat(x, step), step.layout, self.recipe.T)
                continue
            given = [relayout(found[name][0], found[name][1], step.layout, count) for name in step.ins]
            if step.op == "later":
                axis = step.layout.index("T")
                a, b = given[0].narrow(axis, 1, count - 1), given[0].narrow(axis, 0, count - 1)
                found[step.out.name] = (a - b if step.how == "difference" else a, step.layout, count - 1)
                continue
            found[step.out.name] = (getattr(self, f"_{step.op}")(step, *given), step.layout, count)

    def _repeat(self, x: Tensor, step: Step) -> Tensor:
        T, ones = self.recipe.T, [1] * (x.dim() - 1)
        axis = 0 if step.layout[0] == "T" else 1
        if "*" not in step.layout:
            return {
                "repeat": lambda: x.unsqueeze(axis).repeat(*((T, 1) if axis == 0 else (1, T)), *ones),
                "expand": lambda: x.unsqueeze(axis).expand(*((T, -1) if axis == 0 else (-1, T)), *x.shape[1:]),
                "stack": lambda: torch.stack([x] * T, axis),
            }[step.how]()
        if step.layout == "T*B":
            return x.repeat(T, *ones) if step.how == "repeat" else torch.cat([x] * T)
        return x.repeat_interleave(T, 0) if step.how == "repeat" else torch.stack([x] * T, 1).flatten(0, 1)

    # -------------------------------------------------------------------------------------------------------- weights
    def _weight(self, step: Step) -> Tensor:
        return getattr(self, step.layer)

    def _conv(self, step: Step, x: Tensor) -> Tensor:
        if step.how == "module":
            return getattr(self, step.layer)(x)
        options = step.args["options"]
        function = getattr(F, f"conv{'_transpose' * step.args['transposed']}{x.dim() - 2}d")
        return function(x, self._weight(step), getattr(self, f"{step.layer}_bias", None), **options)

    def _linear(self, step: Step, x: Tensor) -> Tensor:
        if step.how.startswith("module"):
            layer = getattr(self, step.layer)
            if step.how == "module, tokens first":
                return layer(x.movedim(-2, 0)).movedim(0, -2)
            return layer(x)
        w, bias = self._weight(step), getattr(self, f"{step.layer}_bias", None)
        if step.how == "F.linear":
            return F.linear(x, w, bias)
        out = x @ w.t() if step.how == "@" else torch.einsum("...i,oi->...o", x, w)
        return out if bias is None else out + bias

    def _mix(self, step: Step, x: Tensor) -> Tensor:
        """Weights on tokens: w @ x."""
        w = self._weight(step)
        return w @ x if step.how == "@" else torch.einsum("mn,...nc->...mc", w, x)

    def _headwise(self, step: Step, x: Tensor) -> Tensor:
        """Each head of the channels has weights of its own."""
        w = self._weight(step)
        x = x.unflatten(-1, (len(w), -1))
        if step.how == "@":
            return (x.transpose(-3, -2) @ w).transpose(-3, -2).flatten(-2)
        return torch.einsum("...nhd,hde->...nhe", x, w).flatten(-2)

    # ---------------------------------------------------------------------------------------------------- no weights
    def _neuron(self, step: Step, x: Tensor) -> Tensor:
        node = getattr(self, step.layer)
        images = len(step.layout) - 1  # axis of images: 1 in TB, 0 in B
        if step.how == "images with channels":  # [T, B*C, ...]
            out = node(x.flatten(images, images + 1))
            return out.unflatten(images, x.shape[images : images + 2])
        if step.how == "channels first":  # [T, C, B, ...]
            return node(x.transpose(images, images + 1)).transpose(images, images + 1)
        return node(x)

    def _view(self, step: Step, x: Tensor) -> Tensor:
        return view(step.how, x, **step.args)

    def _pool(self, step: Step, x: Tensor) -> Tensor:
        spatial = len(step.out.shape) - 1
        lead = x.shape[: x.dim() - spatial - 1]
        return pool(x.flatten(0, len(lead) - 1), spatial, **step.args).unflatten(0, lead)

    def _add(self, step: Step, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def _scale(self, step: Step, x: Tensor) -> Tensor:
        return x * step.args["by"]

    def _or(self, step: Step, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    def _mask(self, step: Step, a: Tensor, b: Tensor) -> Tensor:
        if step.how == "mul_":
            return a.clone().mul_(b)
        return torch.mul(a, b) if step.how == "mul" else a * b

    def _sum(self, step: Step, x: Tensor) -> Tensor:
        return x.sum(step.args["dim"], keepdim=True)

    def _product(self, step: Step, a: Tensor, b: Tensor) -> Tensor:
        """Attention's products of spikes, by heads; see `product` for what they are."""
        what, heads = step.args["what"], step.args["heads"]
        split = [what != "av", what != "qm"]  # "av": a is [h, N, N]; "qm": b is [h, d, d]
        a, b = (x.unflatten(-1, (heads, -1)) if s else x for x, s in zip((a, b), split, strict=True))
        if step.how == "einsum":
            equation = {
                "qk": "...nhd,...mhd->...hnm", "kv": "...nhd,...nhe->...hde", "av": "...hnm,...mhd->...nhd",
                "qm": "...nhd,...hde->...nhe",
            }[what]  # fmt: skip
            out = torch.einsum(equation, a, b)
            return out.flatten(-2) if what in ("av", "qm") else out
        a, b = (x.transpose(-3, -2) if s else x for x, s in zip((a, b), split, strict=True))  # [lead, h, N, d]
        lead = a.shape[:-3]
        a = a.transpose(-2, -1) if what == "kv" else a
        b = b.transpose(-2, -1) if what == "qk" else b
        if step.how == "bmm":  # [T*B*h, ...]
            out = torch.bmm(a.flatten(0, -3), b.flatten(0, -3)).unflatten(0, (*lead, heads))
        elif step.how == "bmm, heads first":  # [h*T*B, ...]
            a, b = (x.movedim(-3, 0).flatten(0, -3) for x in (a, b))
            out = torch.bmm(a, b).unflatten(0, (heads, *lead)).movedim(0, len(lead))
        elif step.how == "heads first":  # [h, T, B, ...]
            out = (a.movedim(-3, 0) @ b.movedim(-3, 0)).movedim(0, -3)
        elif step.how == "heads second":  # [T, h, B, ...]
            out = (a.movedim(-3, 1) @ b.movedim(-3, 1)).movedim(1, -3)
        else:
            out = a @ b
        return out.transpose(-3, -2).flatten(-2) if what in ("av", "qm") else out


def view(how: str, x: Tensor, **args: Any) -> Tensor:
    """Elements of one tensor in other places, more often, or not at all; all axes counted from the end."""
    if how == "flip":
        return x.flip(args["dim"])
    if how == "roll":
        return x.roll(args["by"], args["dim"])
    if how == "slice":
        return x.narrow(args["dim"], 1, x.shape[args["dim"]] - 1)
    if how == "cat":
        return torch.cat([x, x.flip(args["dim"])], args["dim"])
    if how == "stack":
        return torch.stack([x, x], -1).flatten(-2)
    if how == "expand":
        return x.unsqueeze(-2).expand(*x.shape[:-1], 2, x.shape[-1]).flatten(-2)
    if how == "repeat":
        return x.repeat(*[1] * (x.dim() - 1), 2)
    if how == "index":
        return x.index_select(x.dim() - 1, torch.tensor(args["order"]))
    if how == "halves":
        a, b = x.split([1, x.shape[-1] - 1], -1)
        return torch.cat([b, a], -1)
    if how == "written":
        y = torch.zeros_like(x)
        y[..., 1:] = x[..., 1:]
        return y
    if how == "pad":
        return F.pad(x, (1, 1))
    if how == "swap":
        return x.transpose(-2, -1)
    if how == "vector":
        return x.flatten(-args["axes"])
    if how == "tokens":  # of maps
        return x.flatten(-args["space"]).transpose(-2, -1)
    if how == "line":  # [C, H, W] -> [C, H*W]
        return x.flatten(-2)
    if how == "reshape":  # [C, H, W] -> [C*H, W] as maps [C*H, W]
        return x.reshape(*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1])
    raise ValueError(how)


def pool(x: Tensor, spatial: int, *, size: int, stride: int, padding: int) -> Tensor:
    return getattr(F, f"max_pool{spatial}d")(x, size, stride, padding)


# ---------------------------------------------------------------------------------------------------------- interpreter
@dataclass
class Cost:
    """What one image costs, by layer and in all, the spikes of the first neuron at every step, and the logits."""

    sops: Counter[str] = field(default_factory=Counter)
    macs: Counter[str] = field(default_factory=Counter)
    acs: int = 0
    masks: int = 0
    first: list[int] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.double))

    @property
    def totals(self) -> dict[str, int]:
        return {"sops": self.sops.total(), "macs": self.macs.total(), "acs": self.acs, "mask_ops": self.masks}


PRODUCTS = "products of spikes"  # their key in `Cost.sops`
AMOUNTS = ("sops", "macs", "acs", "mask_ops")  # columns of `Profile.operations`


def interpret(recipe: Recipe, image: Tensor) -> Cost:
    """Run a recipe on one image, [*shape] or [frames, *shape], in float64, and count."""
    return _Interpreter(recipe).run(image.double())


class _Interpreter:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.cost = recipe, Cost()
        self.state: dict[str, Tensor] = {}
        self.known: dict[str, Value] = {"x": _source(recipe)}
        self.again = False  # a later step of the loop: what a still image costs has been paid

    def run(self, image: Tensor) -> Cost:
        r = self.recipe
        values = {"x": image[None] if r.source == "still" else image}
        self._steps(r.before, values)
        if r.mode == "m":
            self._steps(r.body, values)
            self.cost.logits = self._added_up(values[r.body[-1].out.name]) / len(values[r.body[-1].out.name])
            return self.cost
        kept: list[Tensor] = []
        last: dict[str, Tensor] = {}
        for t in range(r.T):
            now = dict(values)
            if r.source != "still":
                now["x"] = image[t + r.frames - r.T][None]
            for step in r.body:
                for name in step.ins:
                    if name.startswith("last "):
                        now[name] = last.get(name, torch.zeros(1, *step.args["zeros"], dtype=torch.double))
                        self.known[name] = next(s.out for s in r.body if s.out.name == name.removeprefix("last "))
                self._steps([step], now)
                last[f"last {step.out.name}"] = now[step.out.name]
            if r.stacked:
                kept.append(now[r.stacked])
            else:
                self.cost.logits = self.cost.logits + now[r.body[-1].out.name][0]
                self.cost.acs += self.again * now[r.body[-1].out.name].numel()
            self.again = True
        if r.stacked:
            values = {r.stacked: torch.cat(kept)}
            self._steps(r.after, values)
            self.cost.logits = self._added_up(values[r.after[-1].out.name])
        return self.cost

    def _added_up(self, steps: Tensor) -> Tensor:
        """The sum over the steps, of numbers: one addition less than steps for each."""
        self.cost.acs += steps[1:].numel()
        return steps.sum(0)

    def _steps(self, steps: Iterable[Step], values: dict[str, Tensor]) -> None:
        for step in steps:
            values[step.out.name] = self._step(step, [values[name] for name in step.ins])
            self.known[step.out.name] = step.out
            assert values[step.out.name].shape[1:] == step.out.shape, f"{step}: {values[step.out.name].shape}"
            exact(values[step.out.name])

    def _step(self, step: Step, given: Sequence[Tensor]) -> Tensor:
        x = given[0]
        match step.op:
            case "repeat":
                return torch.cat([x] * self.recipe.T)
            case "later":
                self.cost.acs += x[1:].numel() * (step.how == "difference")
                return x[1:] - x[:-1] if step.how == "difference" else x[1:]
            case "view":
                return view(step.how, x, **step.args)
            case "pool":
                return pool(x, x.dim() - 2, **step.args)
            case "add":
                # Not again on a still image, and not of the zeros that stand for the step before the first.
                nothing = not self.again and any("zeros" in s.args for s in self.recipe.body if s.out.name in step.ins)
                if not (nothing or (step.out.still and self.again)):
                    self.cost.acs += x[:1].numel() if step.out.still else x.numel()
                return x + given[1]
            case "scale":
                return x * step.args["by"]
            case "or":
                return ((x != 0) | (given[1] != 0)).double()
            case "mask":
                out = x * given[1]
                self.cost.masks += out.numel()
                return out
            case "sum":
                self.cost.acs += int((x != 0).sum())
                return x.sum(step.args["dim"], keepdim=True)
            case "product":
                self.cost.sops[PRODUCTS] += whole(product(step, x.abs(), given[1].abs()).sum())
                return product(step, x, given[1])
            case "neuron":
                return self._neuron(step, x)
        return self._weigh(step, x)

    def _weigh(self, step: Step, x: Tensor) -> Tensor:
        """A layer: spikes add the weights that they meet, real numbers are multiplied with all of them."""
        w, bias = self.recipe.weights[step.layer].double(), self.recipe.biases[step.layer]
        received = self.known[step.ins[0]]
        out = apply(step, x, w)
        if received.spikes:
            self.cost.sops[step.layer] += whole(apply(step, x.abs(), torch.ones_like(w)).sum())
        elif not (received.still and self.again):
            self.cost.macs[step.layer] += dense(step, x[:1], out[:1], w) * (1 if received.still else len(x))
        if bias is None:
            return out
        return out + (bias.double().view(-1, *[1] * (x.dim() - 2)) if step.op == "conv" else bias.double())

    def _neuron(self, step: Step, x: Tensor) -> Tensor:
        kind, name = self.recipe.nodes[step.layer], step.layer
        forgets = kind == "own" and self.recipe.mode == "m"
        v = torch.zeros_like(x[0]) if forgets else self.state.get(name, torch.zeros_like(x[0]))
        out = []
        for now in x:
            spikes, v = fire(kind, v, now)
            exact(v)
            out.append(spikes)
            if name == self.recipe.first_neuron and not step.args.get("second"):
                self.cost.first.append(int((spikes != 0).sum()))
        self.state[name] = v
        return torch.stack(out)


def fire(kind: str, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and new potential of a neuron at one step."""
    if kind in ("if", "soft"):
        v = v + x
        spikes = (v >= 1).double()
        return spikes, v - spikes if kind == "soft" else v * (1 - spikes)
    if kind == "own":
        v = v / 2 + x
        spikes = (v > 1).double()
        return spikes, v - spikes
    if kind == "ilif":
        v = v / 2 + x
        spikes = v.clamp(0, 4).round()
        return spikes, v - spikes
    v = v + (x - v) / 2
    spikes = (v >= 1).double() - ((v <= -1).double() if kind == "signs" else 0)
    return spikes, v * (spikes == 0)


def apply(step: Step, x: Tensor, w: Tensor) -> Tensor:
    """A layer without its bias, on [steps, *shape]."""
    if step.op == "linear":
        return (x.unsqueeze(-2) * w).sum(-1)
    if step.op == "mix":  # [N, C] with w [M, N]
        return (x.unsqueeze(-3) * w.unsqueeze(-1)).sum(-2)
    if step.op == "headwise":  # [N, h*d] with w [h, d, e]
        h, d, e = w.shape
        return torch.cat([apply_columns(x[..., i * d : (i + 1) * d], w[i]) for i in range(h)], -1)
    options, spatial = dict(step.args["options"]), x.dim() - 2
    if step.args["transposed"]:
        return getattr(F, f"conv_transpose{spatial}d")(x, w, **options)
    padding = options.pop("padding", 0)
    for axis in range(2, x.dim()):
        width = options.get("dilation", 1) * (w.shape[axis] - 1)
        left, right = (width // 2, width - width // 2) if padding == "same" else (padding, padding)
        places = torch.arange(-left, x.shape[axis] + right)
        inside = (places >= 0) & (places < x.shape[axis])
        x = x.index_select(axis, places % x.shape[axis])
        if not step.args["circular"]:
            x = x * inside.view(-1, *[1] * (x.dim() - 1 - axis))
    return getattr(F, f"conv{spatial}d")(x, w, **options)


def apply_columns(x: Tensor, w: Tensor) -> Tensor:
    return (x.unsqueeze(-1) * w).sum(-2)


def dense(step: Step, x: Tensor, out: Tensor, w: Tensor) -> int:
    """Multiply-accumulates of one step, padding included."""
    if step.op == "conv":
        return prod((x if step.args["transposed"] else out).shape[2:]) * w.numel()
    if step.op == "linear":
        return x.numel() * w.shape[0]
    return x.numel() * (w.shape[0] if step.op == "mix" else w.shape[2])


def product(step: Step, a: Tensor, b: Tensor) -> Tensor:
    """qk: q k^T [h, N, N]; kv: k^T v [h, d, d]; av: [h, N, N] with v [N, C]; qm: q [N, C] with [h, d, d]."""
    what, heads = step.args["what"], step.args["heads"]
    parts = []
    for h in range(heads):
        left = a[:, h] if what == "av" else a.chunk(heads, -1)[h]
        right = b[:, h] if what == "qm" else b.chunk(heads, -1)[h]
        left = left.transpose(1, 2) if what == "kv" else left
        right = right.transpose(1, 2) if what == "qk" else right
        parts.append((left.unsqueeze(-1) * right.unsqueeze(1)).sum(2))
    return torch.cat(parts, -1) if what in ("av", "qm") else torch.stack(parts, 1)


def exact(x: Tensor) -> None:
    """float32 must hold every value, with two bits to spare: only then are spikes the same in any order of sums."""
    assert torch.equal((x * 5).float().double(), x * 5), "a value has too many digits for float32"


def whole(x: Tensor) -> int:
    assert float(x) == round(float(x))
    return round(float(x))


# ------------------------------------------------------------------------------------------------------------ generator
def _source(recipe: Recipe) -> Value:
    kind = "integer" if recipe.source == "events" else "real"
    form = {1: "vector", 2: "map"}.get(len(recipe.shape), "map")
    still = recipe.source == "still"
    return Value("x", recipe.shape, form, kind, still, not still and recipe.mode == "m")


def make(seed: int) -> Recipe:
    """The recipe of a seed."""
    return _Writer(seed).write()


class _Writer:
    """Writes one recipe at random."""

    def __init__(self, seed: int) -> None:
        self.random = r = random.Random(seed)
        T = r.randint(2, 4)
        first = r.choice([T, T, 2, 3, 4])
        rest = r.choice([n for n in (1, 2, 3) if n != first and 3 <= n + first <= 6])
        self.T, self.images, self.mode = T, first, r.choice("mmms")
        own = "" if r.random() < 0.7 else "B" if self.mode == "s" else r.choice(LAYOUTS)
        source = r.choice(["still", "still", "frames", "events"])
        frames = T + (1 if source != "still" and r.random() < 0.25 else 0)
        self.form = r.choice(["map", "map", "tokens", "tokens", "vector"])
        if self.form == "map":
            shape = (self._channels(), *(r.randint(3, 6) for _ in range(r.randint(1, 2))))
        else:
            shape = (self._channels(),) if self.form == "vector" else (r.choice([3, 4, T + 1]), self._channels())
        self.recipe = Recipe(seed, T, self.mode, source, frames, (first, rest), own, shape)
        self.steps, self.layout = self.recipe.body, "B"
        self.generator = torch.Generator().manual_seed(seed + 1000)

    def _channels(self) -> int:
        return max(2, self.random.choice([self.T, self.images, *range(2, 7)]))

    # ------------------------------------------------------------------------------------------------------- writing
    def _put(self, op: str, ins: Sequence[Value], shape: Sequence[int], **changes: Any) -> Value:
        """One step. A map, or what else `form` says, of `kind`; still where all it is made of is still."""
        first = ins[0]
        value = Value(
            f"{op[0]}{len(self.recipe.before) + len(self.recipe.body) + len(self.recipe.after)}", tuple(shape),
            changes.pop("form", first.form), changes.pop("kind", "real"),
            changes.pop("still", all(v.still for v in ins)), changes.pop("timed", first.timed),
            changes.pop("depth", 0), changes.pop("straight", False),
        )  # fmt: skip
        layouts = changes.pop("layouts", LAYOUTS)
        layout = self.random.choice(layouts) if value.timed else "B"
        args = changes.pop("args", {})
        self.steps.append(Step(value, op, tuple(v.name for v in ins), layout=layout, args=args, **changes))
        return value

    def _weights(self, prefix: str, shape: Sequence[int], bias: int | None, module: tuple | None = None) -> str:
        name = f"{prefix}{sum(key.startswith(prefix) for key in self.recipe.weights)}"
        draw = lambda low, high, size: torch.randint(low, high, size, generator=self.generator) / 16  # noqa: E731
        self.recipe.weights[name] = draw(-8, 25, tuple(shape))
        self.recipe.biases[name] = None if bias is None else draw(-2, 13, (bias,))
        if module:
            self.recipe.modules[name] = module
        return name

    def write(self) -> Recipe:
        r, recipe = self.random, self.recipe
        x = _source(recipe)
        x = Value(**(vars(x) | {"form": self.form}))
        if self.mode == "m":
            if recipe.frames > self.T:
                how = r.choice(["", "difference"]) if recipe.source == "frames" else ""
                x = self._put("later", [x], x.shape, kind=x.kind, how=how, layouts=("TB", "BT"))
            elif recipe.source == "still" and r.random() < 0.6:
                x = self._repeat(x)
        elif recipe.source == "still" and r.random() < 0.4:
            self.steps = recipe.before
            x = self._layer(x)
            self.steps = recipe.body
        spikes = self._neuron(self._stem(x))
        for _ in range(r.randint(1, 3)):
            spikes = self._block(spikes)
        self._head(spikes)
        return recipe

    def _repeat(self, x: Value) -> Value:
        layout = self.random.choice(LAYOUTS)
        how = self.random.choice(["repeat", "stack"] if "*" in layout else ["repeat", "expand", "stack"])
        return self._put("repeat", [x], x.shape, timed=True, how=how, layouts=(layout,), depth=x.depth)

    def _stem(self, x: Value) -> Value:
        """Layers on the input; a still image gets its time steps here at the latest."""
        r = self.random
        if r.random() < 0.3:
            x = self._view(x)
        if x.depth == 0:
            x = self._layer(x)
        if r.random() < 0.25 and x.depth < 2:
            same = r.random() < 0.5
            y = self._layer(x, same)
            x = self._put("add", [x, y], x.shape, depth=2) if same else y
        if self.mode == "m" and not x.timed:
            x = self._repeat(x)
        return x

    def _neuron(self, x: Value, kind: str = "", share: Step | None = None) -> Value:
        """A neuron; `share`: the same one, which keeps its potential from call to call, on the same axes."""
        r, recipe = self.random, self.recipe
        if share is not None:
            name, how = share.layer, share.how
        else:
            if recipe.own:
                kind = "own"
            elif kind in ("", "binary"):
                options = ["if", "soft", "lif"] + ["ilif", "signs"] * (not kind)
                kind = r.choice(options)
            name = f"lif{len(recipe.nodes)}"
            recipe.nodes[name] = kind
            how = "" if recipe.own else r.choice(["", "", "images with channels", "channels first"])
        if r.random() < 0.4:  # else too few neurons fire
            x = self._put("scale", [x], x.shape, depth=x.depth, args={"by": 2.0})
        spikes = SPIKES[recipe.nodes[name]]
        layouts = (recipe.own or "TB",)
        return self._put(
            "neuron", [x], x.shape, kind=spikes, still=False, layer=name, how=how, layouts=layouts, straight=True,
            args={"second": True} if share else {},
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- layers
    def _layer(self, x: Value, same: bool = False, share: Step | None = None) -> Value:
        """A layer with weights; `same`: of the same shape as its input."""
        if share is not None:
            return self._put(
                share.op, [x], share.out.shape, depth=x.depth + 1, layer=share.layer, how=share.how,
                layouts=("T*B", "B*T") if share.op == "conv" else LAYOUTS, args=share.args,
            )  # fmt: skip
        if x.form == "map" and self.random.random() < 0.9:
            return self._conv(x, same)
        if x.form == "tokens" and (chance := self.random.random()) < 0.35:
            return self._mix(x, same) if chance < 0.2 else self._headwise(x, same)
        return self._linear(x, same)

    def _conv(self, x: Value, same: bool) -> Value:
        r, (C, *space) = self.random, x.shape
        for _ in range(100):
            out = C if same else self._channels()
            groups = r.choice([1, 1, *(g for g in range(2, 7) if C % g == 0 and out % g == 0)])
            if r.random() < 0.15 and not same:
                groups, out = C, C * (2 if C <= 3 and r.random() < 0.5 else 1)
            k, dilation = r.randint(1, 3), r.randint(1, 2)
            options: dict[str, Any] = {"dilation": dilation, "groups": groups}
            how, circular, transposed = r.choice(["module", "module", "function"]), False, False
            if same:
                k = r.choice([1, 2, 3, 3])
                options["padding"] = "same"
                if k == 3 and r.random() < 0.5:
                    options["padding"] = dilation
            elif r.random() < 0.35:
                transposed, stride = True, r.randint(1, 2)
                options |= {"stride": stride, "padding": r.randint(0, 1)}
                if stride == 2:
                    options["output_padding"] = r.randint(0, 1)
            else:
                options |= {"stride": r.randint(1, 2), "padding": r.randint(0, 2)}
                if r.random() < 0.15:
                    options |= {"stride": 1, "padding": "same"}
            padding = options["padding"]
            if not transposed and padding != "same" and padding <= min(space) and r.random() < 0.2:
                how, circular = "module", padding > 0
            if transposed:
                stride, more = options["stride"], options.get("output_padding", 0)
                sizes = [(n - 1) * stride - 2 * padding + dilation * (k - 1) + more + 1 for n in space]
            elif padding == "same":
                sizes = space
            else:
                sizes = [(n + 2 * padding - dilation * (k - 1) - 1) // options.get("stride", 1) + 1 for n in space]
            if all(1 <= n <= 7 for n in sizes) and (not same or list(sizes) == space):
                break
        else:
            return self._linear(x, same)
        shape = (C, out // groups, *[k] * len(space)) if transposed else (out, C // groups, *[k] * len(space))
        usual = {"stride": 1, "dilation": 1, "groups": 1, "padding": 0, "output_padding": 0}
        options = {key: value for key, value in options.items() if value != usual[key]}
        kind = f"Conv{'Transpose' * transposed}{len(space)}d"
        given = options | {"in_channels": C, "out_channels": out, "kernel_size": k}
        given |= {"padding_mode": "circular"} if circular else {}
        module = (kind, given) if how == "module" else None
        layer = self._weights("conv", shape, r.choice([None, out]), module)
        return self._put(
            "conv", [x], (out, *sizes), depth=x.depth + 1, layer=layer, how=how, layouts=("T*B", "B*T"),
            args={"transposed": transposed, "circular": circular, "options": options},
        )  # fmt: skip

    def _linear(self, x: Value, same: bool = False, out: int = 0, prefix: str = "fc") -> Value:
        r, C = self.random, x.shape[-1]
        out = out or (C if same else self._channels())
        hows = ["module", "module", "F.linear", "@", "einsum", *["module, tokens first"] * (len(x.shape) > 1)]
        how = self._no_sum(r.choice(hows), C)
        module = ("Linear", {"in_features": C, "out_features": out}) if how.startswith("module") else None
        layer = self._weights(prefix, (out, C), r.choice([None, out]), module)
        return self._put("linear", [x], (*x.shape[:-1], out), depth=x.depth + 1, layer=layer, how=how)

    def _mix(self, x: Value, same: bool) -> Value:
        N, C = x.shape
        M = N if same else self.random.randint(2, 4)
        layer, how = self._weights("mix", (M, N), None), self._no_sum(self.random.choice(["@", "einsum"]), N)
        return self._put("mix", [x], (M, C), depth=x.depth + 1, layer=layer, how=how)

    def _headwise(self, x: Value, same: bool) -> Value:
        N, C = x.shape
        h = self._heads(C)
        e = C // h if same else self.random.randint(1, 6 // h)
        layer = self._weights("part", (h, C // h, e), None)
        how = self._no_sum(self.random.choice(["@", "einsum"]), C // h)
        return self._put("headwise", [x], (N, h * e), depth=x.depth + 1, layer=layer, how=how)

    @staticmethod
    def _no_sum(how: str, length: int) -> str:
        """`einsum` over an axis of one element is an elementwise product, which is another operation."""
        return "@" if how == "einsum" and length == 1 else how

    def _heads(self, C: int) -> int:
        """Often as many as there are time steps."""
        if C % self.T == 0 and self.random.random() < 0.6:
            return self.T
        return self.random.choice([h for h in range(1, C + 1) if C % h == 0])

    # --------------------------------------------------------------------------------------------------------- views
    def _view(self, x: Value, keeps: bool = False) -> Value:
        """Elements in other places; `keeps`: the shape stays."""
        r, shape, form = self.random, x.shape, x.form
        last, dims = shape[-1], len(shape)
        hows = ["flip", "roll", "index", "written", *["halves"] * (last > 1)]
        if not keeps:
            hows += ["slice"] * (last > 2) + ["pad"] * (last < 5)
            hows += ["cat", "stack", "expand", "repeat"] * (last <= 3 and prod(shape) <= 60)
            hows += ["vector"] * (dims > 1) + ["swap"] * (dims > 1)
            hows += ["tokens"] * (form == "map") + ["line", "reshape"] * (dims == 3)
        how, args = r.choice(hows), {}
        if how in ("flip", "roll", "slice", "cat"):
            args["dim"] = -1 if how in ("slice", "cat") else -r.randint(1, dims)
        if how == "roll":
            args["by"] = 1
        if how == "index":
            args["order"] = [r.randrange(last) for _ in range(last)]
        sizes = {"slice": last - 1, "pad": last + 2} | dict.fromkeys(("cat", "stack", "expand", "repeat"), 2 * last)
        shape = (*shape[:-1], sizes.get(how, last))
        if how == "vector":
            form, args["axes"], shape = "vector", dims, (prod(shape),)
        elif how == "tokens":
            args["space"] = dims - 1
            form, shape = "tokens", (prod(shape[1:]), shape[0])
        elif how == "swap":
            shape = (*shape[:-2], shape[-1], shape[-2])
        elif how == "line":
            shape = (shape[0], shape[1] * shape[2])
        elif how == "reshape":
            shape = (shape[0] * shape[1], shape[2])
        return self._put(
            "view", [x], shape, form=form, kind=x.kind, depth=x.depth, how=how, args=args, straight=x.straight
        )

    def _tokens(self, x: Value) -> Value:
        if x.form == "vector":
            raise LookupError
        if x.form == "map":
            shape, args = (prod(x.shape[1:]), x.shape[0]), {"space": len(x.shape) - 1}
            x = self._put("view", [x], shape, form="tokens", kind=x.kind, how="tokens", args=args, straight=x.straight)
        if x.shape[0] > 9:
            raise LookupError
        return x

    # -------------------------------------------------------------------------------------------------------- blocks
    def _block(self, x: Value) -> Value:
        r = self.random
        for _ in range(r.choice([0, 0, 1, 2])):
            x = self._view(x)
        blocks = ["plain", "plain", "pool", "pool", "shortcut", "twice", "deep", "or", "gate", *["attention"] * 4]
        blocks += ["recurrent"] * 3 * (self.mode == "s")
        mark = len(self.steps)
        for _ in range(20):
            try:
                return getattr(self, f"_{r.choice(blocks)}")(x)
            except LookupError:  # this block does not suit the value
                del self.steps[mark:]
        return self._plain(x)

    def _plain(self, x: Value) -> Value:
        return self._neuron(self._layer(x))

    def _deep(self, x: Value) -> Value:
        """A layer receives the numbers that another one makes."""
        return self._neuron(self._layer(self._layer(x)))

    def _pool(self, x: Value) -> Value:
        space = x.shape[1:]
        if x.form != "map" or min(space) < 2:
            raise LookupError
        size, stride = 2, self.random.randint(1, 2)
        padding = self.random.randint(0, 1)
        sizes = [(n + 2 * padding - size) // stride + 1 for n in space]
        args = {"size": size, "stride": stride, "padding": padding}
        return self._put("pool", [x], (x.shape[0], *sizes), kind=x.kind, args=args)

    def _shortcut(self, x: Value) -> Value:
        """Membrane shortcut: numbers are added to numbers, then comes a neuron."""
        u = self._layer(x)
        for _ in range(self.random.randint(1, 2)):
            u = self._put("add", [u, self._layer(self._neuron(u), same=True)], u.shape, depth=1)
        return self._neuron(u)

    def _twice(self, x: Value) -> Value:
        """The same layer, and perhaps the same neuron, twice."""
        y = self._layer(x, same=True)
        layer = self.steps[-1]
        first = self._neuron(y)
        node = self.steps[-1]
        y = self._layer(self._view(first, keeps=True) if self.random.random() < 0.3 else first, share=layer)
        if self.random.random() < 0.3:
            self.recipe.twice = True
            return self._neuron(y, share=node)
        return self._neuron(y)

    def _other(self, x: Value) -> Value:
        """Binary spikes beside others, of the same shape."""
        if x.kind != "binary":
            raise LookupError
        return self._neuron(self._layer(x, same=True), "binary")

    def _or(self, x: Value) -> Value:
        return self._put("or", [x, self._other(x)], x.shape, kind="binary")

    def _gate(self, x: Value) -> Value:
        return self._mask(x, self._other(x))

    def _mask(self, a: Value, b: Value) -> Value:
        return self._put("mask", [a, b], a.shape, kind="binary", how=self.random.choice(["*", "mul", "mul_"]))

    def _recurrent(self, x: Value) -> Value:
        """In a loop: a layer of the spikes of the step before."""
        u = self._layer(x)
        name = f"n{len(self.steps) + len(self.recipe.before) + 2}"
        kind = "own" if self.recipe.own else self.random.choice(["if", "soft", "lif", "ilif", "signs"])
        last = Value(f"last {name}", u.shape, u.form, SPIKES[kind], False, False)
        C = u.shape[-1]
        how = self.random.choice(["module", "F.linear"])
        module = ("Linear", {"in_features": C, "out_features": C}) if how == "module" else None
        layer = self._weights("back", (C, C), None, module)
        back = self._put("linear", [last], u.shape, depth=1, layer=layer, how=how, args={"zeros": u.shape})
        total = self._put("add", [u, back], u.shape, depth=1)
        self.recipe.nodes[node := f"lif{len(self.recipe.nodes)}"] = kind
        out = self._put("neuron", [total], u.shape, kind=SPIKES[kind], still=False, layer=node, straight=True)
        assert out.name == name, (out.name, name)
        return out

    def _attention(self, x: Value) -> Value:
        r = self.random
        x = self._tokens(x)
        how = r.choice(["ssa", "linear", "sum", "token"])
        spikes = "binary" if how in ("sum", "token") else r.choice(["binary", "binary", "integer", "ternary"])
        kind = {"binary": "binary", "integer": "ilif", "ternary": "signs"}[spikes]
        C = self._channels()
        q, k, v = (self._neuron(self._linear(x, out=C), kind) for _ in range(3))
        if how == "sum":
            total = self._sum(self._mask(k, v), -2)
            return self._mask(q, self._neuron(total, "binary"))
        if how == "token":
            return self._mask(k, self._neuron(self._sum(q, -1), "binary"))
        heads, N = self._heads(C), x.shape[0]
        if how == "ssa":
            a = self._neuron(self._product("qk", q, k, (heads, N, N)), kind)
            out = self._product("av", a, v, (N, C), heads)
        else:
            a = self._neuron(self._product("kv", k, v, (heads, C // heads, C // heads)), kind)
            out = self._product("qm", q, a, (N, C), heads)
        return self._neuron(Value(**(vars(out) | {"form": "tokens"})), kind)

    def _product(self, what: str, a: Value, b: Value, shape: tuple[int, ...], heads: int = 0) -> Value:
        hows = ["@", "einsum", "bmm", "bmm, heads first", "heads first"] + ["heads second"] * a.timed
        args = {"what": what, "heads": heads or shape[0]}
        summed = {"qk": a.shape[-1] // shape[0], "kv": a.shape[0], "av": a.shape[-1], "qm": b.shape[-2]}[what]
        how = self._no_sum(self.random.choice(hows), summed)
        form = "heads" if not heads else "tokens"
        out = self._put("product", [a, b], shape, form=form, how=how, args=args)
        return self._put("scale", [out], shape, form=out.form, args={"by": self.random.choice([0.5, 1.5])})

    def _sum(self, x: Value, dim: int) -> Value:
        shape = list(x.shape)
        shape[dim] = 1
        return self._put("sum", [x], shape, args={"dim": dim})

    # ---------------------------------------------------------------------------------------------------------- head
    def _head(self, x: Value) -> Value:
        """Logits of every step, of all but the first, or, behind a loop, of the spikes of all steps together."""
        r = self.random
        if self.mode == "s" and r.random() < 0.5:
            self.recipe.stacked, self.steps = x.name, self.recipe.after
            x = Value(**(vars(x) | {"timed": True}))
        if x.timed and r.random() < 0.2:
            x = self._put("later", [x], x.shape, kind=x.kind, layouts=("TB", "BT"))
        if len(x.shape) > 1:
            args = {"axes": len(x.shape)}
            x = self._put("view", [x], (prod(x.shape),), form="vector", kind=x.kind, how="vector", args=args)
        return self._linear(x, out=3, prefix="head")


if __name__ == "__main__":
    chosen = make(int(sys.argv[1]))
    print(chosen)
    for one in torch.cat(chosen.images()):
        spent = interpret(chosen, one)
        print(spent.totals, "first neuron:", spent.first, dict(spent.sops), dict(spent.macs))

"""What a ledger lists: counted tensors, synapses, products, and what could not be counted.

Elements, dense operations and fan-outs are per image and time step.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

from spikeattn.boundary.marks import Limits, OneOf, Printable

MAKERS = ("input", "neuron", "pool", "mask", "op")
KINDS = ("binary", "ternary", "integer", "real")
PRODUCT_OPS = ("token_sum", "average", "mask", "matmul")
ADDITION_OPS = ("add", "sum", "average")

Text = Annotated[str, Printable()]  # names and labels stand in tables and figures
Number = Annotated[int, Limits(0)]  # how many, or the number of a block
Size = Annotated[int, Limits(1)]


def kind_of(no_integer: bool, negative: bool, above_one: bool) -> str:
    """The kind of a tensor from its three value flags, gathered over a whole run."""
    if no_integer:
        return "real"
    if above_one:
        return "integer"
    return "ternary" if negative else "binary"


_EARLIER = {"SDSA": "attention"}  # parts by the names that earlier versions wrote


def current_part(part: str | None) -> str | None:
    """The name of a part today, of one that an earlier version may have written."""
    return _EARLIER.get(part, part) if part is not None else None


@dataclass(frozen=True)
class CountedTensor:
    """A tensor that is counted, named by the dotted path of the module that made it ("input" for the model's input).

    Attributes:
        shape: axes of one image at one time step, e.g. (C, H, W); `elements` is their product.
        maker: "input", "neuron", "pool", "mask" or "op".
        kind: "binary", "ternary", "integer" (spikes, counted by value) or "real".
        static: the same values at every time step (a still image).
        sources: the counted tensors it was pooled or masked from, e.g. the LIF before a max-pool; a convention that
            pairs a layer with the rate before the pool, and a published table without pooled rates, need it.
        neuron: SpikingJelly's class of the neurons that made it (or the user's own), None for other makers.
        unit: the values are whole multiples of this number, which folds into the weights behind (1/4 for levels k/4);
            counts, rates and `kind` are of value / unit.
        role, part, block, hook: the paper's names where the model has them; None elsewhere.
        number: real by construction, whatever values it happens to have: what multiplies it are multiply-accumulates.
        summed: whole numbers into which sums of spikes have entered (k^T v): no train of spikes. None in runs
            of versions that did not know.
        low, high: the smallest and the largest value in units of `unit` that the neuron can give (0 and 1 of a binary
            one, `levels` of the user), or that the run has seen; None where nobody looked.
        known: how role, part and block are known: "family", "names file", "dataflow", "order", "names" or "unknown";
            None in runs of versions that inferred none.
        joined: its values depend on several time steps, or stand for one alone: it is counted per image, not per step.
    """

    name: Text
    shape: tuple[Size, ...]
    elements: Size
    maker: Annotated[str, OneOf(MAKERS)] = "neuron"
    kind: Annotated[str, OneOf(KINDS)] = "binary"
    static: bool = False
    sources: tuple[str, ...] = ()
    role: Text | None = None
    part: Text | None = None
    block: Number | None = None
    hook: Text | None = None
    neuron: Text | None = None
    unit: Annotated[float, Limits(0, above=True)] = 1.0
    number: bool = False
    joined: bool = False
    summed: bool | None = None
    low: float | None = None
    high: float | None = None
    known: Text | None = None

    @property
    def spikes(self) -> bool:
        """Whether a synapse that receives this tensor adds weights instead of multiplying."""
        return self.kind != "real"


@dataclass(frozen=True)
class Synapse:
    """A layer with weights: `input` is the tensor it receives.

    Attributes:
        dense_macs: multiply-accumulates as usually quoted, k^2*h*w*c_in*c_out for a convolution: padding included, so
            the operations of a fully spiking input are a little fewer.
        fan_out: weights each input element meets, or None where it depends on the position (padding, stride).
        every_step: False where the layer runs once per image: the model repeats its output over time, or it joins the
            time steps.
        runs: at how many time steps it runs, where these are not all; dense_macs are those of one.
        known: how role, part and block are known, as of a tensor.
        weights, biases: how many parameters; 0 weights in ledgers of versions that did not record them.
        out_channels, groups, kernel, stride: of a convolution; a linear layer has its output features as channels, and
            no kernel. A transposed convolution has stride 1 here: each of its inputs meets the whole kernel.
    """

    name: Text
    op: Text
    input: Text
    dense_macs: Number
    fan_out: Number | None = None
    output_elements: Number = 0
    every_step: bool = True
    role: Text | None = None
    part: Text | None = None
    block: Number | None = None
    weights: Number = 0
    biases: Number = 0
    out_channels: Number = 0
    groups: Size = 1
    kernel: tuple[Size, ...] = ()
    stride: tuple[Size, ...] = ()
    runs: Number | None = None
    known: Text | None = None

    @property
    def kernel_fan_out(self) -> int:
        """Weights that an input element meets where the whole kernel passes over it: C_out / groups x kernel size."""
        return self.out_channels // self.groups * prod(self.kernel)


@dataclass(frozen=True)
class Product:
    """An operation without weights on counted tensors: "token_sum" (a sum over tokens), "average" (a mean that leaves
    one number), "mask" (AND) or "matmul".

    Attributes:
        elements: dense operations; an element of operand x takes part in `elements / x.elements` of them.
        every_step: False where it runs once per image, as behind a mean over time.
        runs: at how many time steps it runs, where these are not all.
        summed_over: of a sum, how many elements make one; None in runs of versions that did not record it.
        known: how part and block are known, as of a tensor.
    """

    name: Text
    op: Annotated[str, OneOf(PRODUCT_OPS)]
    operands: tuple[str, ...]
    elements: Number
    role: Text | None = None
    part: Text | None = None
    block: Number | None = None
    every_step: bool = True
    runs: Number | None = None
    summed_over: Size | None = None
    known: Text | None = None


@dataclass(frozen=True)
class Addition:
    """Additions without weights: of two tensors that both depend on the input ("add", a residual sum), of the elements
    of one ("sum") and those of a mean or an average pool ("average").

    Attributes:
        elements: additions of one run: of two tensors one for each element of the sum; of n numbers n - 1.
        operand: the counted tensor whose spikes are averaged, each of which is added wherever a window holds it,
            `elements / operand.elements` times; None where `elements` take place whatever spikes.
        layer: the synapse or product that they belong to: of a residual sum the last one of the branch that is added to
            the shortcut, of a sum or an average the one that reads it, else the last one before; None without any.
        part, block: of that layer; a ledger sets them.
        every_step: False where it runs once per image: on a still image before it is repeated, or over time.
        runs: at how many time steps it runs, where these are not all.
    """

    name: Text
    op: Annotated[str, OneOf(ADDITION_OPS)]
    elements: Number
    operand: Text | None = None
    layer: Text | None = None
    part: Text | None = None
    block: Number | None = None
    every_step: bool = True
    runs: Number | None = None


@dataclass(frozen=True)
class Uncounted:
    """An operation that the count table leaves out, and why; part, block and `known` are those of a synapse."""

    name: Text
    op: Text
    reason: Text
    part: Text | None = None
    block: Number | None = None
    known: Text | None = None


Row = CountedTensor | Synapse | Product  # what has a part, a block and a role


def __getattr__(name: str) -> Any:
    if name != "Tensor":  # as the class was called, beside torch's own
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.Tensor is called CountedTensor now", DeprecationWarning, stacklevel=2)
    return CountedTensor

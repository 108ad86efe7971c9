"""A learned gate threshold per channel for the Spike-driven Transformer, here called "spiking SVDA".

The votes of channel c are multiplied by a learned sigma_c > 0 before the gate's neuron: g = LIF(sigma_c * sum_n k v).
A LIF with hard reset to 0 is linear between spikes: scaling its input by sigma is scaling its threshold by 1 / sigma.
That is all it is, and a trained model folds into thresholds theta / sigma_c, with attention of additions only again.
While training it is one multiply-accumulate per channel and time step, T * D per block.

It is NOT SVDA (svda.py) on spikes: neither q nor k is normalised, there is no softmax, and sigma ranks no directions of
a score q . k, which a spike-driven block does not form. The name is kept from the first version, for the one thing the
two share, a learned factor per channel. Whether it helps is measured in reports/svda/spiking_svda.md.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeattn.compat.spiking import neuron
from spikeattn.errors import SpikeattnError
from spikeattn.models.paper_names import PaperName
from spikeattn.models.spike_driven import SpikeDrivenSelfAttention, SpikeDrivenTransformer


class ChannelThresholdLIF(neuron.BaseNode):
    """A LIF neuron with one threshold per channel and hard reset to 0; SpikingJelly's have one for all.

    Charge v + (x - v) / tau, a spike where v >= threshold. Input [B, D, ...], or [T, B, D, ...] in step mode "m".

    Args:
        thresholds: [D], positive.
        tau: membrane time constant.
        surrogate_function: of the backward pass; None for SpikingJelly's default. Step mode as in SpikingJelly.
    """

    def __init__(
        self,
        thresholds: Tensor,
        tau: float = 2.0,
        surrogate_function: nn.Module | None = None,
        step_mode: str = "m",
    ) -> None:
        given = {} if surrogate_function is None else {"surrogate_function": surrogate_function}
        super().__init__(v_threshold=1.0, v_reset=0.0, detach_reset=True, step_mode=step_mode, **given)
        if thresholds.dim() != 1 or not bool((thresholds > 0).all()):
            raise SpikeattnError(f"thresholds of shape {tuple(thresholds.shape)}: give one positive number per channel")
        self.tau = tau
        self.register_buffer("thresholds", thresholds.detach().clone())

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        x, v = inputs[0], cast(Tensor, states[0])
        v = v + (x - v) / self.tau
        spikes = self.surrogate_function(v - self.thresholds.view(-1, *[1] * (x.dim() - 2)))
        return (spikes,), (v * (1 - spikes.detach()), *states[1:])

    def extra_repr(self) -> str:
        return f"{len(self.thresholds)} thresholds, tau={self.tau}, step_mode={self.step_mode}"


class TokenSum(nn.Module):
    """Sum over the tokens, [T, B, D, H, W] -> [T, B, D, 1, 1]: a module, so that the votes have a name."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(3, 4), keepdim=True)


class ChannelScale(nn.Module):
    """sigma_c times every channel, sigma = softplus(raw) > 0: [T, B, D, H, W] -> same.

    It is a 1x1 convolution with one group per channel, and so stands among the layers with its D * H * W multiply-
    accumulates per image and time step.
    """

    def __init__(self, chans: int, sigma: float) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise SpikeattnError(f"sigma={sigma}: give a positive number, the factor every channel starts with")
        self.raw = nn.Parameter(torch.full((chans,), sigma + math.log(-math.expm1(-sigma))))  # inverse of softplus

    def sigma(self) -> Tensor:
        """[D], positive."""
        return F.softplus(self.raw)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.sigma().view(-1, 1, 1, 1)
        return F.conv2d(x.flatten(0, 1), weight, groups=len(weight)).view_as(x)


class SpikeDrivenSvda(SpikeDrivenSelfAttention):
    """Spike-driven self-attention whose votes are multiplied by sigma before the gate; not SVDA (see the head)."""

    def __init__(self, dim: int, num_heads: int, dvs: bool, spike_mode: str, sigma: float) -> None:
        super().__init__(dim, num_heads, dvs, spike_mode)
        self.votes = TokenSum()
        self.scale = ChannelScale(dim, sigma)

    def drive(self, kv: Tensor) -> Tensor:
        """The weighed votes, real, [T, B, D, 1, 1]."""
        return self.scale(self.votes(kv))


class SpikeDrivenSvdaTransformer(SpikeDrivenTransformer):
    """The Spike-driven Transformer with a learned gate threshold per channel in every block.

    Args:
        sigma: what every sigma_c starts with; with 1 the model is the Spike-driven Transformer.
        **arguments: of `SpikeDrivenTransformer`.
    """

    def __init__(self, *, sigma: float = 1.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        c = self.config
        blocks: Any = self.block
        for block in blocks:
            attn = SpikeDrivenSvda(c["embed_dim"], c["num_heads"], c["dvs"], c["spike_mode"], sigma)
            attn.load_state_dict(block.attn.state_dict(), strict=False)
            block.attn = attn

    def paper_names(self) -> dict[str, PaperName]:
        """As of `SpikeDrivenTransformer`, and the votes and their scale, which are not in the paper."""
        names = super().paper_names()
        for i in range(len(self.block)):
            names[f"block.{i}.attn.votes"] = PaperName("attention", i, "votes")
            names[f"block.{i}.attn.scale"] = PaperName("attention", i, "sigma")
        return names


def convert(model: SpikeDrivenTransformer, sigma: float = 1.0) -> SpikeDrivenSvdaTransformer:
    """A copy of a Spike-driven Transformer with a sigma per channel before every gate: D parameters more per block.

    Raises:
        SpikeattnError: another model, or a sigma that is not positive.
    """
    if type(model) is not SpikeDrivenTransformer:
        raise SpikeattnError(
            f"spiking_svda.convert takes a SpikeDrivenTransformer, this is a {type(model).__name__}; timm's ViTs are "
            "converted by svda.convert"
        )
    converted = SpikeDrivenSvdaTransformer(sigma=sigma, **model.config).to(model.head.weight)
    _load(converted, model.state_dict(), missing={f"block.{i}.attn.scale.raw" for i in range(len(model.block))})
    return converted.train(model.training)


def fold(model: SpikeDrivenSvdaTransformer) -> SpikeDrivenTransformer:
    """The same network with sigma folded into the gates' thresholds, theta / sigma_c, for inference.

    Spikes are the same up to rounding: a membrane potential within one rounding of its threshold may fall on either
    side. The surrogate gradient is another (its slope is not scaled by sigma), so train before folding.

    Raises:
        SpikeattnError: a model without such sigmas.
    """
    if not isinstance(model, SpikeDrivenSvdaTransformer):
        raise SpikeattnError(f"fold takes a SpikeDrivenSvdaTransformer, this is a {type(model).__name__}")
    folded = SpikeDrivenTransformer(**model.config).to(model.head.weight)
    state = {key: value for key, value in model.state_dict().items() if not key.endswith(".scale.raw")}
    _load(folded, state, missing=set())
    pairs: Any = zip(model.block, folded.block, strict=True)
    for block, ours in pairs:
        gate, sigma = block.attn.talking_heads_lif, block.attn.scale.sigma().detach()
        tau = gate.tau if isinstance(gate, neuron.LIFNode) else 1 / float(gate.w.detach().sigmoid())
        surrogate = copy.deepcopy(gate.surrogate_function)
        ours.attn.talking_heads_lif = ChannelThresholdLIF(gate.v_threshold / sigma, tau, surrogate)
    return folded.train(model.training)


def _load(model: nn.Module, state: dict[str, Tensor], missing: set[str]) -> None:
    found = model.load_state_dict(state, strict=False)
    if set(found.missing_keys) != missing or found.unexpected_keys:
        raise SpikeattnError(
            f"the weights do not fit {type(model).__name__}: missing {sorted(set(found.missing_keys) - missing)}, "
            f"unexpected {found.unexpected_keys}"
        )

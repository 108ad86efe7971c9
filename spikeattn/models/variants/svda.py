"""SVDA: softmax attention whose scores are a learned spectrum over normalised queries and keys, for timm's ViTs.

Arampatzakis, Pavlidis, Mitianoudis, Papamarkos: SVDA. IEEE Access 2025, https://doi.org/10.1109/access.2025.3586739;
on vision transformers https://arxiv.org/abs/2602.10994; pruning by energy https://arxiv.org/abs/2609.24370
Written from the formula of the abstracts: A = softmax(Qn diag(sigma) Kn^T / sqrt(d)), Qn and Kn with rows of length 1.

Every head has a spectrum of its own, d numbers. No abstract says so in these words; that of the pruning paper has
spectral coefficients "compared across heads" (https://openreview.net/forum?id=LZBWqyWNxS), which takes one per head,
and the formula, read per head, has d_k of them. The whole papers were not read. `per_head=False` shares one spectrum
among the heads of a layer.

|score| <= max|sigma| / sqrt(d), so with sigma = 1 attention is close to uniform whatever the weights. Hence sigma
starts at sqrt(d) * tau (our choice): the scores are then tau times the cosine of query and key.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spikeattn.compat.timm_names import Attention
from spikeattn.errors import SpikeattnError
from spikeattn.models.vision import describe_vit

TAU = 10.0  # scores start as 10 times the cosine of q and k; see the head of this file
Model = TypeVar("Model", bound=nn.Module)


class SvdaAttention(nn.Module):
    """SVDA with the signature and the parameter names of timm's `Attention`, and `sigma` beside: [B, N, D] -> same.

    Args:
        dim: channels D of a token.
        num_heads: heads.
        head_dim: d, channels of a head; D / heads unless given.
        qkv_bias, proj_bias, attn_drop, proj_drop: as in timm.
        tau: the initial sigma is sqrt(d) * tau.
        per_head: a spectrum for every head; False for one of length d that the heads of a layer share.

    Attributes:
        sigma: [heads * d], or [d] where shared; one axis, so that timm's optimisers leave it out of the weight decay.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        proj_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        tau: float = TAU,
        per_head: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise SpikeattnError(f"num_heads={num_heads}: give a divisor of the {dim} channels of a token")
        if not 0 < tau < float("inf"):
            raise SpikeattnError(f"tau={tau}: give a positive number; the scores start as tau x the cosine of q and k")
        d = head_dim or dim // num_heads
        self.num_heads, self.head_dim, self.scale, self.per_head = num_heads, d, d**-0.5, per_head
        self.attn_dim = num_heads * d
        self.qkv = nn.Linear(dim, 3 * self.attn_dim, bias=qkv_bias)
        self.sigma = nn.Parameter(torch.full((self.attn_dim if per_head else d,), d**0.5 * tau))
        self.attn_drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(proj_drop)
        self.proj = nn.Linear(self.attn_dim, dim, bias=proj_bias)
        self.directions = [d] * num_heads  # of each head; fewer after pruning
        self.place: Tensor | None
        self.register_buffer("place", None)  # where the rows of a pruned layer stand among heads x most directions

    def spectrum(self) -> Tensor:
        """sigma of every head, [heads, directions]; zeros where a pruned head has fewer directions than another."""
        sigma = self.sigma if self.per_head else self.sigma.repeat(self.num_heads)
        return self._in_heads(sigma[None, None])[0, :, 0]

    def queries_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised queries and keys [B, heads, N, directions] of tokens [B, N, D]."""
        return self._project(x)[:2]

    def attention(self, x: Tensor) -> Tensor:
        """The map A [B, heads, N, N] of tokens [B, N, D]; its rows add up to 1."""
        q, k = self.queries_keys(x)
        return (q * self.spectrum()[:, None] @ k.mT * self.scale).softmax(-1)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        q, k, v = self._project(x)
        x = F.scaled_dot_product_attention(
            q * self.spectrum()[:, None],
            k,
            v,
            attn_mask=attn_mask,
            dropout_p=self.attn_drop.p if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = sum(self.directions)
        q, k, v = self.qkv(x).split([rows, rows, self.attn_dim], dim=-1)  # [B, N, rows of each]
        q, k = F.normalize(self._in_heads(q), dim=-1), F.normalize(self._in_heads(k), dim=-1)
        return q, k, v.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _in_heads(self, x: Tensor) -> Tensor:
        """[B, N, rows] -> [B, heads, N, most directions of a head]; heads with fewer are filled with zeros."""
        if self.place is not None:
            full = x.new_zeros(*x.shape[:-1], self.num_heads * max(self.directions))
            x = full.index_copy(-1, self.place, x)
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def layers(model: nn.Module) -> dict[str, SvdaAttention]:
    """The SVDA layers of a model by dotted module path, in order.

    Raises:
        SpikeattnError: it has none.
    """
    found = {path: module for path, module in model.named_modules() if isinstance(module, SvdaAttention)}
    if not found:
        raise SpikeattnError(f"{type(model).__name__} has no SVDA layer; make one with svda.convert(vit)")
    return found


def convert(vit: Model, tau: float = TAU, per_head: bool = True) -> Model:
    """A copy of a model with every timm `Attention` replaced by SVDA; q, k, v and the projection keep their weights.

    Every head gets a spectrum: depth x D parameters more, 0.040 % of a ViT-Ti (5.72 M) and 0.021 % of a ViT-S. Shared
    by the heads of a layer (`per_head=False`) it is depth x d, 0.014 % of a ViT-Ti. The authors speak of less than
    0.04 %, which does not tell the two apart: of the sizes named here only a ViT-Ti is at that border.

    Args:
        vit: any model with modules of timm's class `Attention`; it stays as it was.
        tau: initial temperature, see the head of this file.
        per_head: a spectrum for every head; False for one that the heads of a layer share.

    Raises:
        SpikeattnError: no such module, or one with q/k normalisation, a gate or a norm of its own, which SVDA replaces
            or does not have.
    """
    model = copy.deepcopy(vit)
    found = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, Attention) and type(module) is Attention
    }
    if not found:
        raise SpikeattnError(
            f"{type(vit).__name__} has no module of timm's class Attention; SVDA replaces that class, e.g. in "
            'timm.create_model("vit_tiny_patch16_224")'
        )
    for path, attention in found.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _from_timm(attention, path, tau, per_head))
    return model


def _from_timm(attention: Attention, path: str, tau: float, per_head: bool) -> SvdaAttention:
    for part in ("q_norm", "k_norm", "norm", "gate"):
        module = getattr(attention, part, None)
        if module is not None and not isinstance(module, nn.Identity):
            raise SpikeattnError(
                f"{path} has {part}={type(module).__name__}; SVDA normalises queries and keys itself and knows neither "
                "gates nor norms behind: convert a model without (qk_norm=False, scale_norm=False, gated=False)"
            )
    dim, d = attention.qkv.in_features, attention.head_dim
    if attention.proj.out_features != dim:
        raise SpikeattnError(f"{path} maps {dim} channels to {attention.proj.out_features}; SVDA keeps their number")
    layer = SvdaAttention(dim, attention.num_heads, d, tau=tau, per_head=per_head)
    layer.qkv, layer.proj = attention.qkv, attention.proj
    layer.attn_drop, layer.proj_drop = attention.attn_drop, attention.proj_drop
    layer.sigma = nn.Parameter(layer.sigma.detach().to(attention.qkv.weight))
    return layer.train(attention.training)


def vit_tiny(**kwargs: Any) -> VisionTransformer:
    """The plain ViT beside `svda_vit_tiny`: 32x32 pixels in patches of 4, D=192, depth 12, 3 heads."""
    tiny: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 4,
        "embed_dim": 192,
        "depth": 12,
        "num_heads": 3,
        "num_classes": 10,
    }
    return VisionTransformer(**(tiny | kwargs))


@register_model
def svda_vit_tiny(
    pretrained: bool = False, tau: float = TAU, per_head: bool = True, **kwargs: Any
) -> VisionTransformer:
    """ViT-Ti with SVDA for 32x32 pixels (CIFAR-10); every argument of timm's `VisionTransformer` can be given."""
    if pretrained:
        raise SpikeattnError("svda_vit_tiny comes without weights: create it with pretrained=False and train it")
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm hands them to every entry point
        kwargs.pop(key, None)
    model = convert(vit_tiny(**kwargs), tau, per_head)
    describe_vit(model, "cifar10", "svda_vit_tiny")
    return model

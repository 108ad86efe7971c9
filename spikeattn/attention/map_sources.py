"""Where the attention of a model is: the modules to hook for every kind of map, and the grid of its tokens.

Families: the Spike-driven Transformer (no N x N map: spike counts per token), SpikingJelly's Spikformer (SSA: Q K^T of
spikes), and softmax attention: timm's ViTs, plain or with SVDA layers, and the Spike-driven Transformer's ANN twin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spikeattn.compat.spiking import is_spikformer
from spikeattn.compat.timm_names import Attention, PatchEmbed
from spikeattn.errors import SpikeattnError
from spikeattn.models.ann import AnnTransformer
from spikeattn.models.spike_driven import SpikeDrivenTransformer

SPIKE_DRIVEN = ("Vhat_S", "V_S", "gate", "drive")
SPIKFORMER = ("ssa", "rate")
SOFTMAX = ("cls", "received", "rollout")
OTHERWISE = "give a function (model, images) -> [B, h, w] as statistic=... to attend"


@dataclass(frozen=True)
class Family:
    """What maps a model has.

    Attributes:
        kinds: names of its maps, the default first.
        attentions: the attention module of every block.
        heads: of each.
        time: whether maps have time steps.
        prefix: tokens before those of the image: class, distillation and register tokens.
    """

    kinds: tuple[str, ...]
    attentions: tuple[nn.Module, ...]
    heads: int
    time: bool
    prefix: int = 0


@dataclass(frozen=True)
class Tap:
    """One tensor of a forward pass: a module's output, or what `read` makes of its inputs or of its `output`."""

    module: nn.Module
    read: Callable[..., Tensor] | None = None
    output: bool = False


def known_family(model: nn.Module) -> Family | None:
    """The family of a model; None where its attention has to be read off a pass."""
    if isinstance(model, SpikeDrivenTransformer):
        return Family(SPIKE_DRIVEN, _attentions(model.block), _heads(model.config), True)
    if is_spikformer(model):
        spikformer: Any = model
        return Family(SPIKFORMER, _attentions(spikformer.blocks), spikformer.num_heads, True)
    if isinstance(model, AnnTransformer):
        return Family(("received", "rollout"), _attentions(model.block), _heads(model.config), False)
    family = softmax_family(model)
    if family is None or type(model) is not VisionTransformer or type(model.patch_embed) is not PatchEmbed:
        return None
    return family if all(_is_plain(attention) for attention in family.attentions) else None


def softmax_family(model: nn.Module) -> Family | None:
    """A family of what is built as timm's vision transformers are; None for all else."""
    blocks = getattr(model, "blocks", ())
    attentions: tuple[Any, ...] = (
        tuple(getattr(b, "attn", None) for b in blocks) if isinstance(blocks, Iterable) else ()
    )
    if not attentions or not all(_is_softmax(a) for a in attentions) or not hasattr(model, "patch_embed"):
        return None
    kinds = SOFTMAX if class_token_of(model) else SOFTMAX[1:]
    return Family(kinds, attentions, attentions[0].num_heads, False, prefix_of(model))


def _attentions(blocks: Iterable[Any]) -> tuple[nn.Module, ...]:
    return tuple(block.attn for block in blocks)


def _heads(config: Mapping[str, Any]) -> int:
    return int(config["num_heads"])


def _is_plain(attention: nn.Module) -> bool:
    """Whether a map can be computed from what its layers are given: nothing in it is other than timm makes it."""
    if hasattr(attention, "spectrum"):
        return True
    if type(attention) is not Attention or type(attention.qkv) is not nn.Linear:
        return False
    parts = (attention, attention.qkv, attention.q_norm, attention.k_norm)
    hooked = any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in parts)
    return not hooked and attention.scale == attention.head_dim**-0.5


def class_token_of(model: nn.Module) -> bool:
    """Whether the first token is a class token."""
    return bool(getattr(model, "has_class_token", getattr(model, "cls_token", None) is not None))


def prefix_of(model: nn.Module) -> int:
    """Tokens before those of the image: class, distillation and register tokens."""
    own = getattr(model, "num_prefix_tokens", None)
    named = [getattr(model, name, None) is not None for name in ("cls_token", "dist_token")]
    return sum(named) + (getattr(model, "num_register_tokens", 0) or 0) if own is None else own


def taps_of(family: Family, kind: str, layer: int, last: bool = False) -> tuple[Tap, ...]:
    """The tensors that one map needs.

    Of a spiking model in the order in which `spike_counts` takes them; of a softmax attention what `softmax_part` gives
    for the kind. `last`: nothing behind this tap is wanted.
    """
    attention: Any = family.attentions[layer]
    if kind in SPIKE_DRIVEN:
        drive = attention.kv_mask if attention.kv_pool is None else attention.kv_pool
        found = {"V_S": (attention.q_lif,), "Vhat_S": (attention.sdsa_out,), "drive": (drive,)}
        return tuple(Tap(module) for module in found.get(kind, (attention.q_lif, attention.sdsa_out)))
    if kind in SPIKFORMER:
        return (Tap(attention.qkv_lif if kind == "ssa" else attention.attn_lif),)
    part = partial(softmax_part, kind, family.prefix)
    if hasattr(attention, "products"):
        return (Tap(attention.products, lambda q, k, v: part(_softmax(q, k, attention.products.num_heads))),)
    if hasattr(attention, "spectrum"):
        return (Tap(attention, lambda x, *rest: part(attention.attention(x))),)
    if type(attention) is not Attention:
        return (Tap(attention.attn_drop, part, output=True),)
    if kind == "cls" and last:
        return (Tap(attention, lambda x, *rest: _class_row(attention, x)),)
    rows = 1 if kind == "cls" else None
    return (Tap(attention.qkv, lambda qkv: part(_from_stacked(attention, qkv, rows)), output=True),)


def whole_maps(attention: Any) -> Tap:
    """The softmax map [B, heads, N, N] itself, in the graph of the forward pass; without fused kernels."""
    return Tap(attention.attn_drop)


def softmax_part(kind: str, prefix: int, maps: Tensor) -> Tensor:
    """Of maps [B, heads, queries, N] row 0 or the mean over the queries of the image, [B, heads, N].

    Of "rollout" the mean over heads, [B, N, N].
    """
    if maps.dim() != 4:
        raise SpikeattnError(f"the attention maps are {list(maps.shape)}, not [B, heads, N, N]; {OTHERWISE}")
    if kind == "cls":
        return maps[:, :, 0]
    return maps.float().mean(1) if kind == "rollout" else maps[:, :, prefix:].mean(2)


def _from_stacked(attention: Any, qkv: Tensor, rows: int | None) -> Tensor:
    """Softmax maps [B, heads, rows, N] from the output [B, N, 3 D] of timm's qkv layer; of the first `rows` queries."""
    q, k, _ = qkv.unflatten(-1, (3, attention.num_heads, -1)).unbind(2)  # [B, N, heads, d]
    return _weights(attention, q[:, :rows], k)


def _class_row(attention: Any, x: Tensor) -> Tensor:
    """The class token's row [B, heads, N] from the input [B, N, D] of timm's attention: one query, all keys."""
    weight, bias = attention.qkv.weight.chunk(3), attention.qkv.bias
    q_bias, k_bias, _ = (None, None, None) if bias is None else bias.chunk(3)
    q, k = F.linear(x[:, :1], weight[0], q_bias), F.linear(x, weight[1], k_bias)
    return _weights(attention, *(part.unflatten(-1, (attention.num_heads, -1)) for part in (q, k)))[:, :, 0]


def _weights(attention: Any, q: Tensor, k: Tensor) -> Tensor:
    """Softmax weights [B, heads, queries, N] in float32 of q and k [B, ..., heads, d]."""
    q, k = attention.q_norm(q.transpose(1, 2)), attention.k_norm(k.transpose(1, 2))
    return (q.float() * attention.scale @ k.float().mT).softmax(-1)


def spike_counts(kind: str, tensors: tuple[Tensor, ...], heads: int, grid: tuple[int, int]) -> tuple[Tensor, int]:
    """Spikes per token [B, T, heads, h, w] of one map and how many there could be; of "gate" the spikes let through.

    "ssa" counts, for key token i, the coincidences of k_i with q_j over all queries j and channels.
    """
    x = tensors[-1]
    if kind in SPIKE_DRIVEN:
        x = x.unflatten(2, (heads, -1))  # [T, B, heads, d, h, w]
    elif kind == "ssa":
        q, k, _ = x.unflatten(2, (3, heads, -1)).unbind(2)  # [T, B, heads, d, N]
        x = q.sum(-1, keepdim=True) * k
    counts = x.sum(3).transpose(0, 1)  # [B, T, heads, ...]
    counts = counts.reshape(*counts.shape[:3], *grid)
    return counts, x.shape[3] * (grid[0] * grid[1] if kind == "ssa" else 1)


def grid_of(model: nn.Module, images: Tensor, embedded: Tensor) -> tuple[int, int]:
    """Rows and columns of the tokens, from the output of the model's patch embedding."""
    if not isinstance(embedded, Tensor) or embedded.dim() not in (3, 4, 5):
        raise SpikeattnError(
            f"the patch embedding of {type(model).__name__} gives no tokens [B, N, D] or [B, h, w, D]; {OTHERWISE}"
        )
    if embedded.dim() == 5 or isinstance(model, AnnTransformer):
        return embedded.shape[-2], embedded.shape[-1]
    if embedded.dim() == 4:  # timm with a dynamic image size: [B, h, w, D]
        return embedded.shape[1], embedded.shape[2]
    embed: Any = model.patch_embed
    tokens = embedded.shape[1]
    sizes, side, image = [getattr(embed, "grid_size", None)], getattr(embed, "patch_size", None), images.shape[-2:]
    if hasattr(embed, "dynamic_feat_size"):
        sizes.insert(0, embed.dynamic_feat_size(tuple(image)))
    elif side is not None:
        side = (side, side) if isinstance(side, int) else side
        sizes.append((image[0] // side[0], image[1] // side[1]))
    for size in sizes:
        if size is not None and size[0] * size[1] == tokens:
            return int(size[0]), int(size[1])
    raise SpikeattnError(
        f"{tokens} tokens of images of {images.shape[-2]}x{images.shape[-1]} pixels do not fill the grid that the "
        f"patch embedding names ({', '.join('x'.join(map(str, s)) for s in sizes if s) or 'none'})"
    )


def _is_softmax(attention: nn.Module | None) -> bool:
    return hasattr(attention, "num_heads") and (hasattr(attention, "attn_drop") or hasattr(attention, "spectrum"))


def _softmax(q: Tensor, k: Tensor, heads: int) -> Tensor:
    q, k = (x.flatten(2).unflatten(1, (heads, -1)).mT for x in (q, k))  # [B, heads, N, d]
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)

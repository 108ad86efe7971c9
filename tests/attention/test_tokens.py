"""Token counts: the same spikes as ordinary hooks see, adding up to the rows of a profile, for every family."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import spikeattn as sa
from spikeattn.attention.token_taps import by_step, smallest, token_axes
from spikeattn.attention.tokens import merged, token_counts
from spikeattn.errors import SpikeattnError
from tests.attention.cases import FRAMES, images_of, outputs_of, sdt, spikformer


@pytest.mark.parametrize(
    "changed",
    [{}, {"spike_mode": "plif"}, FRAMES, {"mlp_ratio": 1.0}, {"embed_dim": 64}],
    ids=["lif", "plif", "dvs frames", "mlp_ratio 1", "as many channels as tokens"],
)
def test_tokens_are_what_hooks_see_and_add_up_to_the_profile(changed):
    model = sdt(**changed)
    images = images_of(model)
    found = token_counts(model, images, [7, 3, 9], heads="each")
    side = 4 if changed is FRAMES else 8
    assert found.grid == (side, side) and found.layers == ("block.0", "block.1") and found.images == (7, 3, 9)
    assert found.counts.dtype == np.uint16 and found.counts.shape == (3, len(found.tensors), 2, side**2)
    profile = sa.profile(model, [(images, torch.zeros(3))])
    assert found.ledger == profile.ledger.hash()
    gates = {f"block.{i}.attn.talking_heads_lif" for i in range(2)}
    inside = {t.name for t in profile.ledger.tensors if t.name.startswith("block.")}
    assert set(found.tensors) == inside - gates and set(found.off_grid) == gates
    seen = dict(zip(found.tensors, outputs_of(model, images, *found.tensors), strict=True))
    for name in found.tensors:
        by_hand = seen[name].sum(2).flatten(2).transpose(0, 1).numpy()  # [B, T, N]
        np.testing.assert_array_equal(found.of(name), by_hand, err_msg=name)
        rows = profile.counts.column("nnz", name)
        np.testing.assert_array_equal(found.of(name).sum(2, dtype=np.int64), rows, err_msg=name)
    assert found.counts.sum() > 0
    for name, counts in found.by_head.items():
        by_hand = seen[name].unflatten(2, (4, -1)).sum(3).flatten(3).permute(1, 0, 2, 3).numpy()
        np.testing.assert_array_equal(counts, by_hand, err_msg=name)
    votes = "kv_pool" if changed is FRAMES else "kv_mask"
    assert {name.rsplit(".", 1)[1] for name in found.by_head} >= {"q_lif", votes, "sdsa_out"}
    assert not any("shortcut" in name or "mlp" in name for name in found.by_head)
    assert token_counts(model, images).by_head == {}


def test_spikformer_pairs_and_integer_spikes():
    model, images = spikformer()
    found = token_counts(model, images, heads="each")
    profile = sa.profile(model, [(images, torch.zeros(3))])
    assert found.grid == (8, 4) and found.ledger == profile.ledger.hash()
    for name in found.tensors:
        for by in ("nnz", "abs"):
            sums = found.of(name, by).sum(2, dtype=np.int64)
            np.testing.assert_array_equal(sums, profile.counts.column(by, name), err_msg=name)
    assert found.values and set(found.values) < set(found.tensors)
    qkv = outputs_of(model, images, "blocks.0.attn.qkv_lif")[0]  # [T, B, 3 C, N]
    q, k, v = qkv.unflatten(2, (3, 4, -1)).unbind(2)  # [T, B, heads, d, N]
    first = torch.einsum("tbhdn,tbhen->tbhn", k, v).permute(1, 0, 2, 3).numpy()
    np.testing.assert_array_equal(found.pairs["blocks.0.attn.bmm_0"], first)
    assert "blocks.0.attn.bmm_1" not in found.pairs  # each spike of q adds a row of k^T v: it is counted at q
    rows = profile.operations(per_image=True).query("synapse == 'blocks.0.attn.bmm_1'").sops
    assert rows.tolist() == [int(n) for n in q.sum((0, 2, 3, 4)) * q.shape[3]]
    assert first.sum() > 0 and "blocks.0.attn.bmm_0" in found.off_grid  # k^T v itself has no tokens


def test_axes_of_tokens():
    assert token_axes((16, 4, 8), (4, 8), False) == (1, 2)
    assert token_axes((64, 1, 1), (8, 8), False) is None  # the gate: 64 channels, no tokens
    assert token_axes((64, 64), (8, 8), True) == (1,)
    assert token_axes((96, 32), (8, 4), True) == (1,)
    assert token_axes((4, 32, 8), (8, 4), True) == (1,) and token_axes((4, 8, 32), (8, 4), True) == (2,)
    assert token_axes((4, 32, 32), (8, 4), True) is None  # tokens or channels
    assert token_axes((32, 5), (8, 4), True) == (0,) and token_axes((32,), (8, 4), True) is None


def test_large_counts_get_a_wider_type():
    assert smallest(np.array([0, 65535])).dtype == np.uint16
    wide = smallest(np.array([3, 65536]))
    assert wide.dtype == np.uint32 and wide.max() == 65536
    assert smallest(np.array([2**32])).dtype == np.uint64


def test_counts_of_several_batches_are_merged():
    model, images = spikformer()
    whole = token_counts(model, images, [4, 5, 6])
    parts = [token_counts(model, images[:2], [4, 5]), token_counts(model, images[1:], [5, 6])]
    both = merged(parts)
    assert both.images == (4, 5, 6) and both.counts.shape == whole.counts.shape
    np.testing.assert_array_equal(both.counts[:2], parts[0].counts)
    np.testing.assert_array_equal(both.counts[2], parts[1].counts[1])
    with pytest.raises(SpikeattnError, match="by head"):
        merged([parts[0], token_counts(model, images[2:], [6], heads="each")])
    other = sdt()
    with pytest.raises(SpikeattnError, match="different networks"):
        merged([parts[0], token_counts(other, images_of(other))])
    with pytest.raises(SpikeattnError, match="at least one"):
        merged([])


def test_the_model_is_left_as_it_was():
    model = sdt().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    token_counts(model, images_of(model))
    assert model.training and all(m.training for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_bad_input():
    model = sdt()
    images = images_of(model)
    with pytest.raises(SpikeattnError, match="2 different numbers for 3 images"):
        token_counts(model, images, [1, 1, 2])
    with pytest.raises(SpikeattnError, match="1 image or more"):
        token_counts(model, images[:0])
    with pytest.raises(SpikeattnError, match="did you mean"):
        token_counts(model, images, heads="eahc")
    with pytest.raises(SpikeattnError, match="unknown tensor with tokens"):
        token_counts(model, images).of("block.0.attn.talking_heads_lif")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    with pytest.raises(SpikeattnError, match="no spiking neurons"):
        token_counts(vit, torch.rand(1, 3, 32, 32))


def test_attend_keeps_tokens_on_request():
    model = sdt()
    images = images_of(model)
    found = sa.attend(model, images, "pixel", 5, indices=[2, 4, 6], tokens=True)
    assert found.tokens.images == (2, 4, 6)
    np.testing.assert_array_equal(found.tokens.counts, token_counts(model, images).counts)
    drive = found.tokens.of("block.1.attn.sdsa_out").sum(1).reshape(3, 8, 8) / (2 * 16)
    np.testing.assert_allclose(found.maps, drive, atol=1e-7)  # the map is the rate of the same spikes
    assert sa.attend(model, images, "pixel", 2).tokens is None
    assert sa.attend(model, images, "pixel", 2, heads="each", tokens=True).tokens.by_head


class Mixing(nn.Module):
    """Attention whose projection hands [T * B, ...] to a multi-step neuron, as QKFormer's does."""

    def __init__(self, T: int = 2, D: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.T, self.heads = T, heads
        self.stem = nn.Conv2d(3, D, 4, 4)
        self.q, self.k, self.v, self.proj = (nn.Conv1d(D, D, 1) for _ in range(4))
        for name in ("at", "qn", "kn", "vn", "out", "last"):
            self.add_module(name, neuron.LIFNode(step_mode="m", v_threshold=0.05))
        self.head = nn.Linear(D, 4)

    def forward(self, images):
        x = self.at(self.stem(images).repeat(self.T, 1, 1, 1, 1).flatten(3))  # [T, B, D, N]
        T, B, D, N = x.shape

        def part(layer, spikes):
            return spikes(layer(x.flatten(0, 1)).reshape(T, B, D, N)).reshape(T, B, self.heads, -1, N).mT

        q, k, v = part(self.q, self.qn), part(self.k, self.kn), part(self.v, self.vn)
        mixed = self.out((q @ k.mT @ v).mT.reshape(T, B, D, N) * 0.2).flatten(0, 1)
        return self.head(self.last(self.proj(mixed)).reshape(T, B, D, N).mean((0, 3)))


def test_tokens_of_a_network_that_mixes_images_add_up_to_its_profile(tmp_path):
    torch.manual_seed(0)
    model = Mixing().eval()
    images = list(torch.rand(2, 1, 3, 16, 16))
    profile = sa.profile(model, images, tmp_path / "run")
    assert profile.ledger.products
    found = merged([token_counts(model, image, [i]) for i, image in enumerate(images)])
    for name in found.tensors:
        np.testing.assert_array_equal(found.of(name).sum(2), profile.counts.column("nnz", name))
    assert set(found.pairs) == {"bmm_0"} and found.pairs["bmm_0"].any()
    pairs = found.pairs["bmm_0"].sum((2, 3))
    np.testing.assert_array_equal(pairs, profile.counts.column("pairs", "bmm_0"))
    assert {"at", "qn", "kn", "vn"} <= set(found.tensors)


def test_positions_of_a_step_are_summed():
    x = torch.arange(6.0).reshape(6, 1)
    assert by_step(x, (0, 1, 0, 1, 0, 1)).flatten().tolist() == [6, 9]
    assert by_step(x, (2, 2, 1, 1, 0, 0)).flatten().tolist() == [9, 5, 1]
    assert by_step(x[:1], ()) is not None and by_step(x[:1], ()).tolist() == [[0.0]]

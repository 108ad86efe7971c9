"""A tiny network with known spikes, its ledger, and a brute-force count table; and the geometry of SDT-8-512."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse
from tests.energy.comparing import live

N, T, TOKENS, D = 12, 3, 9, 3


class BruteCounts:
    """The interface of recording.counts.Counts, computed from whole spike tensors [N, T, ...] by plain loops."""

    def __init__(self, ledger: Ledger, spikes: dict[str, np.ndarray], time_steps: int = T) -> None:
        self._ledger, self.spikes, self.time_steps = ledger, spikes, time_steps
        self.n_images = len(next(iter(spikes.values())))

    def column(self, measure: str, name: str) -> np.ndarray:
        if measure == "pairs":
            q, k = (self.spikes[operand] for operand in self._ledger.product(name).operands)  # [N, T, tokens, D]
            return np.einsum("nthd,ntjd->nt", q, k)
        values = self.spikes[name].reshape(self.n_images, self.time_steps, -1)
        return (np.count_nonzero(values, axis=2) if measure == "nnz" else np.abs(values).sum(axis=2)).astype(np.int64)

    def fan(self, synapse: str, by: str = "abs") -> np.ndarray:
        entry = self._ledger.synapse(synapse)
        values = self.spikes[entry.input]
        weighed = (values != 0).astype(np.int64) if by == "nnz" else np.abs(values)
        if entry.fan_out is not None:
            return weighed.reshape(self.n_images, self.time_steps, -1).sum(axis=2) * entry.fan_out
        return sum_over_kernel(weighed, out_channels=3, kernel=3, stride=2, padding=1)


def sum_over_kernel(x: np.ndarray, out_channels: int, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Additions of a convolution on x [N, T, C, H, W]: every output position visits its receptive field."""
    padded = np.pad(x, [(0, 0)] * 3 + [(padding, padding)] * 2)
    total = np.zeros(x.shape[:2], dtype=np.int64)
    for top in range(0, padded.shape[3] - kernel + 1, stride):
        for left in range(0, padded.shape[4] - kernel + 1, stride):
            total += padded[:, :, :, top : top + kernel, left : left + kernel].sum(axis=(2, 3, 4)) * out_channels
    return total


@pytest.fixture
def ledger() -> Ledger:
    """Static image -> conv -> binary LIF -> strided conv (border) -> integer LIF -> head; token sum, mask, matmuls."""
    token = {"shape": (TOKENS, D), "elements": TOKENS * D, "part": "attention", "block": 0}
    return Ledger(
        time_steps=T,
        static_input=True,
        tensors=(
            CountedTensor("input", (1, 6, 6), 36, maker="input", kind="real", static=True),
            CountedTensor("lif", (2, 6, 6), 72, part="SPS"),
            CountedTensor("lif1", (3, 3, 3), 27, kind="integer", part="SPS"),
            CountedTensor("q", role="V_S", **token),
            CountedTensor("k", role="Q_S", **token),
            CountedTensor("v", role="K_S", **token),
            CountedTensor("kv", maker="mask", sources=("k", "v"), **token),
            CountedTensor("soft", kind="real", **token),
        ),
        synapses=(
            Synapse("conv", "conv2d", "input", 36 * 2 * 9, None, 72, role="Conv1", part="SPS"),
            Synapse("conv1", "conv2d", "lif", 27 * 2 * 9, None, 27, role="Conv2", part="SPS"),
            Synapse("head", "linear", "lif1", 27 * 4, 4, 4, role="FC", part="head"),
        ),
        additions=(),
        products=(
            Product("kv", "mask", ("k", "v"), TOKENS * D, part="attention", block=0),
            Product("sum", "token_sum", ("kv",), TOKENS * D, part="attention", block=0),
            Product("qk", "matmul", ("q", "k"), TOKENS * TOKENS * D),
            Product("av", "matmul", ("soft", "v"), TOKENS * TOKENS * D),
            Product("ss", "matmul", ("soft", "soft"), TOKENS * TOKENS * D),
        ),
    )


@pytest.fixture
def spikes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    found = {
        "lif": (rng.random((N, T, 2, 6, 6)) < 0.3).astype(np.int64),
        "lif1": rng.integers(0, 4, (N, T, 3, 3, 3)),
    }
    found |= {name: (rng.random((N, T, TOKENS, D)) < 0.4).astype(np.int64) for name in ("q", "k", "v")}
    return found | {"kv": found["k"] * found["v"]}


@pytest.fixture
def counts(ledger, spikes) -> BruteCounts:
    return BruteCounts(ledger, spikes)


@pytest.fixture
def only(ledger):
    """The tiny ledger reduced to these synapses and products."""

    def reduce(*names: str) -> Ledger:
        return dataclasses.replace(
            ledger,
            synapses=tuple(entry for entry in ledger.synapses if entry.name in names),
            products=tuple(entry for entry in ledger.products if entry.name in names),
        )

    return reduce


@pytest.fixture(scope="session")
def sdt_8_512() -> Ledger:
    """SDT-8-512 at 224 px and T = 4 from its geometry alone, labelled as the paper's Table S1."""
    depth, dim, tokens = 8, 512, 196
    chans, sizes = (3, 64, 128, 256, 512), (224, 112, 56, 28)
    tensors = [CountedTensor("input", (3, 224, 224), 3 * 224**2, maker="input", kind="real", static=True)]
    synapses, products = [], []
    received = "input"
    for stage in range(4):
        i, size, end = str(stage or ""), sizes[stage], sizes[stage] // (2 if stage == 3 else 1)
        lif, pool, out = f"patch_embed.proj_lif{i}", f"patch_embed.maxpool{i}", chans[stage + 1]
        dense = 9 * chans[stage] * out * size**2
        synapses.append(
            Synapse(f"patch_embed.proj_conv{i}", "conv2d", received, dense, role=f"Conv{stage + 1}", part="SPS")
        )
        tensors.append(
            CountedTensor(lif, (out, end, end), out * end**2, role=f"Conv{stage + 1}", part="SPS", hook=f"lif{i}")
        )
        if stage < 3:
            half = size // 2
            tensors.append(
                CountedTensor(pool, (out, half, half), out * half**2, maker="pool", sources=(lif,), part="SPS")
            )
        received = pool if stage < 3 else lif
    synapses.append(Synapse("patch_embed.rpe_conv", "conv2d", received, 9 * dim * dim * tokens, role="RPE", part="SPS"))
    roles = {"shortcut_lif": "Input", "q_lif": "V_S", "k_lif": "Q_S", "v_lif": "K_S"}
    for b in range(depth):
        attn, mlp = f"block.{b}.attn.", f"block.{b}.mlp."
        nd = {"shape": (dim, tokens), "elements": dim * tokens, "block": b}
        tensors += [CountedTensor(attn + name, role=role, part="attention", **nd) for name, role in roles.items()]
        tensors += [
            CountedTensor(
                attn + "kv_mask", maker="mask", sources=(attn + "k_lif", attn + "v_lif"), part="attention", **nd
            ),
            CountedTensor(attn + "talking_heads_lif", (dim,), dim, role="g(Q_S,K_S)", part="attention", block=b),
            CountedTensor(attn + "sdsa_out", maker="mask", role="SDSA_out(Vhat_S)", part="attention", **nd),
            CountedTensor(mlp + "fc1_lif", role="Layer1", part="MLP1", **nd),
            CountedTensor(mlp + "fc2_lif", (4 * dim, tokens), 4 * dim * tokens, role="Layer2", part="MLP2", block=b),
        ]
        square = dim * dim * tokens
        synapses += [
            Synapse(f"{attn}{x}_conv", "conv2d", attn + "shortcut_lif", square, dim, part="QKV", block=b) for x in "qkv"
        ]
        synapses += [
            Synapse(attn + "proj_conv", "conv2d", attn + "sdsa_out", square, dim, part="projection", block=b),
            Synapse(mlp + "fc1_conv", "conv2d", mlp + "fc1_lif", 4 * square, 4 * dim, part="MLP1", block=b),
            Synapse(mlp + "fc2_conv", "conv2d", mlp + "fc2_lif", 4 * square, dim, part="MLP2", block=b),
        ]
        products += [
            Product(
                attn + "kv_mask", "mask", (attn + "k_lif", attn + "v_lif"), dim * tokens, part="attention", block=b
            ),
            Product(attn + "sum", "token_sum", (attn + "kv_mask",), dim * tokens, part="attention", block=b),
            Product(attn + "sdsa_out", "mask", (attn + "q_lif",), dim * tokens, part="attention", block=b),
        ]
    tensors.append(CountedTensor("head_lif", (dim, tokens), dim * tokens, role="FC", part="head"))
    synapses.append(Synapse("head", "linear", "head_lif", dim * 1000, 1000, part="head"))
    return Ledger(4, True, tuple(tensors), tuple(synapses), tuple(products))


@pytest.fixture(scope="session")
def profile() -> sa.Profile:
    """Thirty images on a tiny live network of four time steps."""
    return live(4, seed=0)


@pytest.fixture(scope="session")
def other() -> sa.Profile:
    """The same images on another one, of two time steps."""
    return live(2, seed=3)

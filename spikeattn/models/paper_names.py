"""Names of the Spike-driven Transformer's tensors in the paper, beside their names in the published code.

The two disagree: what the paper calls V_S is `q_lif` in the code, and Q_S and K_S are `k_lif` and `v_lif`. Every table
that goes beside the paper's Table S1 therefore prints both. The `hook` is the key under which the published rate script
stores a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperName:
    """What a tensor or a synapse is called in the paper.

    Attributes:
        part: one of `spikeattn.structure.entry.PARTS`. The spike tensors of an attention block all stand under
            "attention", which Table S1 calls SDSA; the synapses that compute and read them under "QKV" and
            "projection".
        block: number of the transformer block from 0; None outside the blocks.
        role: name in the paper ("Conv1", "V_S", "FC1"), or a short description where the paper has none.
        hook: key in the published rate script's hook dictionary; None for what it does not record.
    """

    part: str
    block: int | None
    role: str
    hook: str | None = None


def paper_names(depth: int, pooling_stat: str, dvs: bool) -> dict[str, PaperName]:
    """Paper names by dotted module path, in the order of the forward pass.

    Args:
        depth: number of blocks.
        pooling_stat: four characters, "1" where a max-pool follows that stage of the patch splitting.
        dvs: whether the attention erodes (max-pools) its spikes.
    """
    names: dict[str, PaperName] = {}
    for stage in range(4):
        suffix = str(stage) if stage else ""
        role, pool = f"Conv{stage + 1}", PaperName("SPS", None, f"Conv{stage + 1} max-pooled")
        names[f"patch_embed.proj_conv{suffix}"] = PaperName("SPS", None, role)
        # The fourth pool stands before its LIF: it pools membrane input, not spikes.
        if pooling_stat[stage] == "1" and stage == 3:
            names["patch_embed.maxpool3"] = PaperName("SPS", None, "Conv4 input max-pooled")
        names[f"patch_embed.proj_lif{suffix}"] = PaperName("SPS", None, role, f"MS_SPS_lif{suffix}")
        if pooling_stat[stage] == "1" and stage < 3:
            names[f"patch_embed.maxpool{suffix}"] = pool
    names["patch_embed.rpe_conv"] = PaperName("SPS", None, "RPE")
    for block in range(depth):
        names |= _block_names(block, dvs)
    names["head_lif"] = PaperName("head", None, "FC", "head_lif")
    names["head"] = PaperName("head", None, "FC")
    return names


def _block_names(i: int, dvs: bool) -> dict[str, PaperName]:
    def attn(role: str, hook: str | None = None, part: str = "attention") -> PaperName:
        return PaperName(part, i, role, f"MS_SSA_Conv{i}_{hook}" if hook else None)

    def mlp(part: str, role: str, hook: str | None = None) -> PaperName:
        return PaperName(part, i, role, f"MS_MLP_Conv{i}_{hook}" if hook else None)

    names = {"attn.shortcut_lif": attn("Input", "first_lif")}
    names |= {"attn.q_conv": attn("q", part="QKV"), "attn.q_lif": attn("V_S", "q_lif")}
    for letter, role in (("k", "Q_S"), ("v", "K_S")):
        names[f"attn.{letter}_conv"] = attn(letter, part="QKV")
        names[f"attn.{letter}_lif"] = attn(f"{role} before Erode") if dvs else attn(role, f"{letter}_lif")
    if dvs:
        names |= {"attn.k_pool": attn("Q_S", "k_lif"), "attn.v_pool": attn("K_S", "v_lif")}
    names["attn.kv_mask"] = attn("Q_S*K_S", "kv_before")
    if dvs:
        names["attn.kv_pool"] = attn("Q_S*K_S eroded")
    names["attn.talking_heads_lif"] = attn("g(Q_S,K_S)", "kv")
    names["attn.sdsa_out"] = attn("SDSA_out(Vhat_S)", "x_after_qkv")
    names["attn.proj_conv"] = attn("Proj", part="projection")
    names |= {"mlp.fc1_lif": mlp("MLP1", "Layer1", "fc1_lif"), "mlp.fc1_conv": mlp("MLP1", "FC1")}
    names |= {"mlp.fc2_lif": mlp("MLP2", "Layer2", "fc2_lif"), "mlp.fc2_conv": mlp("MLP2", "FC2")}
    return {f"block.{i}.{path}": name for path, name in names.items()}

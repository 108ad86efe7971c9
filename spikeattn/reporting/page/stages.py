"""The network as a drawing: the stem, every run of blocks that are alike, what stands between them, and the head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from spikeattn.reporting.figures.drawing import colour_of
from spikeattn.structure.entry import PRODUCTS, QKV, UNKNOWN, Entry
from spikeattn.structure.network_structure import Structure

NO_ATTENTION = (
    "This network has no attention: nowhere in its forward pass are tensors that come from the same tokens multiplied "
    "and summed over tokens or channels. So there is no map to show. It consists of {}."
)
NOT_KNOWN = "Whether this network has attention is not known: {}."
NOT_ATTENDED = (
    "This network has attention in {}, which was not looked at: `spikeattn attend` on the same model, or "
    "`spikeattn report --model ... --attend N`, adds the maps."
)


def stages(structure: Structure) -> list[dict[str, Any]]:
    """Stages in the order of the network: name, facts in a line, and parts, each with its colour and its layers."""
    found: list[dict[str, Any]] = []
    for (block, _), group in groupby(_in_order(structure), key=lambda e: (e.block, e.part if e.block is None else "")):
        entries = list(group)
        stage = {
            "blocks": [] if block is None else [block],
            "facts": _facts(structure, block),
            "parts": _parts(entries),
        }
        stage["name"] = entries[0].part
        last = found[-1] if found else None
        if last and block is not None and last["blocks"] and _same(last, stage):
            last["blocks"].append(block)
        else:
            found.append(stage)
    for stage in found:
        if stage["blocks"]:
            stage["name"] = _name(stage["blocks"])
    return found


def about_attention(structure: Structure, unknown: str = "") -> str:
    """What stands where the maps would stand, when there are none.

    Args:
        unknown: why no structure was inferred, where none was.
    """
    if structure.attention:
        return NOT_ATTENDED.format(_listed(sorted(structure.attention)))
    strange = [e.name for e in structure.entries["synapses"] if e.known == UNKNOWN]
    if strange and not unknown:
        several = "s" if len(strange) > 1 else ""
        unknown = f"none was found, beside {len(strange)} layer{several} that nobody knows, the first is {strange[0]}"
    if unknown:
        return NOT_KNOWN.format(unknown)
    parts = Counter(e.part for e in structure.entries["synapses"])
    counts = [f"{n} {part} layer{'s' if n > 1 else ''}" for part, n in parts.items()]
    return NO_ATTENTION.format(", ".join(counts) or "no layer with weights")


def _in_order(structure: Structure) -> list[Entry]:
    """Layers in the order of execution, the products of an attention behind its q, k and v."""
    rows = list(structure.entries["synapses"])
    for product in structure.entries["products"]:
        before = [i for i, e in enumerate(rows) if e.block == product.block and e.part in (QKV, PRODUCTS)]
        if product.part == PRODUCTS and before:
            rows.insert(before[-1] + 1, product)
    return rows


def _parts(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    parts = []
    for i, (part, group) in enumerate(groupby(entries, key=lambda e: e.part)):
        own = list(group)
        text = ", ".join(_role(e) for e in own if _role(e)) if part in (QKV, PRODUCTS) else ""
        layers = f"{len(own)} ×" if len(own) > 1 and part not in (QKV, PRODUCTS) else ""
        names = ", ".join(e.name for e in own)
        parts.append({"part": part, "colour": colour_of(part, i), "text": text or layers, "tip": names})
    return parts


def _role(entry: Entry) -> str:
    return (entry.role or "").replace("matmul", "matrix product").replace("token_sum", "sum over tokens")


def _facts(structure: Structure, block: int | None) -> str:
    if block is None:
        return ""
    grid, classes = structure.grids.get(block), structure.classes.get(block, 0)
    facts = [f"{grid[0]} × {grid[1]} tokens"] if grid else []
    facts += [f"{classes} class token{'s' if classes > 1 else ''}"] if classes else []
    for extent in structure.attention.get(block, ()):
        facts.append(f"{extent.channels} channels")
        facts += [f"{extent.windows} windows of {extent.queries}"] if extent.windows > 1 else []
    if structure.head_counts.get(block):
        facts.append(f"{structure.head_counts[block]} heads")
    return ", ".join(dict.fromkeys(facts))


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    def outline(stage: dict[str, Any]) -> Any:
        return stage["facts"], [(part["part"], part["text"]) for part in stage["parts"]]

    return bool(outline(a) == outline(b))


def _name(blocks: Sequence[int]) -> str:
    return f"Block {blocks[0] + 1}" if len(blocks) == 1 else f"Blocks {blocks[0] + 1} to {blocks[-1] + 1}"


def _listed(blocks: list[int]) -> str:
    names = ", ".join(str(block + 1) for block in blocks)
    return f"block{'s' if len(blocks) > 1 else ''} {names}"

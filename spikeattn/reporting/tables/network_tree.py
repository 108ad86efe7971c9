"""A network as a tree: blocks, their parts and layers, what each receives, how often it fires, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spikeattn.energy.amounts import COLUMNS, part_order
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, get_costs

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

NETWORK, BLOCK, PART, LAYER = range(4)  # the levels of the tree; a part outside the blocks stands beside them


def network_tree(profile: Profile, costs: str = DEFAULT_COSTS) -> pd.DataFrame:
    """Every layer and product below its part and block, and their sums, under convention `exact`.

    Returns:
        A row per node, a parent before its children. Columns depth (0 of the network), level (`NETWORK` to `LAYER`),
        name, shape (of what it receives, without images and time; None where nobody knows), rate (mean firing rate of
        it; of a sum weighted by dense operations; NaN where nothing fires), sops and energy_mj per image, share
        (of the energy), counted (False: no numbers are known).
    """
    priced = _layers(profile, costs)
    frame = pd.DataFrame(list(_nodes(priced, str(profile.ledger.model.get("name")))))
    whole = frame["energy_mj"].iloc[0]
    frame["share"] = frame["energy_mj"] / whole if whole else np.nan
    frame.attrs = {"costs": get_costs(costs).name, "convention": DEFAULT_CONVENTION}
    return frame


def deepest_level(tree: pd.DataFrame, rows: int) -> int:
    """The deepest level at which a tree has no more than so many rows; the blocks, where there are more of them."""
    levels = [level for level in (LAYER, PART, BLOCK) if (tree["level"] <= level).sum() <= rows]
    return levels[0] if levels else BLOCK


def _layers(profile: Profile, costs: str) -> pd.DataFrame:
    """`operations` per image, with energies, the name within the part, and what firing and shape are known of."""
    ledger, table = profile.ledger, get_costs(costs)
    frame = profile.operations()
    priced = {op: table.price(op) if table.has(op) else np.nan for op in COLUMNS}
    counts = {op: frame[column].astype(float) / profile.n_images for op, column in COLUMNS.items()}
    pj = sum((counts[op] * price).where(counts[op] != 0, counts[op]) for op, price in priced.items())
    frame["energy_mj"] = pj * PJ_TO_MJ
    shapes = {tensor.name: tensor.shape for tensor in ledger.tensors}
    pairs = zip(frame["input_tensor"], frame["synapse"], strict=True)
    received = [shapes.get(tensor, shapes.get(name)) for tensor, name in pairs]  # of a product its own
    frame["shape"] = pd.Series(received, index=frame.index, dtype=object)
    steps = {s.name: ledger.time_steps if s.every_step else 1 for s in ledger.synapses}
    frame["dense"] = frame["dense_macs"].astype(float) * frame["synapse"].map(steps)
    frame["dense"] = frame["dense"].where(frame["rate_x_flops"].notna())  # of layers that receive spikes alone
    frame["sops"] = counts["sop"]
    return frame


def _nodes(layers: pd.DataFrame, name: str) -> Iterator[dict[str, object]]:
    """The network, what stands before its blocks, the blocks, and what stands behind them."""
    yield _sum(layers, 0, NETWORK, name)
    inside, outside = layers[layers["block"].notna()], layers[layers["block"].isna()]
    first = inside.index.min() if len(inside) else len(layers)
    before = outside["part"].isin(outside["part"][outside.index < first])
    yield from _parts(outside[before], 1)
    for block in sorted(set(inside["block"])):
        rows = inside[inside["block"] == block]
        yield _sum(rows, 1, BLOCK, f"block {block + 1}")
        yield from _parts(rows, 2)
    yield from _parts(outside[~before], 1)


def _parts(layers: pd.DataFrame, depth: int) -> Iterator[dict[str, object]]:
    """Parts in the order of the network, each with its layers."""
    level = BLOCK if depth == 1 else PART
    for part in sorted(layers["part"].unique(), key=part_order):
        rows = layers[layers["part"] == part]
        yield _sum(rows, depth, level, part)
        for row in rows.to_dict("records"):
            yield {
                "depth": depth + 1,
                "level": LAYER,
                "name": row["synapse"],
                "shape": row["shape"],
                "rate": row["rate_x_flops"] / row["dense"] if row["dense"] else np.nan,
                "sops": row["sops"],
                "energy_mj": row["energy_mj"],
                "counted": row["counted"],
            }


def _sum(layers: pd.DataFrame, depth: int, level: int, name: str) -> dict[str, object]:
    dense = layers["dense"].sum()
    return {
        "depth": depth,
        "level": level,
        "name": name,
        "shape": next((shape for shape in layers["shape"] if shape), None),
        "rate": layers["rate_x_flops"].sum() / dense if dense else np.nan,
        "sops": layers["sops"].sum(),
        "energy_mj": layers["energy_mj"].sum(),
        "counted": bool(layers["counted"].all()),
    }

"""Operations that took place: ledger x counts, in whole numbers, before any price."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from spikeattn.energy.activity import CountedActivity, CountTable
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.counted_terms import AMOUNTS, OTHER, Rate
from spikeattn.energy.rules import terms_of
from spikeattn.storage.ledger import Ledger


def operations(ledger: Ledger, counts: CountTable, first_conv: str = "once", per_image: bool = False) -> pd.DataFrame:
    """Operations that took place, one row per synapse and product (convention `exact`).

    Args:
        first_conv: "once" or "every-step", how often the MACs of a still image count; kept in `attrs`.
        per_image: one row per image and synapse or product instead: image (its index in the run), synapse, sops, macs,
            acs, mask_ops.

    Returns:
        Columns synapse, input_tensor, part, block, dense_macs (per image and time step, padding included), sops
        (additions at weights and in products of spikes), sops_per_image, acs (token sums), macs, mask_ops (all four
        totals over the run, integers), rate_x_flops (mean input rate x T x dense_macs per image: the literature's
        product; NaN where the input has no firing rate) and counted. What could not be counted has its own row with
        counted = False and no numbers.
    """
    activity = CountedActivity(ledger, counts)
    convention = get_convention("exact", first_conv=first_conv)
    if per_image:
        return _per_image(ledger, activity, convention, first_conv)
    totals: dict[str, dict[str, int]] = {}
    for term in terms_of(ledger, convention):
        amount = activity.total(term.source) * term.factor
        entry = totals.setdefault(term.name, dict.fromkeys(AMOUNTS.values(), 0))
        entry[AMOUNTS[term.op]] += round(amount.sum().item())
    rows = []
    for synapse in ledger.synapses:
        tensor, rate_x_flops = ledger.tensor(synapse.input), np.nan
        if tensor.spikes:
            rate = activity.total(Rate((tensor.name,), "abs", not synapse.every_step)).mean()
            rate_x_flops = float(rate * synapse.dense_macs)
        rows.append((synapse, synapse.input, synapse.dense_macs, rate_x_flops))
    for product in ledger.products:
        dense = product.elements if product.op == "matmul" else 0
        rows.append((product, ", ".join(product.operands), dense, np.nan))
    records: list[dict[str, Any]] = [
        {
            "synapse": entry.name,
            "input_tensor": received,
            "part": entry.part or OTHER,
            "block": entry.block,
            "dense_macs": dense,
            **totals[entry.name],
            "sops_per_image": totals[entry.name]["sops"] / activity.n_images,
            "rate_x_flops": rate_x_flops,
            "counted": True,
        }
        for entry, received, dense, rate_x_flops in rows
    ]
    records += [
        {"synapse": entry.name, "part": entry.part or OTHER, "block": entry.block, "counted": False}
        for entry in ledger.uncounted
    ]
    columns = ["synapse", "input_tensor", "part", "block", "dense_macs", "sops", "sops_per_image"]
    columns += ["acs", "macs", "mask_ops", "rate_x_flops", "counted"]
    frame = pd.DataFrame(records, columns=columns)
    whole = ["block", "dense_macs", "sops", "acs", "macs", "mask_ops"]
    frame = frame.astype({column: "Int64" for column in whole} | {"counted": bool})
    frame.attrs = {"first_conv": first_conv, "n_images": activity.n_images, "time_steps": ledger.time_steps}
    return frame


def _per_image(ledger: Ledger, activity: CountedActivity, convention: Convention, first_conv: str) -> pd.DataFrame:
    """One row per image and entry of the ledger, image after image."""
    n = activity.n_images
    names = [entry.name for entry in (*ledger.synapses, *ledger.products)]
    amounts = {name: {column: np.zeros(n, np.int64) for column in AMOUNTS.values()} for name in names}
    for term in terms_of(ledger, convention):
        amounts[term.name][AMOUNTS[term.op]] += np.rint(activity.total(term.source) * term.factor).astype(np.int64)
    rows = getattr(activity.counts, "rows", None)
    index = np.arange(n) if rows is None else rows["index"].to_numpy()
    columns: dict[str, Any] = {"image": np.repeat(index, len(names)), "synapse": np.tile(names, n)}
    for column in ("sops", "macs", "acs", "mask_ops"):
        table = np.stack([amounts[name][column] for name in names], axis=1) if names else np.zeros((n, 0), np.int64)
        columns[column] = table.ravel()
    frame = pd.DataFrame(columns)
    frame.attrs = {"first_conv": first_conv, "n_images": n, "time_steps": ledger.time_steps}
    return frame

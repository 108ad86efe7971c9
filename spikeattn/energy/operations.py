"""Operations that took place: ledger x counts, in whole numbers, before any price."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from spikeattn.energy.activity import CountedActivity, Rate, Run
from spikeattn.energy.amounts import COLUMNS, amounts_of
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.profile_argument import counted, of_profile
from spikeattn.storage.ledger_rows import Addition, Product, Synapse
from spikeattn.structure.entry import OTHER


@of_profile
def operations(profile: Run, first_conv: str = "once", per_image: bool = False) -> pd.DataFrame:
    """Operations that took place, one row per synapse, product and addition without weights (convention `exact`).

    Args:
        profile: a finished run; a ledger and its counts, two arguments, may stand in its place.
        first_conv: "once" or "every-step", how often the MACs of a still image count; kept in `attrs`.
        per_image: one row per image and synapse, product or addition instead: image (its index in the run), synapse,
            sops, macs, acs, mask_ops.

    Returns:
        Columns synapse, input_tensor, part, block, dense_macs (per image and time step, padding included), sops
        (additions at weights and in products of spikes), sops_per_image, acs (token sums, residual sums, averages),
        macs, mask_ops (all four totals over the run, integers), rate_x_flops (mean input rate x T x dense_macs per
        image: the literature's product; NaN where the input has no firing rate) and counted. What could not be counted
        has its own row with counted = False and no numbers.
    """
    activity, convention = counted(profile), get_convention("exact", first_conv=first_conv)
    frame = _per_image(activity, convention) if per_image else _totals(activity, convention)
    frame.attrs = {
        "first_conv": first_conv,
        "n_images": activity.n_images,
        "time_steps": activity.ledger.time_steps,
    }
    return frame


def _totals(activity: CountedActivity, convention: Convention) -> pd.DataFrame:
    """One row per synapse, product and addition, then what was not counted."""
    ledger = activity.ledger
    totals: dict[str, dict[str, int]] = {}
    for amount in amounts_of(activity, convention):
        row = totals.setdefault(amount.term.name, dict.fromkeys(COLUMNS.values(), 0))
        row[COLUMNS[amount.term.op]] += round(amount.per_image.sum().item())
    rows: list[tuple[Synapse | Product | Addition, str | None, int, float]] = [
        *((s, s.input, s.dense_macs, _rate_x_flops(activity, s)) for s in ledger.synapses),
        *((p, ", ".join(p.operands), p.elements if p.op == "matmul" else 0, np.nan) for p in ledger.products),
        *((a, a.operand, 0, np.nan) for a in ledger.additions or ()),
    ]
    records: list[dict[str, Any]] = [
        {
            "synapse": each.name,
            "input_tensor": received,
            "part": each.part or OTHER,
            "block": each.block,
            "dense_macs": dense,
            **totals[each.name],
            "sops_per_image": totals[each.name]["sops"] / activity.n_images,
            "rate_x_flops": rate_x_flops,
            "counted": True,
        }
        for each, received, dense, rate_x_flops in rows
    ]
    records += [
        {"synapse": each.name, "part": each.part or OTHER, "block": each.block, "counted": False}
        for each in ledger.uncounted
    ]
    columns = ["synapse", "input_tensor", "part", "block", "dense_macs", "sops", "sops_per_image"]
    columns += ["acs", "macs", "mask_ops", "rate_x_flops", "counted"]
    whole = ["block", "dense_macs", "sops", "acs", "macs", "mask_ops"]
    return pd.DataFrame(records, columns=columns).astype({column: "Int64" for column in whole} | {"counted": bool})


def _rate_x_flops(activity: CountedActivity, synapse: Synapse) -> float:
    """Mean input rate x dense operations over all time steps; NaN where the input has no firing rate."""
    tensor = activity.ledger.tensor(synapse.input)
    if not tensor.spikes:
        return np.nan
    rate = activity.total(Rate((tensor.name,), "abs", not synapse.every_step)).mean()
    return float(rate * synapse.dense_macs)


def _per_image(activity: CountedActivity, convention: Convention) -> pd.DataFrame:
    """One row per image and synapse, product or addition, image after image."""
    ledger, n = activity.ledger, activity.n_images
    listed: list[Synapse | Product | Addition] = [*ledger.synapses, *ledger.products, *(ledger.additions or ())]
    names = [each.name for each in listed]
    totals = {name: {column: np.zeros(n, np.int64) for column in COLUMNS.values()} for name in names}
    for amount in amounts_of(activity, convention):
        totals[amount.term.name][COLUMNS[amount.term.op]] += np.rint(amount.per_image).astype(np.int64)
    rows = getattr(activity.counts, "rows", None)
    index = np.arange(n) if rows is None else rows["index"].to_numpy()
    columns: dict[str, Any] = {"image": np.repeat(index, len(names)), "synapse": np.tile(names, n)}
    for column in ("sops", "macs", "acs", "mask_ops"):
        table = np.stack([totals[name][column] for name in names], axis=1) if names else np.zeros((n, 0), np.int64)
        columns[column] = table.ravel()
    return pd.DataFrame(columns)

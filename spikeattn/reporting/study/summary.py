"""What a `Study` has shown, as one record: networks with their provenance, a row per image, agreement, energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.evaluate import Evaluation
from spikeattn.attention.questions import answers
from spikeattn.attention.regularize import METHOD
from spikeattn.attention.study import Study
from spikeattn.data.dataset import Skipped
from spikeattn.provenance import describe
from spikeattn.reporting.figures.attention_grids import agreement
from spikeattn.reporting.study.captions import details_of, shared_of, title_of
from spikeattn.reporting.study.meaning import meanings, promise
from spikeattn.reporting.study.pictures import tokens_of
from spikeattn.reporting.tables.attention_tables import rule_of, significant
from spikeattn.spurious import SpuriousEnergy
from spikeattn.stats.intervals import Interval

Record = dict[str, Any]


def summary_of(
    studies: Sequence[Study],
    skipped: Sequence[Skipped] = (),
    evaluations: Sequence[Evaluation] = (),
    energy: SpuriousEnergy | None = None,
    command: str | None = None,
) -> Record:
    """Everything but the tokens, with what a rerun needs.

    Args:
        skipped: images that could not be read.
        evaluations: one per study, or none.
        energy: of the first study.
        command: that makes it again.
    """
    summary: Record = {
        "command": command,
        "untrained": any(study.untrained for study in studies),
        "networks": [_network(study) for study in studies],
        "images": [row for study in studies for row in _image_rows(study)],
        "skipped": [{"image": each.id, "reason": each.reason} for each in skipped],
    }
    if len(studies) == 2:
        questions, reason = shared_of(studies)
        summary["comparison"] = {"questions": list(questions), "reason": reason}
        summary["agreement"] = [row for question in questions for row in _agreements(studies[0], studies[1], question)]
    if energy is not None:
        summary["energy"] = energy_record(energy, studies[0].ids)
    if evaluations:
        both = zip(studies, evaluations, strict=True)
        table = pd.concat([evaluation.summary().assign(model=title_of(study)) for study, evaluation in both])
        summary["evaluation"] = table.astype(object).to_dict("records")
    return summary


def energy_record(energy: SpuriousEnergy, ids: Sequence[str]) -> Record:
    """The range over specifications and each of them; the chosen shares with their intervals, per image and in all."""
    spent, spurious = energy.maps.sum((1, 2)), energy.spurious_maps.sum((1, 2))

    def interval(value: Interval) -> Record:
        return {"value": value.value, "low": value.low, "high": value.high, "method": value.method}

    lowest, highest = energy.range
    columns = ["null", "replicates", "question", "rule", "share", "low", "high", "interval", "chosen"]
    return {
        "range": {"low": lowest, "high": highest},
        "specifications": energy.specifications[columns].astype(object).to_dict("records"),
        "interval": energy.provenance["interval"],
        "share_of_blocks": interval(energy.total),
        "share_of_network": interval(energy.of_everything),
        "spurious_mj": interval(energy.spurious_mj),
        "outside_share": float(energy.outside["share"].sum()),
        "images": [
            {"image": name, "blocks_mj": float(blocks), "spurious_mj": float(noise), "network_mj": float(whole)}
            for name, blocks, noise, whole in zip(ids, spent, spurious, energy.per_image, strict=True)
        ],
        "notes": list(energy.notes),
        "provenance": energy.provenance,
    }


def _network(study: Study) -> Record:
    """What a rerun needs to know of a network."""
    s, known = study.settings, study.attentions[0].provenance
    return {
        "title": title_of(study),
        "details": details_of(study),
        "rule": rule_of(s.method, s.threshold),
        "questions": meanings(list(answers(study.attentions[0])), s.null, s.replicates),
        "promise": promise(s.method, s.threshold),
        "untrained": study.untrained,
        "model": getattr(study.model, "provenance", None) or describe(study.model),
        "statistic": study.kind,
        "layers": study.layers,
        "settings": dataclasses.asdict(s),
        "versions": {key: known[key] for key in ("spikeattn", "torch") if key in known},
        "data": study.dataset.provenance(),
        "warnings": study.grouped_warnings(),
    }


def _image_rows(study: Study) -> list[Record]:
    """The rows of every image; see `image_rows`."""
    s, rows = study.settings, []
    warned = {name for name, _ in study.warnings}
    for name, attention in zip(study.ids, study.attentions, strict=True):
        own = image_rows(attention, title_of(study), name, study.layers, s.method, s.threshold)
        rows += [row | {"warned": name in warned} for row in own]
    return rows


def image_rows(
    attention: Attention, model: str, image: str, layers: Sequence[float], method: str = METHOD,
    threshold: float | None = None,
) -> list[Record]:  # fmt: skip
    """Of one image, per layer: tokens, shares that are significant, share with q <= 0.1, pi0.

    significant answers "how much"; significant_where "where", None for maps that have one answer. Shares with q are
    None where the estimator has none.
    """
    second = attention.where
    where = [None] * len(layers) if second is None else [
        float(significant(one, method, threshold).mean()) for one in second.significance
    ]  # fmt: skip
    return [
        {
            "model": model,
            "image": image,
            "layer": layer,
            "tokens": int(one.z.size),
            "significant": float(significant(one, method, threshold).mean()),
            "significant_where": share,
            "significant_q": None if one.q is None else float(significant(one).mean()),
            "pi0": float(one.pi0),
            "largest_z": float(one.z.max()),
        }
        for layer, one, share in zip(layers, attention.significance, where, strict=True)
    ]


def _agreements(first: Study, second: Study, question: str) -> list[Record]:
    return [
        {"image": name, "question": question, **agreement(one, other)}
        for name, one, other in zip(first.ids, tokens_of(first, question), tokens_of(second, question), strict=True)
    ]

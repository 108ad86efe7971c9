"""From the parts of a run to its result: one origin, kinds settled, rows in order, warnings, two files.

The result depends on the batches alone, never on how they were spread over parts, ranks, shards and resumed runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from spikeattn.compat.python_names import file_sha256
from spikeattn.data.dataset import NO_SIZE
from spikeattn.errors import SpikeattnError
from spikeattn.provenance import differences
from spikeattn.runs.result import Profile
from spikeattn.runs.sample_warnings import few_images, missing_classes
from spikeattn.stats.accuracy import NO_ACCURACY, why_no_accuracy
from spikeattn.storage.counts import FILE, Counts, merge, row_groups, write_counts
from spikeattn.storage.folder import RunFolder, parts_of, started
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, kind_of
from spikeattn.storage.parts import Part, joined_extremes, joined_flags

MIXED = "mixed"  # entry of the provenance: settings in which the parts of one run differ


def finish(folder: RunFolder, parts: Sequence[Part], ledger: Ledger, *, shuffled: bool = False) -> Profile:
    """Write `counts.parquet` and `model.json` of a folder from all its parts, and read the result back."""
    ledger = settled(ledger, parts)
    tables = [part.table for part in parts if part.table is not None]
    path = write_counts(row_groups(tables, ledger), ledger, folder.path / FILE)
    ledger = _described(ledger, Counts(path, ledger), parts, shuffled)
    with path.open("rb") as file:
        digest = file_sha256(file)
    ledger = replace(ledger, provenance={**ledger.provenance, "counts_sha256": digest})
    folder.finish(ledger)
    return Profile.load(folder.path)


def in_memory(parts: Sequence[Part], ledger: Ledger, *, shuffled: bool = False) -> Profile:
    """The result of parts that are on no disk, or of those that an unfinished run has written so far."""
    ledger = settled(ledger, parts)
    counts = Counts(merge([part.table for part in parts if part.table is not None], ledger), ledger)
    counts.ledger = _described(ledger, counts, parts, shuffled)
    return Profile(counts.ledger, counts)


def on_disk(parts: Sequence[Part], ledger: Ledger, folder: TemporaryDirectory[str]) -> Profile:
    """The result of parts that are too many for memory, its table in a temporary folder that lives as long as it."""
    ledger = settled(ledger, parts)
    tables = [part.table for part in parts if part.table is not None]
    path = write_counts(row_groups(tables, ledger), ledger, Path(folder.name) / f"{uuid4().hex}.parquet")
    counts = Counts(path, ledger)
    counts.holds = folder
    counts.ledger = _described(ledger, counts, parts, False)
    return Profile(counts.ledger, counts)


def partial(path: str | Path) -> Profile | None:
    """What an interrupted run has counted so far, with a warning that says so; None if there is no image yet."""
    ledger, parts = started(Path(path)), parts_of(Path(path))
    if ledger is None or all(part.table is None for part in parts):
        return None
    done, whole = sum(part.images for part in parts), ledger.settings.chosen
    told = f"partial: {done:,} of {whole:,} images" if whole else f"partial: {done:,} images so far"
    warning = f"{told}; an interrupted run, whose images are the first ones and no random sample"
    return in_memory(parts, replace(ledger, warnings=(*ledger.warnings, warning)))


def finish_empty(folder: RunFolder, parts: Sequence[Part], ledger: Ledger) -> None:
    """Finish a shard without a single readable image: it has no count table, its parts hold the names."""
    entries = {"skipped": [{"id": name, "reason": reason} for _, name, reason in _skipped(parts)]}
    folder.finish(replace(ledger, provenance={**ledger.provenance, **entries}))


def nothing_to_profile(parts: Iterable[Part]) -> SpikeattnError:
    """The error of a run without a single readable image."""
    skipped = _skipped(parts)
    if not skipped:
        return SpikeattnError(
            "the loader gave no image to profile: it is empty, an iterator that has been read to its end, or a "
            "DataLoader whose only batch drop_last=True drops; give one that has a batch"
        )
    names = "; ".join(f"{name}: {reason}" for _, name, reason in skipped[:3])
    return SpikeattnError(f"the loader gave no image to profile; {len(skipped)} could not be read. {names}".strip())


def check_origin(parts: Sequence[Part], ledger: Ledger, allow_mixed: bool = False) -> None:
    """Every part must hold counts of this ledger; settings that only move the last digits may differ if allowed.

    Raises:
        SpikeattnError: naming the part and the setting.
    """
    own = ledger.provenance.get("settings", {})
    for part in parts:
        where = part.source or "a part"
        if part.ledger != ledger.hash():
            raise SpikeattnError(f"{where}: holds counts of another model or input size; give another folder")
        check_settings(part.settings, own, str(where), allow_mixed)


def check_settings(old: Mapping[str, Any], new: Mapping[str, Any], where: str, allow_mixed: bool) -> None:
    """Counts may be joined only where their settings are equal; see `provenance.MIXABLE` for what may be mixed."""
    for difference in differences({**old, "input": None}, {**new, "input": None}):
        if difference.mixable and allow_mixed:
            continue
        advice = "or --allow-mixed to join them all the same, " if difference.mixable else ""
        raise SpikeattnError(
            f"{where}: {difference.name} is {difference.new!r} now and was {difference.old!r}; the counts would not "
            f"belong together. Repeat the run's settings, {advice}or give another folder"
        )


def settled(ledger: Ledger, parts: Sequence[Part]) -> Ledger:
    """Decide the kind of every tensor once, from what the whole run has seen."""
    flags = joined_flags(parts)
    if ledger.static_input and flags["input"][3]:
        raise SpikeattnError(
            "the model's input is the same at every time step in the first batch and varies in a later one; give "
            "frames [B, T, C, H, W] throughout, or images [B, C, H, W] throughout"
        )
    extremes = joined_extremes(parts)
    tensors = []
    for tensor in ledger.tensors:
        if tensor.name in flags and not tensor.number:
            low, high = extremes.get(tensor.name, (None, None))
            if tensor.high is not None and high is not None and max(high, -(low or 0)) > tensor.high:
                raise SpikeattnError(
                    f"neuron {tensor.name} gives {max(high, -(low or 0)):g} units of {tensor.unit:g}, and levels= says "
                    f"{tensor.high:g} at most; give the true number, or leave it out"
                )
            if tensor.high is None:
                tensor = replace(tensor, low=low, high=high)
            tensor = replace(tensor, kind=kind_of(*flags[tensor.name][:3]))
        tensors.append(tensor)
    found = _input_of(tensors, flags, ledger.of_tokens)
    return replace(ledger, tensors=tuple(tensors), provenance={**ledger.provenance, **found})


def _input_of(
    tensors: Sequence[CountedTensor], flags: Mapping[str, tuple[bool, ...]], tokens: bool
) -> dict[str, Any]:  # fmt: skip
    """What the input was taken for, and why, where whole numbers may be either events or pixels."""
    found = next((t for t in tensors if t.name == "input"), None)
    if tokens or found is None or "input" not in flags or flags["input"][0]:
        return {}
    kind = "pixels" if found.number else "events"
    form = "a still image" if found.static else "frames with a time axis of their own"
    return {"input": {"kind": kind, "why": f"whole numbers in {form}; input= and --input override this"}}


def _described(ledger: Ledger, counts: Counts, parts: Sequence[Part], shuffled: bool) -> Ledger:
    """The ledger with the warnings and the provenance of the whole run."""
    skipped, mixed = _skipped(parts), _mixed(parts, ledger)
    entries: dict[str, Any] = {"skipped": [{"id": name, "reason": reason} for _, name, reason in skipped]}
    if mixed:
        entries[MIXED] = mixed
    if reason := why_no_accuracy(counts.rows, ledger.provenance):
        entries["no_accuracy"] = reason
    warnings = _warnings(ledger, counts, skipped, shuffled, mixed)
    return replace(ledger, warnings=warnings, provenance={**ledger.provenance, **entries})


def _skipped(parts: Iterable[Part]) -> list[tuple[int, str, str]]:
    """(index, id, reason) of every unreadable image, in the order of the data."""
    return sorted(item for part in parts for item in part.skipped)


def _mixed(parts: Iterable[Part], ledger: Ledger) -> dict[str, list[Any]]:
    """The settings in which the parts differ, with all their values."""
    own = ledger.provenance.get("settings", {})
    values: dict[str, list[Any]] = {}
    for part in parts:
        for difference in differences({**own, "input": None}, {**part.settings, "input": None}):
            known = values.setdefault(difference.name, [difference.old])
            if difference.new not in known:
                known.append(difference.new)
    return {name: sorted(found, key=str) for name, found in sorted(values.items())}


def _warnings(
    ledger: Ledger, counts: Counts, skipped: list[tuple[int, str, str]], shuffled: bool, mixed: Mapping[str, list[Any]]
) -> tuple[str, ...]:
    found = list(ledger.warnings)
    if shard := ledger.provenance.get("shard"):
        found.append(f"shard: this is {shard} of a run and no random sample of it; join all with spikeattn merge")
    if shuffled:
        found.append(
            "shuffled: the loader shuffles, so an image's number is the order it came in; do not compare this run with "
            "another one image by image"
        )
    if mixed:
        listed = ", ".join(f"{name} ({', '.join(map(str, values))})" for name, values in mixed.items())
        found.append(f"mixed: parts of this run were made with different {listed}; single images may differ by it")
    largest, classes = int(counts.rows["label"].max()), ledger.model.get("config", {}).get("num_classes")
    if isinstance(classes, int) and largest >= classes:  # a user's own argument of this name may be anything
        found.append(f"labels: the largest is {largest} and the model has {classes} outputs; accuracy has no meaning")
    reason = why_no_accuracy(counts.rows, ledger.provenance)
    if reason and (largest >= 0 or "targets" in ledger.provenance):  # images alone ask for none
        found.append(f"{NO_ACCURACY}: {reason}")
    data = ledger.settings.data or {}
    found += map(str, few_images(counts.n_images))
    if not shard:  # which is no fair sample, as its warning says
        labels = counts.rows["label"].to_numpy()
        found += map(str, missing_classes(labels, ledger.provenance.get("classes"), data))
    found += [f"input-size: {note}" for note in data.get("notes", ()) if note.startswith(NO_SIZE)]
    if ledger.model.get("trained") is False:
        found.append("untrained: the weights are random, so these rates and energies describe nothing")
    neurons = [t.name for t in ledger.tensors if t.maker == "neuron"]
    real = [t.name for t in ledger.tensors if t.maker == "neuron" and t.kind == "real"]
    if real:
        found.append(
            f"real: {len(real)} neuron tensors hold real values, the first is {real[0]}; the layers behind are charged "
            "as multiply-accumulates"
        )
    silent = [name for name in neurons if not counts.column("nnz", name).any()]
    if silent and len(silent) == len(neurons):
        found.append(
            f"all-silent: no neuron fired on any of the {counts.n_images} images; check the input's scale and the "
            "weights"
        )
    elif silent:
        found.append(f"silent: {len(silent)} of {len(neurons)} neuron tensors never fired, the first is {silent[0]}")
    if skipped:
        names = ", ".join(f"{name} ({reason})" for _, name, reason in skipped[:3])
        more = " and others, all named in model.json" if len(skipped) > 3 else ""
        found.append(f"skipped: {len(skipped)} images could not be read: {names}{more}")
    if ledger.uncounted:
        names = ", ".join(dict.fromkeys(u.op for u in ledger.uncounted))
        many = f"{len(ledger.uncounted)} operations have" if len(ledger.uncounted) > 1 else "1 operation has"
        found.append(f"uncounted: {many} no counting rule ({names})")
    return tuple(found)

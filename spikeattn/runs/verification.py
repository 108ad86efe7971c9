"""Check a finished run again: its files, its numbers, and a sample of its batches run once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spikeattn.compat.python_names import file_sha256
from spikeattn.data.batches import Batches, make_loader
from spikeattn.errors import SpikeattnError
from spikeattn.fast import prepare
from spikeattn.provenance import Difference, differences, provenance_of
from spikeattn.runs.result import Profile
from spikeattn.storage.counts import FILE, Counts

OK, FAILED, MOVED, NOT_DONE = "ok", "failed", "moved", "not done"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: "file", "table", "rows", "counts", "code" (of a network of the user's own), "model", "data" or "batches".
        result: "ok"; "failed"; "moved" (other numbers, and other settings that explain such); "not done".
        detail: what was found, in one sentence.
    """

    name: str
    result: str
    detail: str


@dataclass(frozen=True)
class Verification:
    """All checks of a run, in the order they were made."""

    path: Path
    checks: tuple[Check, ...]
    settings: tuple[Difference, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what was not done has not failed, see `not_done`."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.result == FAILED)

    @property
    def not_done(self) -> tuple[str, ...]:
        """Names of the checks that could not be made."""
        return tuple(check.name for check in self.checks if check.result == NOT_DONE)


def verify(
    path: str | Path,
    model: nn.Module | None = None,
    loader: Iterable[Any] | None = None,
    batches: int = 3,
    seed: int = 0,
    missing: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Verification:
    """Look at a finished run again, from its provenance.

    Args:
        path: folder of the run.
        model, loader: the model with its weights and a `make_loader` loader of the data, as the run had them. What is
            not given is not checked, and without both no batch is run again.
        batches: how many batches to run again, drawn by `seed`; every count of every image in them is compared.
        missing: why there is no "model" or no "data", and which file of the model's "code" has changed, for the result.
        options: keyword arguments of `sa.profile` that the run was made with, such as forward= and neurons=.

    Raises:
        SpikeattnError: no finished run, or files that cannot be read at all.
    """
    profile = Profile.load(path)
    checks = [_file(profile, Path(path)), *_numbers(profile)]
    settings: tuple[Difference, ...] = ()
    data = getattr(loader, "dataset", None)
    if loader is not None and not isinstance(data, Batches):
        raise SpikeattnError("verify needs a loader of spikeattn.make_loader, whose batches can be read one by one")
    stored, why = profile.provenance.get("settings", {}), dict(missing or {})
    with _threads(profile.ledger.settings.threads):
        if code := (stored.get("model") or {}).get("code"):
            checks.append(_code(code, getattr(model, "provenance", {}).get("code"), why.get("code", "")))
        if model is None:
            checks.append(Check("model", NOT_DONE, why.get("model", "the model is not at hand")))
        else:
            now = provenance_of(model, loader or (), path=stored.get("path", prepare.PLAIN))["settings"]
            unknown = {"input": None} if data is not None else {"input": None, "data": None}
            settings = tuple(differences({**stored, **unknown}, {**now, **unknown}))
            checks.append(_model(stored, now, settings))
        if model is None or data is None:
            checks.append(Check("data", NOT_DONE, why.get("data", "the data are not at hand")))
        else:
            checks.append(_data(profile, data, settings))
        if model is None or data is None or not batches:
            needs = "it needs the model and the data" if batches else "none was asked for"
            checks.append(Check("batches", NOT_DONE, needs))
        elif all(check.result != FAILED for check in checks):
            checks.append(_batches(profile, model, data, batches, seed, settings, dict(options or {})))
        else:
            checks.append(Check("batches", NOT_DONE, "what is wrong above would show in every batch"))
    return Verification(Path(path), tuple(checks), settings)


def _file(profile: Profile, folder: Path) -> Check:
    known = profile.provenance.get("counts_sha256")
    if known is None:
        return Check("file", NOT_DONE, f"model.json holds no checksum of {FILE} (an older version wrote it)")
    with (folder / FILE).open("rb") as file:
        found = file_sha256(file)
    if found != known:
        return Check("file", FAILED, f"{FILE} has sha256 {found[:16]}... and model.json says {known[:16]}...")
    return Check("file", OK, f"sha256 of {FILE} is {known[:16]}..., as model.json says")


def _numbers(profile: Profile) -> Iterator[Check]:
    """The table agrees with the ledger."""
    counts, ledger = profile.counts, profile.ledger
    rows = counts.rows
    index, skipped = rows["index"].to_numpy(), len(profile.provenance.get("skipped", ()))
    expected = ledger.settings.chosen
    if "shard" in profile.provenance:
        expected = None
    if (index[1:] <= index[:-1]).any():
        yield Check("rows", FAILED, "the rows are not in the order of the images, or one stands twice")
    elif expected is not None and len(rows) + skipped != expected:
        yield Check("rows", FAILED, f"{len(rows)} rows and {skipped} skipped images of the {expected} to be profiled")
    else:
        yield Check("rows", OK, f"{len(rows)} images and {skipped} skipped, each once")
    try:
        wrong = next(_impossible(counts), None)
    except SpikeattnError as error:
        wrong = str(error)
    if wrong:
        yield Check("counts", FAILED, wrong)
    else:
        yield Check("counts", OK, f"{len(counts.columns)} columns are whole, and no tensor spikes more than it can")


def _impossible(counts: Counts) -> Iterator[str]:
    for tensor in counts.ledger.tensors:
        nonzero, values = counts.column("nnz", tensor.name), counts.column("abs", tensor.name)
        if (nonzero < 0).any() or (nonzero > tensor.elements).any():
            impossible = nonzero.min() if (nonzero < 0).any() else nonzero.max()
            yield f"{tensor.name}: {impossible} non-zero elements of {tensor.elements}"
        if tensor.kind != "real" and (values < nonzero).any():
            yield f"{tensor.name}: a sum of values is smaller than their number"
    for synapse in counts.ledger.synapses:
        if counts.has("fan_nnz", synapse.name) and (counts.column("fan_nnz", synapse.name) < 0).any():
            yield f"{synapse.name}: a negative number of operations"


def _code(stored: Mapping[str, Any], now: Mapping[str, Any] | None, changed: str) -> Check:
    """The files that the network was made from are the run's."""
    if changed:
        return Check("code", FAILED, f"{changed}; it is not run")
    if now is None:
        return Check("code", NOT_DONE, "the model at hand was not made by load_model")
    old, new = stored.get("files", {}), now.get("files", {})
    if wrong := sorted(name for name in {**old, **new} if old.get(name) != new.get(name)):
        return Check("code", FAILED, f"{wrong[0]} has other content than the run's")
    if stored.get("sha256") != now.get("sha256"):
        return Check("code", FAILED, f"{stored.get('file')} has other content than the run's")
    return Check("code", OK, f"{len(old)} files that the model was made from are the run's")


def _model(stored: dict[str, Any], now: dict[str, Any], settings: Iterable[Difference]) -> Check:
    if known := stored.get("weights_sha256"):
        if known != now["weights_sha256"]:
            return Check("model", FAILED, f"the weights are others than the run's (sha256 {known[:16]}...)")
        return Check("model", OK, f"the weights are the run's (sha256 {known[:16]}...)")
    wrong = [d.name for d in settings if d.name.startswith("model.")]
    return Check("model", FAILED if wrong else OK, f"{', '.join(wrong) or 'nothing'} differs in its description")


def _data(profile: Profile, data: Batches, settings: Iterable[Difference]) -> Check:
    wrong = [d for d in settings if d.name.startswith("data.") and not d.mixable]
    if wrong:
        return Check("data", FAILED, f"{wrong[0].name} is {wrong[0].new!r} and was {wrong[0].old!r}")
    rows = profile.counts.rows
    ids = [data.dataset.id(i) for i in rows["index"]]
    if ids != list(rows["id"]):
        return Check("data", FAILED, "the images have other names than the run's")
    return Check("data", OK, f"{data.n_samples} images with the run's names")


def _batches(
    profile: Profile,
    model: nn.Module,
    data: Batches,
    number: int,
    seed: int,
    settings: tuple[Difference, ...],
    options: dict[str, Any],
) -> Check:
    """Run some batches again and compare every column."""
    from spikeattn.runs.run import profile as run

    present = set(profile.counts.rows["index"])
    full = [k for k, indices in enumerate(data.plan) if present.intersection(map(int, indices))]
    drawn = sorted(np.random.RandomState(seed).permutation(full)[:number].tolist())
    loader = make_loader(data.dataset, **data.choice, skip_batches=set(range(data.total)) - set(drawn))
    plain = profile.ledger.settings.path == prepare.PLAIN
    again = run(model, loader, plain=plain, **options)
    if again.ledger.hash() != profile.ledger.hash():
        return Check("batches", FAILED, "the model has another structure than the run's")
    where = np.searchsorted(profile.counts.rows["index"], again.counts.rows["index"])
    told = f"{len(drawn)} of {data.total} batches ({', '.join(map(str, drawn))}), {again.n_images} images"
    differing = [
        name
        for measure, name in again.counts.keys
        if not np.array_equal(again.counts.column(measure, name), profile.counts.column(measure, name)[where])
    ]
    if not differing:
        return Check("batches", OK, f"{told}: every count is the same")
    neurons = [t.name for t in profile.ledger.tensors if t.maker == "neuron"]
    spikes = sum(int(profile.counts.column("nnz", name)[where].sum()) for name in neurons)
    moved = sum(int(again.counts.column("nnz", name).sum()) for name in neurons) - spikes
    others = [f"{d.name} ({d.old} then, {d.new} now)" for d in settings if d.mixable]
    size = f"{len(differing)} tensors and layers differ, {moved:+d} of {spikes} spikes, the first is {differing[0]}"
    if others:
        return Check("batches", MOVED, f"{told}: {size}; other settings explain it: {', '.join(others)}")
    return Check("batches", FAILED, f"{told}: {size}, with the same settings")


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """CPU threads as the run had them, inside a block; another number sums in another order."""
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

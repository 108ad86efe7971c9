"""One profile run: batches through the model, counts into a table, a `Profile` out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spikeattn.data.loaders import batches_of, check_finite, n_samples, shuffles
from spikeattn.errors import SpikeattnError
from spikeattn.provenance import describe, device_of, first_difference, provenance_of
from spikeattn.recording import neurons as nodes
from spikeattn.recording.counting import kind_of
from spikeattn.recording.counts import Counts, batch_table, merge
from spikeattn.recording.folder import Part, PartWriter, RunFolder, join
from spikeattn.recording.ledger import Ledger
from spikeattn.recording.origins import tensors_in
from spikeattn.recording.probe import probe
from spikeattn.recording.recorder import Recorder
from spikeattn.recording.taps import Forward, Plan, call_model, plan
from spikeattn.results import Profile


def profile(
    model: nn.Module,
    loader: Iterable[Any],
    out: str | Path | None = None,
    *,
    forward: Forward = call_model,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str = "TB",
    plain: bool = True,
    resume: bool = False,
    strict: bool = False,
    progress: bool = False,
    provenance: dict[str, Any] | None = None,
) -> Profile:
    """Count every spike of `model` on every image of `loader`.

    The model runs in eval mode, without gradients, on the device it is on, and is reset before every batch; afterwards
    it is as it was. A network that is not spikeattn's own is probed first: an image may change only its own counts.

    Args:
        model: any module with SpikingJelly neurons. Around DataParallel or `torch.compile` the network inside is
            profiled, uncompiled.
        loader: batches: of `spikeattn.data.make_loader`, or (images, labels), or images. Images are [B, C, H, W] or
            [B, T, C, H, W]. Without indices of their own, images are numbered in the order they come.
        out: folder for `counts.parquet` and `model.json`; without it the counts stay in memory.
        forward: calls the model on a batch; default `model(images)`. The first tensor of what it returns is taken for
            the logits, [B, classes] or [T, B, classes].
        neurons: which modules are spiking neurons; default SpikingJelly's.
        time_steps: T, where the neurons' calls do not tell.
        layout: order of time and batch inside the model, "TB" or "BT".
        plain: run the model as it is. There is no other path yet; False is an error.
        resume: continue an interrupted run in `out`; its finished batches are not run again.
        strict: an operation on spikes that cannot be counted is an error instead of an entry in the result.
        progress: a bar on standard error.
        provenance: further entries to keep with the result.

    Raises:
        SpikeattnError: no neurons, no images, NaN, batches of different shape, an unusable folder, a network whose
            images influence each other.
    """
    if not plain:
        raise SpikeattnError("plain=False: this version has one path, the model as it is; leave plain out")
    if resume and out is None:
        raise SpikeattnError("resume needs the folder of the interrupted run: give out=")
    if not isinstance(model, nn.Module):
        raise SpikeattnError(f"the model is {type(model).__name__}; give a torch module, and other calls as forward=")
    model = nodes.unwrap(model)
    run = _Run(model, forward, {"neurons": neurons, "time_steps": time_steps, "layout": layout}, strict, provenance)
    if out is None:
        return run.execute(loader, None, progress)
    with RunFolder(out, resume) as folder:
        if resume:
            _check_settings(folder.ledger(), provenance_of(model, loader)["settings"])
        if folder.finished():
            return Profile.load(folder.path)
        return run.execute(loader, folder, progress)


class _Run:
    """The state of one call of `profile`."""

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        options: dict[str, Any],
        strict: bool,
        provenance: dict[str, Any] | None,
    ) -> None:
        self.model, self.forward, self.options, self.strict = model, forward, options, strict
        self.extra = provenance or {}
        self.device = device_of(model)
        nodes.find_neurons(model, options["neurons"])
        _check_weights(model)

    def execute(self, loader: Iterable[Any], folder: RunFolder | None, progress: bool) -> Profile:
        earlier = folder.parts() if folder is not None else []
        writer = PartWriter(folder)
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with nodes.uncompiled():
                ledger = self._pass(loader, earlier, folder, writer, progress)
        finally:
            for module, training in modes.items():
                module.training = training
            nodes.reset(self.model)
            writer.flush()
        everything = join(folder.parts() if folder is not None else writer.done)
        if ledger is None and folder is not None:
            ledger = folder.ledger()
        if everything.table is None or ledger is None:
            names = "; ".join(f"{name}: {reason}" for name, reason in everything.skipped[:3])
            if folder is not None:
                folder.discard()
            raise SpikeattnError(
                f"the loader gave no image to profile; {len(everything.skipped)} could not be read. {names}".strip()
            )
        ledger = _settle(ledger, everything)
        counts = Counts(merge([everything.table], ledger), ledger)
        skipped = [{"id": name, "reason": reason} for name, reason in everything.skipped]
        provenance = {**ledger.provenance, "skipped": skipped}
        warnings = _warnings(ledger, counts, everything, shuffles(loader))
        ledger = replace(ledger, warnings=warnings, provenance=provenance)
        counts.ledger = ledger
        if folder is None:
            return Profile(ledger, counts)
        folder.finish(counts, ledger)
        return Profile.load(folder.path)

    def _pass(
        self, loader: Iterable[Any], earlier: list[Part], folder: RunFolder | None, writer: PartWriter, progress: bool
    ) -> Ledger | None:
        """Run every batch that is in no earlier part; the ledger, or None where nothing was left to run."""
        done = {number for part in earlier for number in part.batches}
        seen = sum(len(part.skipped) + (0 if part.table is None else part.table.num_rows) for part in earlier)
        made: Plan | None = None
        recorder: Recorder | None = None
        bar = tqdm(total=n_samples(loader), initial=seen, unit="image", disable=not progress, smoothing=0.1)
        try:
            for batch in batches_of(loader, done):
                skipped = tuple((item.id, item.reason) for item in batch.skipped)
                if len(batch.images) == 0:
                    writer.add(Part((batch.number,), {}, skipped, None))
                    bar.update(len(skipped))
                    continue
                check_finite(batch)
                images = batch.images.to(self.device, non_blocking=True)
                if made is None or recorder is None:
                    made = self._plan(images, loader, folder)
                    recorder = Recorder(self.model, made).__enter__()
                nodes.reset(self.model)
                with torch.no_grad(), recorder.watching(len(images)) as tally:
                    output = self.forward(self.model, images)
                    counts = tally.collect(next(tensors_in(output), None))
                table = batch_table(counts, batch.index.tolist(), batch.ids, batch.labels.tolist())
                writer.add(Part((batch.number,), counts.flags, skipped, table))
                bar.update(len(images) + len(skipped))
        finally:
            bar.close()
            if recorder is not None:
                recorder.__exit__()
        return made.ledger if made is not None else None

    def _plan(self, images: Tensor, loader: Iterable[Any], folder: RunFolder | None) -> Plan:
        made = plan(self.model, images, forward=self.forward, **self.options)
        if not hasattr(self.model, "paper_names"):
            probe(self.model, made, images, self.forward)
        if self.strict and made.ledger.uncounted:
            listed = ", ".join(f"{u.name} ({u.op})" for u in made.ledger.uncounted[:5])
            raise SpikeattnError(
                f"strict: {len(made.ledger.uncounted)} operations on spikes cannot be counted: {listed}; run without "
                "strict to have them listed in the result"
            )
        provenance = provenance_of(self.model, loader, images) | self.extra
        ledger = replace(made.ledger, model=describe(self.model), provenance=provenance)
        if folder is not None:
            _check_same(folder.ledger(), ledger)
            folder.save_ledger(ledger)
        return replace(made, ledger=ledger)


def _check_weights(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise SpikeattnError(f"weight {name} of the model holds NaN or infinite values; load an intact checkpoint")


def _check_same(earlier: Ledger | None, now: Ledger) -> None:
    """A resumed run must be the same run, seen from its first batch."""
    if earlier is not None and earlier.hash() != now.hash():
        raise SpikeattnError("resume: the folder holds counts of another model or input size; give another folder")


def _check_settings(earlier: Ledger | None, now: dict[str, Any]) -> None:
    """A resumed run must have the settings it was started with; the ledger's hash covers the input's shape."""
    if earlier is None:
        return
    old = dict(earlier.provenance.get("settings", {}))
    if difference := first_difference({**old, "input": None}, {**now, "input": None}):
        name, was, given = difference
        raise SpikeattnError(
            f"resume: {name} is {given!r} now and was {was!r}; the counts would not belong together. Repeat the run's "
            "settings, or give another folder"
        )


def _settle(ledger: Ledger, everything: Part) -> Ledger:
    """Decide the kind of every tensor once, from what the whole run has seen."""
    flags = everything.flags
    if ledger.static_input and flags["input"][3]:
        raise SpikeattnError(
            "the model's input is the same at every time step in the first batch and varies in a later one; give "
            "frames [B, T, C, H, W] throughout, or images [B, C, H, W] throughout"
        )
    tensors = tuple(replace(t, kind=kind_of(*flags[t.name][:3])) if t.name in flags else t for t in ledger.tensors)
    return replace(ledger, tensors=tensors)


def _warnings(ledger: Ledger, counts: Counts, everything: Part, shuffled: bool) -> tuple[str, ...]:
    found = list(ledger.warnings)
    if shuffled:
        found.append(
            "shuffled: the loader shuffles, so an image's number is the order it came in; do not compare this run with "
            "another one image by image"
        )
    largest, classes = int(counts.rows["label"].max()), ledger.model.get("config", {}).get("num_classes")
    if classes is not None and largest >= classes:
        found.append(f"labels: the largest is {largest} and the model has {classes} outputs; accuracy has no meaning")
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
    if everything.skipped:
        names = ", ".join(f"{name} ({reason})" for name, reason in everything.skipped[:3])
        more = " and others, all named in model.json" if len(everything.skipped) > 3 else ""
        found.append(f"skipped: {len(everything.skipped)} images could not be read: {names}{more}")
    if ledger.uncounted:
        names = ", ".join(dict.fromkeys(u.op for u in ledger.uncounted))
        found.append(f"uncounted: {len(ledger.uncounted)} operations have no counting rule ({names})")
    return tuple(found)

"""One profile run: batches through the model, counts into a table, a `Profile` out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.boundary import arguments
from spikeattn.counting.probe import probed_plan
from spikeattn.counting.recorder import Recorder, own_passes
from spikeattn.counting.tally import OtherPath
from spikeattn.counting.transfer import Sent
from spikeattn.data.batches import Batch
from spikeattn.data.division import WHOLE, Shard, Take
from spikeattn.data.loaders import batches_of, check_finite, n_samples, shuffles
from spikeattn.errors import SpikeattnError, failing
from spikeattn.fast import prepare
from spikeattn.provenance import describe, device_of, provenance_of
from spikeattn.runs.assembly import check_origin, check_settings, finish, finish_empty, in_memory, nothing_to_profile
from spikeattn.runs.progress import Bar
from spikeattn.runs.ranks import Ranks
from spikeattn.runs.result import Profile
from spikeattn.storage.counts import batch_table
from spikeattn.storage.folder import RunFolder
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part, PartWriter, origin
from spikeattn.structure.names_file import read as names_read
from spikeattn.structure.reading import with_structure
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import Forward, call_model, check_options
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.nested_tensors import logits_in
from spikeattn.tracing.network import check_network
from spikeattn.tracing.taps import Plan

SAVE_EVERY = 30.0  # seconds


def profile(
    model: nn.Module,
    loader: Iterable[Any],
    out: str | Path | None = None,
    *,
    forward: Forward = call_model,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str = "TB",
    input: str | None = None,
    spike_output: int | None = None,
    levels: int | None = None,
    plain: bool | None = None,
    resume: bool = False,
    strict: bool = False,
    progress: bool = False,
    provenance: dict[str, Any] | None = None,
    shard: Shard | str = WHOLE,
    ranks: Ranks | None = None,
    allow_mixed: bool = False,
    save_every: float = SAVE_EVERY,
    names: str | Path | Mapping[str, Any] | None = None,
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
        time_steps: T, where the network does not tell.
        layout: "TB" or "BT"; where images and time lie is derived from the run, so it has no effect any more.
        input: "events" or "pixels", what whole numbers in the input are: events are added by value, pixels are
            multiplied. By default those in frames ([B, T, ...]) are events and those in a still image are pixels.
        spike_output: which of the tensors that a neuron of your own returns are its spikes, from 0; by default the
            first that holds whole multiples of one number, which a membrane potential does not.
        levels: the largest spike of your own neurons in units of the smallest one, such as 4 for spikes of k/4; by
            default what the images of the run show. A larger spike is an error.
        plain: True runs the model as it is; False runs a fast copy of it (`models.fast`), or is an error where there
            can be none. Unless given, a fast copy runs where it pays; `provenance["settings"]["path"]` says what ran.
        resume: continue an interrupted run in `out`; its finished batches are not run again.
        strict: an operation on spikes that cannot be counted is an error instead of an entry in the result.
        progress: a bar on standard error.
        provenance: further entries to keep with the result.
        shard: "i/n" for every n-th batch from i on; `spikeattn.runs.shards.merge_shards` joins the folders of all n.
        ranks: processes that share the work, from `spikeattn.runs.ranks.join`; every one of them calls `profile` with
            the same arguments, and gets the same result.
        allow_mixed: resume although the device, threads or versions are others than before.
        save_every: seconds of work that an interruption may cost at most.
        names: a names file (`Structure.write_names`), or a mapping as one holds it: part, block and role of what the
            structure got wrong.

    Returns:
        Profile: the counts, and what is computed from them; read from `out` where that is given.

    Raises:
        SpikeattnError: no neurons, no images, NaN, batches of different shape, an unusable folder, a network whose
            images influence each other, another rank that failed; `results.EmptyShard` for a shard of images none of
            which can be read, which is finished all the same.
    """
    shard, ranks = Shard.parse(shard), ranks or Ranks()
    save_every = arguments.real_number("save_every", save_every, 0, ": the seconds between parts")
    _check_arguments(forward, out, ranks, plain, provenance)
    check_options(time_steps, layout, input, spike_output, levels)
    switches = {"resume": resume, "strict": strict, "progress": progress, "allow_mixed": allow_mixed}
    for name, value in switches.items():
        arguments.switch(name, value)
    if out is None and (resume or shard != WHOLE or ranks.size > 1):
        raise SpikeattnError("resume, shards and ranks need the folder of the run: give out=")
    model = nodes.unwrap(model)
    check_network(model, neurons)
    options = {"neurons": neurons, "time_steps": time_steps, "layout": layout}
    options |= {"input": input, "spike_output": spike_output, "levels": levels}
    run = _Run(model, forward, options, strict, provenance)
    run.path = prepare.choose(model, plain, usual=forward is call_model and neurons is nodes.is_spiking_neuron)
    run.names = None if names is None else names_read(names)[0]
    run.shard, run.ranks, run.progress, run.save_every = shard, ranks, progress, save_every
    if out is None:
        return run.in_memory(loader)
    with run.folder(out, resume) as folder:
        return run.in_folder(loader, folder, allow_mixed)


class _Run:
    """The state of one call of `profile`."""

    shard: Shard = WHOLE
    ranks: Ranks = Ranks()
    path = prepare.PLAIN
    names: Mapping[str, Any] | None = None
    progress = False
    save_every = SAVE_EVERY
    _twice = False

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

    def in_memory(self, loader: Iterable[Any]) -> Profile:
        """The result of a run that writes nothing."""
        writer = PartWriter(None, self.save_every)
        ledger = self._execute(loader, Take(), (), None, writer)
        if ledger is None or all(part.table is None for part in writer.done):
            raise nothing_to_profile(writer.done)
        return in_memory(writer.done, ledger, shuffled=shuffles(loader))

    @contextmanager
    def folder(self, out: str | Path, resume: bool) -> Iterator[RunFolder]:
        """The folder of the run on every rank: rank 0 locks and checks it, the others follow."""
        if self.ranks.rank == 0:
            with RunFolder(out, resume) as folder:
                yield folder
        else:
            self.ranks.share(None)
            with RunFolder(out, resume, follows=True) as folder:
                yield folder

    def in_folder(self, loader: Iterable[Any], folder: RunFolder, allow_mixed: bool) -> Profile:
        """The result of a run that other processes have begun, or may have to end."""
        settings = provenance_of(self.model, loader, path=self.path)["settings"]
        earlier = self._earlier(folder, settings, allow_mixed) if self.ranks.rank == 0 else ()
        if self.ranks.rank == 0 and self.ranks.size > 1:
            folder.share()
            self.ranks.share(None)
        done = frozenset(_numbers(earlier))
        finished, done, theirs = self.ranks.share((folder.finished(), done, settings))
        check_settings(theirs, settings, f"rank {self.ranks.rank}, beside rank 0", allow_mixed)
        if finished:
            return Profile.load(folder.path)
        take = Take(done, self.shard, self.ranks.rank, self.ranks.size)
        writer = PartWriter(folder.write, self.save_every)
        self._check_shard(loader)
        self._execute(loader, take, earlier, folder, writer)
        run = done.union(*self.ranks.gather(frozenset(writer.numbers)))
        if self.ranks.rank == 0:
            self._finish(folder, loader, writer.waiting, run)
        self.ranks.gather(None)
        return Profile.load(folder.path)

    def _earlier(self, folder: RunFolder, settings: dict[str, Any], allow_mixed: bool) -> Sequence[Part]:
        """What interrupted processes have left, once it is known to belong to this run."""
        ledger = folder.ledger() if folder.resume else None
        if ledger is None:
            return ()
        check_settings(ledger.provenance.get("settings", {}), settings, "resume", allow_mixed)
        was = ledger.provenance.get("shard")
        if was != (None if self.shard == WHOLE else str(self.shard)):
            raise SpikeattnError(
                f"resume: the shard is {self.shard} now and was {was or WHOLE}; repeat it, or give another folder"
            )
        parts = folder.parts()
        check_origin(parts, ledger, allow_mixed=True)  # a mixture that exists was allowed
        return parts

    def _check_shard(self, loader: Iterable[Any]) -> None:
        batches = getattr(getattr(loader, "dataset", None), "total", None)
        if batches is not None and self.shard.index >= batches:
            raise SpikeattnError(
                f"shard {self.shard}: the run has {batches} batches, so there is none for this shard; give at most "
                f"{batches} shards, or smaller batches"
            )

    def _finish(self, folder: RunFolder, loader: Iterable[Any], unread: Sequence[Part], run: frozenset[int]) -> None:
        """The result of all batches that were run, whoever ran them."""
        parts, ledger = folder.parts(), folder.ledger()
        if missing := sorted(run - _numbers(parts) - _numbers(unread)):
            raise SpikeattnError(
                f"{folder.path}: {len(missing)} of {len(run)} batches (number {', '.join(map(str, missing[:5]))}"
                f"{' and others' if len(missing) > 5 else ''}) have gone from its parts while the run went on. The "
                "others are kept; resume runs those batches again"
            )
        unreadable = all(part.table is None for part in parts)
        if ledger is None or (unreadable and self.shard == WHOLE):
            folder.discard()
            raise nothing_to_profile([*parts, *unread])
        check_origin(parts, ledger, allow_mixed=True)  # every rank's settings have been checked when it started
        if unreadable:
            finish_empty(folder, parts, ledger)
            return
        finish(folder, parts, ledger, shuffled=shuffles(loader))

    def _execute(
        self,
        loader: Iterable[Any],
        take: Take,
        earlier: Sequence[Part],
        folder: RunFolder | None,
        writer: PartWriter,
    ) -> Ledger | None:
        """Run what is to be taken, and leave the model and torch as they were."""
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        alone = take.ranks == 1
        total = n_samples(loader, replace(take, done=frozenset()) if alone else take)
        what = None if alone else f"rank 0 of {take.ranks}"  # each sees its own share alone
        bar = Bar(total, earlier if alone else (), self.progress and take.rank == 0, what)
        try:
            with own_passes(), nodes.uncompiled(), in_eval(self.model):
                ledger = self._pass(loader, take, folder, writer, bar)
            writer.flush()
            return ledger
        finally:
            torch.backends.cudnn.benchmark = benchmark
            nodes.reset(self.model)
            bar.close()
            writer.flush()

    def _pass(
        self, loader: Iterable[Any], take: Take, folder: RunFolder | None, writer: PartWriter, bar: Bar
    ) -> Ledger | None:
        """Run every batch that is to be taken; the ledger, or None where there was none to run."""
        made: Plan | None = None
        recorder: Recorder | None = None
        sent: list[tuple[Batch, tuple[Any, ...], Sent]] = []
        try:
            for batch, mine in batches_of(loader, take):
                skipped = tuple((item.index, item.id, item.reason) for item in batch.skipped)
                if len(batch.images) == 0:
                    if mine:
                        writer.add(Part((batch.number,), {}, skipped, None))
                        bar.add(len(skipped))
                    continue
                check_finite(batch)
                images = batch.images.to(self.device, non_blocking=True)
                if made is None or recorder is None:
                    made = self._plan(images, loader, folder)
                    writer.origin = origin(made.ledger)
                    bar.start(made.ledger)
                    net = self.model if self.path == prepare.PLAIN else prepare.prepare(self.model)
                    recorder = Recorder(net, made).__enter__()
                if not mine:
                    continue
                sent.append((batch, skipped, self._count(recorder, images, made)))
                while len(sent) > (images.device.type == "cuda"):  # a GPU works on this batch meanwhile
                    self._store(*sent.pop(0), writer, bar)
        finally:
            while sent:
                self._store(*sent.pop(0), writer, bar)
            if recorder is not None:
                recorder.__exit__()
        return made.ledger if made is not None else None

    def _count(self, recorder: Recorder, images: Tensor, made: Plan) -> Sent:
        """One batch. PyTorch may run other operations on a single image than on several; then it is shown twice."""
        alone = len(images) == 1 and not made.one_image
        try:
            shown = torch.cat([images, images]) if alone and self._twice else images
            return self._pass_of(recorder, shown, len(images))
        except OtherPath:
            if not alone or self._twice:
                raise
            self._twice = True
            return self._pass_of(recorder, torch.cat([images, images]), 1)

    def _pass_of(self, recorder: Recorder, images: Tensor, kept: int) -> Sent:
        nodes.reset(recorder.model)
        name = type(recorder.model).__name__
        with torch.no_grad(), recorder.watching(len(images)) as tally:
            with failing(f"{name} fails on a batch of shape {tuple(images.shape)} and type {images.dtype}"):
                output = self.forward(recorder.model, images)
            return tally.send(logits_in(output), kept)

    def _store(self, batch: Batch, skipped: tuple[Any, ...], sent: Sent, writer: PartWriter, bar: Bar) -> None:
        """Wait for the counts of a batch, and hand them on."""
        counts = sent.result()
        table = batch_table(counts, batch.index.tolist(), batch.ids, batch.labels.tolist())
        writer.add(Part((batch.number,), counts.flags, skipped, table, extremes=counts.extremes))
        bar.add(len(batch.images) + len(skipped), counts.counts)

    def _plan(self, images: Tensor, loader: Iterable[Any], folder: RunFolder | None) -> Plan:
        made = probed_plan(self.model, images, self.forward, self.strict, **self.options)
        provenance = provenance_of(self.model, loader, images, self.path) | self.extra
        if self.shard != WHOLE:
            provenance["shard"] = str(self.shard)
        ledger = replace(made.ledger, model=describe(self.model), provenance=provenance)
        ledger = with_structure(ledger, self.model, images, self.forward, self.options["neurons"], self.names)
        if folder is not None and self.ranks.rank == 0:
            earlier = folder.ledger()
            if earlier is None:
                folder.start(ledger)
            elif earlier.hash() != ledger.hash():
                raise SpikeattnError(
                    "resume: the folder holds counts of another model or input size; give another folder"
                )
            elif self.names is not None and earlier.labels() != ledger.labels():
                raise SpikeattnError(
                    "resume: names= says other parts, blocks or roles than those that the run began with; leave it "
                    "out, and correct the finished run by Profile.named(names).save(folder)"
                )
        return replace(made, ledger=ledger)


def _numbers(parts: Iterable[Part]) -> set[int]:
    return {number for part in parts for number in part.batches}


def _check_arguments(forward: Any, out: Any, ranks: Any, plain: Any, provenance: Any) -> None:
    """Refuse arguments of `profile` of another type, before anything runs."""
    arguments.function("forward", forward, "a function of the model and a batch, such as the default model(images)")
    if out is not None:
        arguments.path("out", out)
    if not isinstance(ranks, Ranks):
        raise SpikeattnError(
            f"ranks is {arguments.shown(ranks)}; give what spikeattn.runs.ranks.join() returns, or leave it out"
        )
    if plain is not None:
        arguments.switch("plain", plain)
    if provenance is None:
        return
    try:
        json.dumps(provenance)
        known = isinstance(provenance, dict) and not {"settings", "shard"} & provenance.keys()
    except (TypeError, ValueError):
        known = False
    if not known:
        raise SpikeattnError(
            f"provenance is {arguments.shown(provenance)}; give a dict of texts, numbers, lists and dicts, as they can "
            'be kept in JSON, without the entries "settings" and "shard", which the run makes itself'
        )

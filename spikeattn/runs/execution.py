"""A run at work: its folder, its earlier parts, its batches through the model, the result of all ranks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.counting.counted_pass import own_passes
from spikeattn.counting.probe import probed_plan, refuse_uncounted
from spikeattn.counting.recorder import Recorder
from spikeattn.counting.tally import OtherPath
from spikeattn.counting.transfer import Sent
from spikeattn.data.batches import Batch
from spikeattn.data.division import WHOLE, Shard, Take
from spikeattn.data.loaders import batches_of, check_finite, n_samples, shuffles, single_images
from spikeattn.errors import SpikeattnError, failing
from spikeattn.fast import foreign, prepare
from spikeattn.fast.seen_pass import SeenPass
from spikeattn.provenance import describe, device_of, provenance_of
from spikeattn.runs.assembly import check_origin, check_settings, finish, finish_empty, in_memory, nothing_to_profile
from spikeattn.runs.axis_advice import check_time_first, order_advice
from spikeattn.runs.progress import Bar
from spikeattn.runs.ranks import Ranks
from spikeattn.runs.result import Profile
from spikeattn.storage.counts import batch_table
from spikeattn.storage.folder import RunFolder
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part, PartWriter, origin
from spikeattn.structure.reading import with_structure
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.batch_parts import call_of, turned
from spikeattn.tracing.examine import Forward, call_model
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.state import state_kept
from spikeattn.tracing.taps import Plan

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """One call of `profile` at work.

    Attributes:
        options: of `probed_plan`: neurons, time_steps, input, spike_output, levels.
        layout: "TB" or "BT", where the user says in which order the loader has time and images.
        path: what runs, see `fast.prepare.choose`.
        fuse: whether neurons and layers run by kernels, with the same spikes bit by bit (`fast.foreign`); None for
            where it pays.
        extra: further entries of the provenance.
        names: parts, blocks and roles that the user has corrected.
    """

    model: nn.Module
    forward: Forward
    options: Mapping[str, Any]
    strict: bool
    path: str
    extra: Mapping[str, Any]
    names: Mapping[str, Any] | None
    shard: Shard
    ranks: Ranks
    progress: bool | None
    save_every: float
    layout: str | None = None
    fuse: bool | None = None
    _twice: bool = False  # whether single images are shown twice, see `_count`
    _fusion: foreign.Fusion | None = None

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return device_of(self.model)

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
        bar = Bar(total, earlier if alone else (), self.progress if take.rank == 0 else False, what)
        try:
            with own_passes(), nodes.uncompiled(), state_kept(self.model), in_eval(self.model):
                ledger = self._pass(loader, take, folder, writer, bar)
            writer.flush()
            return ledger
        finally:
            torch.backends.cudnn.benchmark = benchmark
            bar.close()
            writer.flush()

    def _pass(
        self, loader: Iterable[Any], take: Take, folder: RunFolder | None, writer: PartWriter, bar: Bar
    ) -> Ledger | None:
        """Run every batch that is to be taken; the ledger, or None where there was none to run."""
        made: Plan | None = None
        recorder: Recorder | None = None
        forward = self.forward
        sent: deque[tuple[Batch, tuple[Any, ...], Sent]] = deque()
        called = call_of(self.model) if self.forward is call_model else None
        with ExitStack() as hooks:
            hooks.callback(self._store_all, sent, writer, bar)
            for batch, mine in batches_of(loader, take, self.layout, called):
                skipped = tuple((item.index, item.id, item.reason) for item in batch.skipped)
                if len(batch.images) == 0:
                    if mine:
                        writer.add(Part((batch.number,), {}, skipped, None))
                        bar.add(len(skipped))
                    continue
                check_finite(batch)
                images = batch.images.to(self.device, non_blocking=True)
                if made is None or recorder is None:
                    forward = turned(self.forward) if batch.time_first else self.forward
                    made = self._plan(images, batch, forward, loader, folder)
                    writer.origin = origin(made.ledger)
                    bar.start(made.ledger)
                    net = self.model if self.path in (prepare.PLAIN, foreign.FOLDED) else prepare.prepare(self.model)
                    recorder = hooks.enter_context(Recorder(net, made))
                    if self._fusion is not None:
                        recorder.take_from(hooks.enter_context(self._fusion))
                if not mine:
                    continue
                sent.append((batch, skipped, self._count(recorder, images, made, forward)))
                while len(sent) > (images.device.type == "cuda"):  # a GPU works on this batch meanwhile
                    self._store(*sent.popleft(), writer, bar)
        return made.ledger if made is not None else None

    def _store_all(self, sent: deque[tuple[Batch, tuple[Any, ...], Sent]], writer: PartWriter, bar: Bar) -> None:
        while sent:
            self._store(*sent.popleft(), writer, bar)

    def _count(self, recorder: Recorder, images: Tensor, made: Plan, forward: Forward) -> Sent:
        """One batch. PyTorch may run other operations on a single image than on several; then it is shown twice."""
        alone = len(images) == 1 and not made.one_image
        try:
            shown = torch.cat([images, images]) if alone and self._twice else images
            return self._pass_of(recorder, shown, len(images), forward)
        except OtherPath:
            if not alone or self._twice:
                raise
            self._twice = True
            return self._pass_of(recorder, torch.cat([images, images]), 1, forward)

    def _pass_of(self, recorder: Recorder, images: Tensor, kept: int, forward: Forward) -> Sent:
        nodes.reset(recorder.model)
        name = type(recorder.model).__name__
        with torch.no_grad(), recorder.watching(len(images)) as tally:
            recorder.show(images)
            with failing(f"{name} fails on a batch of shape {tuple(images.shape)} and type {images.dtype}"):
                output = forward(recorder.model, images)
            return tally.send(output, kept)

    def _store(self, batch: Batch, skipped: tuple[Any, ...], sent: Sent, writer: PartWriter, bar: Bar) -> None:
        """Wait for the counts of a batch, and hand them on."""
        counts = sent.result()
        table = batch_table(counts, batch.index.tolist(), batch.ids, batch.labels.tolist())
        writer.add(Part((batch.number,), counts.flags, skipped, table, extremes=counts.extremes))
        bar.add(len(batch.images) + len(skipped), counts.counts)

    def _plan(
        self, images: Tensor, batch: Batch, forward: Forward, loader: Iterable[Any], folder: RunFolder | None
    ) -> Plan:
        try:
            seen = SeenPass(lambda made: self.device.type == "cpu" and self._tries_kernels(made))
            made = probed_plan(self.model, images, forward, seen, **self.options)
        except SpikeattnError as error:
            if (advice := order_advice(self.model, images, forward, batch, self.options, error)) is not None:
                raise SpikeattnError(advice) from error
            if (advice := single_images(loader)) is not None:
                raise SpikeattnError(f"{error}. {advice[0].upper()}{advice[1:]}") from error
            raise
        if self.strict:
            refuse_uncounted(made)
        if self.layout is None:
            check_time_first(self.model, made, batch)
        provenance = provenance_of(self.model, loader, images, self.path) | dict(self.extra)
        provenance |= made.facts() | ({} if batch.targets is None else {"targets": batch.targets})
        provenance |= self._fused(made, images, forward, seen)
        if self.shard != WHOLE:
            provenance["shard"] = str(self.shard)
        warnings = made.ledger.warnings
        if self._fusion is not None and (told := self._fusion.warning()):
            logger.warning("%s", told)
            warnings = (*warnings, told)
        ledger = replace(made.ledger, model=describe(self.model), provenance=provenance, warnings=warnings)
        ledger = with_structure(ledger, self.model, images, forward, self.options["neurons"], self.names)
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

    def _tries_kernels(self, made: Plan) -> bool:
        """Whether kernels are looked for, for a network that runs as it is."""
        asked = self.fuse or (self.fuse is None and foreign.is_worth(made))
        return self.path == foreign.FOLDED or (self.path == prepare.PLAIN and asked)

    def _fused(self, made: Plan, images: Tensor, forward: Forward, seen: SeenPass) -> dict[str, Any]:
        """Find kernels for a network that runs as it is; what became of it, as entries of the provenance."""
        if not self._tries_kernels(made):
            return {}
        fold = self.path == foreign.FOLDED
        found = foreign.fuse(self.model, made, images, forward, fold, seen)
        if isinstance(found, foreign.Fusion):
            self._fusion = found
            return found.facts()
        if self.fuse or fold:
            raise foreign.refused(found, fold)
        logger.warning("%s runs as it is, slower than by kernels: %s", type(self.model).__name__, found)
        return {"fused": {"neurons": 0, "why": found}}


def _numbers(parts: Iterable[Part]) -> set[int]:
    return {number for part in parts for number in part.batches}

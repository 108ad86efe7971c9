"""One profile run: batches through the model, counts into a table, a `Profile` out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from spikeattn.boundary import arguments
from spikeattn.data.division import WHOLE, Shard
from spikeattn.errors import SpikeattnError
from spikeattn.fast import prepare
from spikeattn.runs.execution import Run
from spikeattn.runs.ranks import Ranks
from spikeattn.runs.result import Profile
from spikeattn.structure.names_file import read as names_read
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import Forward, call_model, check_options
from spikeattn.tracing.network import check_network

SAVE_EVERY = 30.0  # seconds


def profile(
    model: nn.Module,
    loader: Iterable[Any],
    out: str | Path | None = None,
    *,
    forward: Forward = call_model,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str | None = None,
    input: str | None = None,
    spike_output: int | None = None,
    levels: int | None = None,
    plain: bool | None = None,
    resume: bool = False,
    strict: bool = False,
    progress: bool | None = None,
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
        loader: batches: of `spikeattn.data.make_loader`, (images, labels), images, or dicts that name them, such as
            those of a torch DataLoader over a Hugging Face data set. Images are [B, C, H, W], [B, T, C, H, W] or
            [T, B, C, H, W], as tensors or arrays, and numbered in the order they come where they bring no number.
        out: folder for `counts.parquet` and `model.json`; without it the counts stay in memory.
        forward: calls the model on the images of a batch, as the loader gives them; default `model(images)`. The first
            tensor of what it returns is taken for the logits, [B, classes] or [T, B, classes].
        neurons: which modules are spiking neurons; default SpikingJelly's.
        time_steps: T, where the network does not tell.
        layout: "TB" where the loader gives [T, B, ...], "BT" where images come first. By default the labels tell it,
            one per image; batches that fit both, or have no labels, are taken as [B, ...], and a network whose time
            runs along that axis is an error. Where images and time lie inside the network is derived from the run.
        input: "events" or "pixels", what whole numbers in the input are: events are added by value, pixels are
            multiplied. By default those in frames ([B, T, ...]) are events and those in a still image are pixels.
        spike_output: which of the tensors that a neuron of your own returns are its spikes, from 0; by default the
            first that holds whole multiples of one number, which a membrane potential does not.
        levels: the largest spike of your own neurons in units of the smallest one, such as 4 for spikes of k/4; by
            default what the images of the run show. A larger spike is an error.
        plain: True runs the model as it is; False runs a fast copy of it (`spikeattn.fast`) or, of a network that is
            not spikeattn's own, its neurons, max-pools and batch norms by kernels that make the same spikes bit by bit;
            an error where there can be neither. Unless given, what is faster runs where it pays;
            `provenance["settings"]["path"]` and `provenance["fused"]` say what ran.
        resume: continue an interrupted run in `out`; its finished batches are not run again.
        strict: an operation on spikes that cannot be counted is an error instead of an entry in the result.
        progress: whether a bar shows images, time left and energy so far; by default on a terminal and in a notebook.
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
            images influence each other, another rank that failed; `EmptyShard` for a shard of images none of
            which can be read, which is finished all the same.
    """
    shard, ranks = Shard.parse(shard), ranks or Ranks()
    save_every = arguments.real_number("save_every", save_every, 0, ": the seconds between parts")
    _check_arguments(forward, out, ranks, plain, provenance)
    check_options(time_steps, input, spike_output, levels, layout)
    switches = {"resume": resume, "strict": strict, "allow_mixed": allow_mixed}
    switches |= {} if progress is None else {"progress": progress}
    for name, value in switches.items():
        arguments.switch(name, value)
    if out is None and (resume or shard != WHOLE or ranks.size > 1):
        raise SpikeattnError("resume, shards and ranks need the folder of the run: give out=")
    model = nodes.unwrap(model)
    check_network(model, neurons)
    options = {"neurons": neurons, "time_steps": time_steps, "input": input}
    options |= {"spike_output": spike_output, "levels": levels}
    run = Run(
        model, forward, options, strict,
        path=prepare.choose(model, plain, usual=forward is call_model and neurons is nodes.is_spiking_neuron),
        extra=provenance or {}, names=None if names is None else names_read(names)[0],
        shard=shard, ranks=ranks, progress=progress, save_every=save_every, layout=layout,
        fuse=None if plain is None else not plain,
    )  # fmt: skip
    if out is None:
        return run.in_memory(loader)
    with run.folder(out, resume) as folder:
        return run.in_folder(loader, folder, allow_mixed)


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

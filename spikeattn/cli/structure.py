"""`spikeattn structure`: what a network is made of, as a tree, and as a file to correct."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.completing import MODELS, offering
from spikeattn.cli.networks import Input, arguments_of, network, run_options
from spikeattn.cli.options import (
    Checkpoint,
    InputShape,
    Json,
    ModelArgs,
    NamesFile,
    NeuronClass,
    OwnForward,
    TimeSteps,
    Verbose,
    Weights,
    WhichWeights,
    WrongCommandLine,
    check_weights,
)
from spikeattn.cli.output import note, print_json, records
from spikeattn.cli.terminal import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikeattn.structure import Entry, Structure

SIDE = 224  # pixels: what nearly all published networks for images take


def structure(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.py:NAME|FILE.nir|RUN",
            autocompletion=offering(MODELS),
            help="A network (a FILE.py is run), or the folder of a run.",
        ),
    ],
    checkpoint: Checkpoint = None,
    weights: WhichWeights = Weights.auto,
    model_arg: ModelArgs = None,
    time_steps: TimeSteps = None,
    neuron_class: NeuronClass = None,
    forward: OwnForward = None,
    input_shape: InputShape = None,
    names: NamesFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a names file there to correct: .toml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What every layer and product of a network is: stem, blocks, q, k, v, attention, projection, MLP, head.

    It is inferred from the way of the data through one forward pass; the last column says how each is known: family,
    names file, dataflow, order (of equal operands), names, or unknown. Correct the file of --out and give it to
    `spikeattn profile --names`: tables, energies and maps follow it.

    \b
    Examples:
      spikeattn structure sdt_8_512
      spikeattn structure repository/model.py:build --model-arg depths=8 --input-shape 3,32,32 --out names.toml
      spikeattn structure runs/mine
    """
    check_weights(weights, checkpoint)
    if out is not None and out.suffix != ".toml":
        raise WrongCommandLine(f"--out {out}: a names file is written as .toml; --json prints the tables")
    if out is None and force:
        raise WrongCommandLine("--force goes with --out FILE")
    if out is not None and out.exists() and not force:
        raise WrongCommandLine(f"--out {out}: exists already; give another name, or --force to write over it")
    if Path(model).is_dir():
        from spikeattn.runs.result import Profile

        title, found = Path(model).name, Profile.load(model).structure.named(names)
    else:
        net = network(model, arguments_of(model, model_arg, time_steps), checkpoint, weights.value)
        title, found = model, _of_network(net, model, neuron_class, forward, input_shape, time_steps, names)
    if out is not None:
        found.write_names(out, force)
        note(f"wrote {out}; correct it and give it to `spikeattn profile --names {out}`")
    if as_json:
        print_json(_record(found))
    elif out is None:
        say("\n".join([f"{title}: {_summary(found)}", *_tree(found)]))


def _of_network(
    net: nn.Module,
    model: str,
    neuron_class: list[str] | None,
    forward: str | None,
    input_shape: str | None,
    time_steps: int | None,
    names: Path | None,
) -> Structure:
    from spikeattn.models.address import is_address
    from spikeattn.structure.reading import structure as structure_of

    options = run_options(net, is_address(model), neuron_class, forward, None)
    image = _image(net, input_shape, time_steps)
    return structure_of(net, image, options.get("forward"), options.get("neurons"), names)


def _image(net: nn.Module, input_shape: str | None, time_steps: int | None) -> Tensor:
    """An image of noise of the shape that the network takes; its values play no part."""
    import torch

    from spikeattn.data.dataset import ModelInput

    if input_shape is not None:
        shape = Input(input_shape).shape()
    else:
        wants = ModelInput.of(net)
        shape = [wants.channels or 3, *(wants.size or (SIDE, SIDE))]
        if wants.size is None or wants.channels is None:
            note(f"warning: the model does not say what it takes; {','.join(map(str, shape))} is assumed, unless "
                 "--input-shape says otherwise")  # fmt: skip
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))


def _summary(found: Structure) -> str:
    synapses = found.entries["synapses"]
    known = sum(e.known != "unknown" for e in synapses)
    facts = [f"{known} of {len(synapses)} layers known", f"{found.blocks} blocks"]
    facts += [f"family {found.family}"] if found.family else []
    facts += [f"tokens {_by_block(found.grid, lambda grid: f'{grid[0]}x{grid[1]}')}"] if found.grid else []
    facts += [f"class tokens {_by_block(found.class_tokens, str)}"] if found.class_tokens else []
    if found.head_counts:
        facts += [f"heads {_by_block(found.heads, lambda heads: 'without effect' if heads is None else str(heads))}"]
    return ", ".join(facts)


def _by_block(value: Any, text: Any) -> str:
    """A fact of the whole network, or of runs of blocks: "16x16 (block 0-1), 8x8 (block 2)"."""
    if not isinstance(value, dict):
        return str(text(value))
    runs = []
    for shown, group in groupby(sorted(value.items()), key=lambda item: text(item[1])):
        blocks = [block for block, _ in group]
        runs.append(f"{shown} (block {blocks[0]}{f'-{blocks[-1]}' if len(blocks) > 1 else ''})")
    return ", ".join(runs)


def _tree(found: Structure) -> Iterator[str]:
    """Layers and products below their block and part, in the order of execution."""
    rows = _in_order(found)
    widths = [max((len(text(e)) for e in rows), default=0) for text in (_role, lambda e: e.name)]
    for block, entries in groupby(rows, key=lambda e: e.block):
        if block is not None:
            yield f"block {block}"
        margin = "" if block is None else "  "
        for part, group in groupby(entries, key=lambda e: e.part):
            yield f"{margin}{part}"
            for e in group:
                beside = f"  nearest: {e.nearest}" if e.nearest else ""
                yield f"{margin}  {_role(e):<{widths[0]}}  {e.name:<{widths[1]}}  {e.known}{beside}"


def _in_order(found: Structure) -> list[Entry]:
    """Layers, and products behind the last layer of their block that comes before the projection."""
    rows = list(found.entries["synapses"])
    for product in found.entries["products"]:
        inside = [i for i, e in enumerate(rows) if e.block == product.block and e.part in ("QKV", "attention")]
        rows.insert(inside[-1] + 1 if inside else len(rows), product)
    return rows


def _role(entry: Entry) -> str:
    from spikeattn.structure.entry import shown_channels

    return shown_channels(entry.channels) or entry.role or ""


def _record(found: Structure) -> dict[str, Any]:
    from spikeattn.structure.entry import KINDS

    facts: dict[str, Any] = {"family": found.family, "blocks": found.blocks, "grid": found.grid, "heads": found.heads}
    facts["class_tokens"] = found.class_tokens
    return facts | {kind: records(found.table(kind)) for kind in KINDS}

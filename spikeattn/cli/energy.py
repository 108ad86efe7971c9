"""`spikeattn energy`: energy of a finished run, or of published rates; no forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from spikeattn.cli.completing import CONVENTIONS, offering
from spikeattn.cli.networks import rated_network
from spikeattn.cli.options import (
    CONVENTION,
    COSTS,
    ClusterByClass,
    Confidence,
    Costs,
    First,
    Json,
    ModelArgs,
    OutFile,
    Rates,
    Replicates,
    RunOrRates,
    Seed,
    TimeSteps,
    Verbose,
    WrongCommandLine,
    check_run_or_rates,
)
from spikeattn.cli.output import hand_over, note, records, sheet_text
from spikeattn.cli.printed_table import Line, Page
from spikeattn.cli.run_summary import opened, run_or_rates, title_of_rates

if TYPE_CHECKING:
    from spikeattn.boundary.notes import Note
    from spikeattn.energy import CostTable, EnergyTable


def energy(
    run: RunOrRates = None,
    rates: Rates = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --rates: the network that they belong to, or FILE.py:NAME."),
    ] = None,
    energy_models: Annotated[
        list[str] | None,
        typer.Option(
            "--energy-model",
            metavar="NAME,...",
            help="With RUN; see `spikeattn energy-models`. Several (by commas, or the option again), or all: side by "
            "side.",
        ),
    ] = None,
    off_chip: Annotated[
        bool, typer.Option("--off-chip", help="Energy model: buffers beyond the largest memory lie off the chip.")
    ] = False,
    training: Annotated[
        bool,
        typer.Option("--training", help="With RUN: one training step beside inference; needs the next two options."),
    ] = False,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Training: sgd, sgd-momentum, adam or adamw.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", min=1, help="Training: images of one update.")
    ] = None,
    costs: Costs = COSTS,
    convention: Annotated[
        str | None,
        typer.Option(
            "--convention",
            metavar="NAME,...",
            autocompletion=offering(CONVENTIONS),
            help="See `spikeattn conventions`; exact for RUN, sdt-paper for --rates. Several by commas: side by side, "
            "and what every switch makes. Training: bptt-spikes or bptt-dense.",
        ),
    ] = None,
    first_conv: First = None,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    cluster_by_class: ClusterByClass = False,
    time_steps: TimeSteps = None,
    model_arg: ModelArgs = None,
    out: OutFile = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Energy per image and part of the network, in mJ.

    Operations of a run x a cost table, under a named convention, with bootstrap intervals over the images: an
    arithmetic estimate, no measurement of a chip.

    \b
    Examples:
      spikeattn energy runs/8_512
      spikeattn energy runs/8_512 --convention sdt-paper --out energy.csv
      spikeattn energy runs/8_512 --convention exact,sdt-paper,spikformer
      spikeattn energy runs/8_512 --energy-model compute+memory --costs horowitz-45nm-int32
      spikeattn energy runs/8_512 --energy-model all
      spikeattn energy runs/8_512 --training --optimizer adam --batch-size 64
      spikeattn energy --rates table_s1.csv --model sdt_8_512 --convention input-rate --first-conv once
    """
    check_run_or_rates(run, rates)
    energy_model = ",".join(energy_models) if energy_models else None
    if run is not None and model is not None:
        energy_model, model = _renamed(energy_model, model), None
    if rates is not None and model is None:
        raise WrongCommandLine("--rates needs the model that the rates belong to, such as --model sdt_8_512")
    if rates is not None and energy_model is not None:
        raise WrongCommandLine(f"--energy-model {energy_model} needs the counts of a run; give RUN, or leave it out")
    if run is not None and (time_steps is not None or model_arg):
        raise WrongCommandLine("--time-steps and --model-arg go with --rates; a run knows its network")
    if cluster_by_class and (rates is not None or "," in (convention or "")):
        message = "--cluster-by-class is about the interval of a run; --rates and several conventions have none"
        raise WrongCommandLine(message)
    if off_chip and energy_model is None:
        message = "--off-chip belongs to an energy model with memory: give RUN --energy-model compute+memory"
        raise WrongCommandLine(message)
    if energy_model is not None and convention not in (None, CONVENTION):
        message = f"--energy-model {energy_model} counts what takes place, like --convention exact; leave that out"
        raise WrongCommandLine(message)

    if not training and (optimizer is not None or batch_size is not None):
        raise WrongCommandLine("--optimizer and --batch-size belong to a training step; give RUN --training with them")
    if training and (run is None or energy_model is not None):
        raise WrongCommandLine("--training needs the counts of a run and has a model of its own: give RUN --training")
    if training and (optimizer is None or batch_size is None):
        message = "--training needs --optimizer (sgd, sgd-momentum, adam or adamw) and --batch-size, images per update"
        raise WrongCommandLine(message)

    from spikeattn.energy import energy_from_rates, get_convention, get_costs

    prices = get_costs(costs)
    cluster: Literal["label"] | None = "label" if cluster_by_class else None
    if training:
        assert run is not None and optimizer is not None and batch_size is not None  # checked above
        from spikeattn.cli.energy_training import show_training
        from spikeattn.energy.training_rules import DEFAULT, get_optimizer, get_training_convention

        chosen, rules = get_optimizer(optimizer), get_training_convention(convention or DEFAULT)
        profile, heading, warnings = opened(run)
        times = "once" if first_conv is None else first_conv.value
        step = profile.training_energy(
            chosen, batch_size, prices, rules, times, replicates, seed, confidence, cluster=cluster
        )
        show_training(step, heading, warnings, out, as_json)
        return
    if run is not None and energy_model is not None:
        times = "once" if first_conv is None else first_conv.value
        sampling = _Sampling(replicates, seed, confidence, cluster)
        _under_models(run, energy_model, off_chip, prices, times, sampling, out, as_json)
        return
    switches = {} if first_conv is None else {"first_conv": first_conv.value}
    names = (convention or (CONVENTION if rates is None else "sdt-paper")).split(",")
    several = [get_convention(name.strip(), **switches) for name in names]
    if len(several) > 1:
        from spikeattn.cli.energy_conventions import show_conventions

        source, heading, warnings = run_or_rates(run, rates, model, model_arg, time_steps)
        start = "input-rate" if run is None else CONVENTION  # a table of rates has no exact counts
        show_conventions(source, several, start, prices, heading, warnings, out, as_json)
        return
    if run is not None:
        profile, heading, warnings = opened(run)
        table = profile.energy(prices, several[0], replicates, seed, confidence, cluster=cluster)
    else:
        assert rates is not None and model is not None  # checked above
        heading, warnings = title_of_rates(rates, model), ()
        table = energy_from_rates(rates, rated_network(model, model_arg, time_steps), several[0], prices)
    record = _energy_record(table, heading, warnings)
    hand_over(table, record, lambda: _energy_text(table, heading, warnings), out, as_json)


class _Sampling(NamedTuple):
    """How intervals are formed."""

    replicates: int
    seed: int
    confidence: float
    cluster: Literal["label"] | None = None


def _under_models(
    run: Path, names: str, off_chip: bool, costs: CostTable, first_conv: str, sampling: _Sampling, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """One model component by component, or several side by side."""
    from spikeattn.energy import get_energy_model, get_model, list_models
    from spikeattn.energy.models.catalogue import ALL

    several = [name.strip() for name in names.split(",")]
    if len(several) == 1 and several[0] in list_models():
        from spikeattn.cli.energy_components import show_components

        chosen = get_model(several[0], off_chip=off_chip)
        profile, heading, warnings = opened(run)
        parts = profile.components(costs, chosen, first_conv, *sampling)
        show_components(parts, heading, warnings, out, as_json)
        return
    from spikeattn.cli.energy_by_model import show_models

    if off_chip:
        message = f"--off-chip goes with one model of the cost table's memories, not with --energy-model {names}"
        raise WrongCommandLine(message)
    models = ALL if several == [ALL] else [get_energy_model(name) for name in several]
    profile, heading, warnings = opened(run)
    show_models(profile.energy_models(models, costs, first_conv, *sampling), heading, warnings, out, as_json)


def _renamed(energy_model: str | None, model: str) -> str:
    """The energy model of a command line in the spelling of an earlier release, RUN --model NAME."""
    if energy_model is not None:
        raise WrongCommandLine(f"--model {model} and --energy-model {energy_model}: with RUN give --energy-model alone")
    note(f"warning: with RUN --model {model} is --energy-model {model} now; --model goes in the next release")
    return model


def _energy_record(table: EnergyTable, heading: str, warnings: tuple[Note, ...]) -> dict[str, Any]:
    total = table.total
    return {
        "title": heading,
        "total_mj": total.value,
        "interval_mj": [total.low, total.high],
        "interval": total.method,
        "parts": records(table),
        "provenance": table.provenance,
        "notes": table.notes,
        "warnings": list(warnings),
    }


def _energy_text(table: EnergyTable, heading: str, warnings: tuple[Note, ...]) -> Page:
    lines: list[Line] = [
        f"energy per image, {heading}",
        f"convention  {table.convention.name}: {table.convention.source}",
        f"costs       {table.costs.name}: {table.costs.source}",
        "",
        sheet_text(table, spare=(["Mask ops"], ["Other ACs"], ["MACs"])),
        "",
    ]
    if table.total.method != "none":
        drawn = "classes, each with its images" if table.provenance.get("cluster") else "images"
        lines.append(f"interval    {table.total.confidence:.0%} over {drawn} ({table.total.method})")
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return lines

"""`spikeattn energy`: energy of a finished run, or of published rates; no forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.options import (
    CONVENTION,
    COSTS,
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
from spikeattn.cli.output import hand_over, records, sheet_text

if TYPE_CHECKING:
    from spikeattn.energy import EnergyTable


def energy(
    run: RunOrRates = None,
    rates: Rates = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With RUN the energy model: compute, compute+memory or lemaire-2022 (components apart). With --rates "
            "the network they belong to, or FILE.py:NAME.",
        ),
    ] = None,
    off_chip: Annotated[
        bool, typer.Option("--off-chip", help="Energy model: buffers beyond the largest memory lie off the chip.")
    ] = False,
    costs: Costs = COSTS,
    convention: Annotated[
        str | None,
        typer.Option(
            "--convention",
            metavar="NAME,...",
            help="See `spikeattn conventions`; exact for RUN, sdt-paper for --rates. Several by commas: side by side, "
            "and what every switch makes.",
        ),
    ] = None,
    first_conv: First = None,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
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
      spikeattn energy runs/8_512 --model compute+memory --costs horowitz-45nm-int32
      spikeattn energy --rates table_s1.csv --model sdt_8_512 --convention input-rate --first-conv once
    """
    check_run_or_rates(run, rates)
    if rates is not None and model is None:
        raise WrongCommandLine("--rates needs the model that the rates belong to, such as --model sdt_8_512")
    if run is not None and (time_steps is not None or model_arg):
        raise WrongCommandLine("--time-steps and --model-arg go with --rates; a run knows its network")
    if off_chip and (run is None or model is None):
        raise WrongCommandLine("--off-chip belongs to an energy model with memory: give RUN --model compute+memory")
    if run is not None and model is not None and convention not in (None, CONVENTION):
        raise WrongCommandLine(f"--model {model} counts what takes place, like --convention exact; leave that out")

    from spikeattn.energy import energy_from_rates, get_convention, get_costs

    if run is not None and model is not None:
        from spikeattn.cli.energy_components import show_components
        from spikeattn.cli.run_summary import opened
        from spikeattn.energy import get_model

        (profile, heading, warnings), times = opened(run), "once" if first_conv is None else first_conv.value
        parts = profile.components(costs, get_model(model, off_chip=off_chip), times, replicates, seed, confidence)
        show_components(parts, heading, warnings, out, as_json)
        return
    overrides = {} if first_conv is None else {"first_conv": first_conv.value}
    names = (convention or (CONVENTION if rates is None else "sdt-paper")).split(",")
    several = [get_convention(name.strip(), **overrides) for name in names]
    chosen, prices = several[0], get_costs(costs)
    if rates is not None:
        from spikeattn.cli.networks import rated_network

        assert model is not None
        network = rated_network(model, model_arg, time_steps)
        heading, warnings = f"{model} with the rates of {rates}", ()
        if len(several) > 1:
            from spikeattn.cli.energy_conventions import show_conventions
            from spikeattn.energy.published_rates import activity_from_rates

            activity = activity_from_rates(rates, network)
            show_conventions(activity.ledger, activity, several, "input-rate", prices, heading, warnings, out, as_json)
            return
        table = energy_from_rates(rates, network, chosen, prices)
    else:
        from spikeattn.cli.run_summary import opened

        assert run is not None
        profile, heading, warnings = opened(run)
        if len(several) > 1:
            from spikeattn.cli.energy_conventions import show_conventions
            from spikeattn.energy.activity import CountedActivity

            counted = CountedActivity(profile.ledger, profile.counts)
            show_conventions(profile.ledger, counted, several, CONVENTION, prices, heading, warnings, out, as_json)
            return
        table = profile.energy(prices, chosen, replicates, seed, confidence)
    record = _energy_record(table, heading, warnings)
    hand_over(table, record, lambda: _energy_text(table, heading, warnings), out, as_json)


def _energy_record(table: EnergyTable, heading: str, warnings: tuple[str, ...]) -> dict[str, Any]:
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


def _energy_text(table: EnergyTable, heading: str, warnings: tuple[str, ...]) -> str:
    lines = [
        f"energy per image, {heading}",
        f"convention  {table.convention.name}: {table.convention.source}",
        f"costs       {table.costs.name}: {table.costs.source}",
        f"\n{sheet_text(table)}\n",
    ]
    if table.total.method != "none":
        lines.append(f"interval    {table.total.confidence:.0%} over images ({table.total.method})")
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return "\n".join(lines)

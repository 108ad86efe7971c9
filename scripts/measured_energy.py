"""Write reports/measured/: energies that were measured on a chip beside those that energy models give.

    python scripts/measured_energy.py --pilotnet FOLDER --nir cnn_sinabs.nir --speck speck_activity.npy --nmnist FOLDER

Two networks whose weights and activity are public, no more; nothing of theirs is in this repository:

- PilotNet (LIF) on Loihi 2, of github.com/lava-nc/lava-dl: FOLDER is its tests/lava/lib/dl/netx/gts/pilotnet_lif, the
  spikes of every layer on one image and network.net, the file that the benchmark notebook runs (the same bytes). The
  energy was printed by tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb. Needs h5py.
- The N-MNIST CNN of the NIR paper, of github.com/neuromorphs/NIR, paper/02_cnn. Needs nir and sinabs. FOLDER holds
  N-MNIST as SpikingJelly lays it out, events_np/test/<class>/*.npz.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from markdown_table import markdown_table
from measured import nmnist_cnn, pilotnet

import spikeattn as sa
from spikeattn.energy.by_model import by_model
from spikeattn.energy.costs import get_costs, list_costs
from spikeattn.storage import csv_text

ROOT = Path(__file__).parents[1]
HEAD = """# Measured beside modelled

Made by `python scripts/measured_energy.py`, whose head says where the two networks come from. One network each that was
measured on a chip, as far as its activity is public. A factor is modelled / measured. No model here was fitted to these
figures, and one network says nothing about another: the factors show how far the models lie apart.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotnet", type=Path, required=True, metavar="FOLDER", help="recorded spikes, network.net")
    parser.add_argument("--nir", type=Path, required=True, metavar="FILE", help="cnn_sinabs.nir")
    parser.add_argument("--speck", type=Path, required=True, metavar="FILE", help="speck_activity.npy")
    parser.add_argument("--nmnist", type=Path, required=True, metavar="FOLDER", help="holds events_np/test")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "measured", help="default: %(default)s")
    given = parser.parse_args()

    given.out.mkdir(parents=True, exist_ok=True)
    sections = [HEAD]
    for name, page in (
        ("pilotnet", lambda: pilotnet_section(given.pilotnet)),
        ("nmnist_cnn", lambda: nmnist_section(given.nir, given.speck, given.nmnist)),
    ):
        text, figures = page()
        csv_text.save(figures, given.out / f"{name}.csv")
        sections.append(text)
    (given.out / "measured.md").write_text("\n".join(sections))
    print(given.out / "measured.md")


def figures_of(profile: sa.Profile, measured: dict[str, float]) -> pd.DataFrame:
    """mJ per inference under every energy model, and of the synaptic operations at every chip's price.

    Args:
        measured: mJ by what was measured; a factor column for each.
    """
    rows = []
    table = by_model(profile)
    for row in table[(table.side == "SNN") & (table.unit == "mJ")].to_dict("records"):
        rows.append((row["model"], row["value"], row["fidelity"], row["inside"]))
    for name in list_costs():
        if get_costs(name).has("sop") and not get_costs(name).has("mac"):  # a chip: a price per SOP alone
            energy = profile.energy(name).total.value
            rows.append((f"SOPs x {name}", energy, "survey", f"{get_costs(name).price('sop'):g} pJ per SOP"))
    frame = pd.DataFrame(rows, columns=["model", "modelled_mj", "fidelity", "inside"])
    for what, energy in measured.items():
        frame[f"factor_{what}"] = frame["modelled_mj"] / energy
    return frame


def figure_table(frame: pd.DataFrame) -> str:
    """The figures as Markdown."""
    factors = [column for column in frame.columns if column.startswith("factor_")]
    head = ["model", "mJ", *(column.replace("factor_", "/ ") for column in factors), "what is in it"]
    lines = [
        (row["model"], f"{row['modelled_mj']:.4g}", *(f"{row[each]:.3g}" for each in factors), row["inside"])
        for row in frame.to_dict("records")
    ]
    return markdown_table(head, lines, "l" + "r" * (1 + len(factors)) + "l")


def pilotnet_section(folder: Path) -> tuple[str, pd.DataFrame]:
    """PilotNet on Loihi 2: measured, and modelled from the recorded spikes."""
    profile, layers = pilotnet.profile_of(folder)
    total, dynamic = pilotnet.TOTAL_MJ, pilotnet.DYNAMIC_MJ
    figures = figures_of(profile, {"dynamic": dynamic, "total": total})
    sops, nonzero = layers["SOPs"].sum(), layers["SOPs at weights that are not 0"].sum()
    dense = layers["dense operations"].sum()
    lines = [
        (row["layer"], *(f"{row[column]:,.0f}" for column in layers.columns[1:4]), f"{row['rate']:.4f}")
        for row in layers.to_dict("records")
    ]
    lines.append(("all", f"{dense:,.0f}", f"{sops:,.0f}", f"{nonzero:,.0f}", f"{sops / dense:.4f}"))
    per_sop, per_weight, per_dense = (f"{dynamic / n * 1e9:.3g} pJ" for n in (sops, nonzero, dense))
    text = f"""## PilotNet (LIF) on Loihi 2

Measured by lava-dl's benchmark notebook: {total} mJ per inference, {dynamic} mJ of it dynamic (what remains when the
static power of the idle chip is taken off), {pilotnet.STEPS} time steps, one image again and again from the chip's
own memory.

The chip's counts of that run are not public as numbers: the notebook shows them core by core as a picture. Public are
the spikes of every layer of the same network (the same bytes of network.net) on one image, among lava-dl's tests, which
do not say whether it is the image of the notebook. The counts below are of those, {pilotnet.STEPS} steps of each layer.
The image enters as a constant current, without a weight.

{markdown_table(["layer", *layers.columns[1:4], "rate of its input"], lines, "lrrrr")}

The dynamic energy is {per_sop} per synaptic operation counted here, {per_weight} at weights that are not 0, and
{per_dense} per dense operation, the least that it can be for any image. It also holds the updates of
{pilotnet.neurons(profile):,} neurons at every step, the messages between 74 cores and the processors of the chip.
The prices that bear the name of Loihi are of its first generation and the measurement is of Loihi 2: a factor near 1
confirms neither.

{figure_table(figures)}
"""
    return text, figures


def nmnist_section(graph: Path, speck: Path, data: Path) -> tuple[str, pd.DataFrame]:
    """NIR's N-MNIST CNN: modelled; its energy was measured nowhere in public."""
    result = nmnist_cnn.run(graph, data)
    profile = result.profile
    figures = figures_of(profile, {})
    low, high = profile.summary()["accuracy_interval"]
    accuracy = profile.summary()["accuracy"]
    beside = nmnist_cnn.beside_chip(result, speck)
    lines = [(row["digit"], f"{row['speck']:,.0f}", f"{row['ours']:,.0f}", f"{row['ratio']:.2f}") for row in beside]
    chip, ours = sum(row["speck"] for row in beside), sum(row["ours"] for row in beside)
    sops = f"{profile.summary()['sops_per_image']:,.0f}"
    text = f"""## The N-MNIST CNN of NIR

No energy of this network is in its repository or, as far as we found, public elsewhere, so there is no factor. What can
be done: the graph was read through NIR into sinabs, the framework that it was exported from, and run on the
{profile.n_images} test recordings of a sample of N-MNIST, in bins of 1 ms ({profile.time_steps} steps). Accuracy
{accuracy:.1%} (95 % Wilson interval {low:.1%} to {high:.1%}); published are 98.5 % on all 10,000 (sinabs; 95.4 % on the
chip Speck). Its neurons give integer spikes, counted by value: {sops} synaptic operations per recording.

{figure_table(figures)}

Spikes of the first layer, which the repository holds for one recording per digit as the chip Speck counted them, beside
the mean over our recordings of the same digit. They are other recordings, and the chip's weights have 8 bits.

{markdown_table(["digit", "Speck, one recording", "ours, mean", "ours / Speck"], lines, "lrrr")}

All ten digits together: {chip:,.0f} on the chip, {ours:,.0f} here, ratio {ours / chip:.2f}.
"""
    return text, figures


if __name__ == "__main__":
    try:
        main()
    except sa.SpikeattnError as error:
        sys.exit(f"error: {error}")

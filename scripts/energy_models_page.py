"""Write docs/energy-models.md from the records of the energy models: one section each.

    python scripts/energy_models_page.py

The test of this script fails where the page is not what the records say.
"""

from __future__ import annotations

from pathlib import Path

from spikeattn.energy import ModelRecord, NamedModel, get_energy_model, list_energy_models
from spikeattn.energy.costs import STATUSES
from spikeattn.energy.models.record import FIDELITIES

PAGE = Path(__file__).parents[1] / "docs" / "energy-models.md"
TOP = """# Energy models by name

Written by `scripts/energy_models_page.py` from the records that `spikeattn energy-models NAME` prints.
`spikeattn energy RUN --energy-model all`, in Python `profile.energy_models()`, puts them side by side on a
run; `energy.md` says what is counted. A figure of one model is to be compared with figures of the same model alone, and
none is ever added to another.

Fidelity: {fidelities}.

Status of a constant: {statuses}.
"""


def page() -> str:
    """The whole page."""
    said = {"fidelities": _listed(FIDELITIES), "statuses": _listed(STATUSES)}
    models = map(get_energy_model, list_energy_models(own=False))
    return TOP.format(**said) + "".join(f"\n{section(model)}" for model in models)


def section(model: NamedModel) -> str:
    """One model: its record as a paragraph, two lists and a table of constants."""
    record = model.record
    unit = "no energy, no unit" if record.unit == "1" else record.unit
    lines = [
        f"## {record.name}",
        "",
        f"{record.title[:1].upper()}{record.title[1:]}.",
        "",
        f"- formula: {record.formula}",
        f"- source: {record.source}",
        f"- prices: {' and '.join(model.sides)}; unit: {unit}; fidelity: {record.fidelity}",
        f"- technology: {record.technology}; precision: {record.precision}",
        f"- inside: {'; '.join(record.inside)}",
        f"- not in it: {'; '.join(record.outside)}",
        f"- checked on: {record.checked_on}",
    ]
    if record.costs:
        lines.append("- prices of operations and memories, or bits of a word: those of the cost table (`--costs`)")
    return "\n".join([*lines, *constants(record)]) + "\n"


def constants(record: ModelRecord) -> list[str]:
    """The table of constants; nothing where there are none."""
    if not record.constants:
        return []
    rows = ["", "| constant | value | unit | status | source |", "| --- | ---: | --- | --- | --- |"]
    for each in record.constants:
        value = "of the cost table" if each.value is None else f"{each.value:g}"
        rows.append(f"| {each.name} | {value} | {each.unit} | {each.status} | {each.source} |")
    return rows


def _listed(meanings: dict[str, str]) -> str:
    return "; ".join(f"*{name}*, {meaning}" for name, meaning in meanings.items())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""`sa.report`: the page of a profile from Python, with attention as `sa.attend` gives it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.questions import answers, image_by_image
from spikeattn.boundary import arguments
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.attention_panels import panel, tiles_of
from spikeattn.reporting.figures.drawing import to_png
from spikeattn.reporting.figures.input_pictures import picture_of
from spikeattn.reporting.page.gallery import Gallery, read_gallery, rows_of, shown
from spikeattn.reporting.page.report_page import Report, write_report
from spikeattn.reporting.page.several_page import write_several
from spikeattn.reporting.study.gallery_pictures import DPI, MOST, key_of
from spikeattn.reporting.study.in_memory import layers_of, pictures_of, views_of
from spikeattn.reporting.study.meaning import meanings, promise
from spikeattn.reporting.study.summary import energy_record, image_rows
from spikeattn.reporting.study.views import energy_of
from spikeattn.reporting.tables.attention_tables import rule_of
from spikeattn.spurious import spurious_energy
from spikeattn.storage import csv_text

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile


def report(
    profile: Profile | Sequence[Profile],
    attention: Attention | str | Path | None = None,
    out: str | Path = "spikeattn-report",
    *,
    images: Any = None,
    ids: Sequence[str] | None = None,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    serif: bool = False,
) -> Report:
    """Write tables, figures and the HTML page of a profile; what `spikeattn report` writes.

    >>> sa.report(profile, attention=sa.attend(model, images), out="report")

    Args:
        profile: of `sa.profile`, `sa.record(...).profile()`, or read from a run. A list of several, such as models or
            epochs over one data set: one page that sets them beside the first, without attention.
        attention: of `sa.attend` on the same model, or the folder that `spikeattn attend` wrote; shown as a gallery.
            With `tokens=True` and the profile's numbers of the images as `indices`, the energy spent on noise is too.
        out: folder, made where it is missing; files of an earlier report there are replaced, all others stay.
        images: with an `Attention`, the batch that was attended, [B, C, H, W] or [B, T, C, H, W], for other pictures
            than those that the model was given.
        ids: names of these images; by default "image 0", "image 1", ...
        costs, convention: as of `profile.energy`.
        serif: letters with serifs in the PDFs of the figures, as in the text of most papers.

    Returns:
        Report: its files and its summary; in a notebook it shows the page.

    Raises:
        SpikeattnError: attention of another model, other images than were attended, profiles of several data sets,
            what `write_report` raises.
    """
    if isinstance(profile, (list, tuple)):
        alone = {"attention": attention, "images": images, "ids": ids, "serif": serif or None}
        return _several(profile, arguments.path("out", out), costs, convention, alone)
    if isinstance(profile, Sequence) or not hasattr(profile, "ledger"):
        raise SpikeattnError(
            f"profile is {arguments.shown(profile)}; give a profile (sa.Profile.load reads a run from its folder), or "
            "a list of several"
        )
    gallery: Gallery | None = None
    if isinstance(attention, Attention):
        gallery = gallery_of(attention, images, ids, profile, costs, convention)
    elif attention is not None:
        where = arguments.path("attention", attention)
        if images is not None or ids is not None:
            raise SpikeattnError("images and ids go with what sa.attend returned; a folder holds its own")
        gallery = read_gallery(where, profile.ledger.model.get("name"))
    return write_report(profile, arguments.path("out", out), costs, convention, gallery, serif=serif)


def _several(
    profiles: Sequence[Profile],
    out: Path,
    costs: str | Path | CostTable,
    convention: str | Convention,
    alone: Mapping[str, Any],
) -> Report:
    """The page of several profiles; `alone` holds the arguments that are about one."""
    given = [name for name, value in alone.items() if value is not None]
    if given:
        raise SpikeattnError(f"{', '.join(given)} and {len(profiles)} profiles: it is about one; leave it out")
    return write_several(profiles, out, costs, convention)


def gallery_of(
    attention: Attention,
    images: Any,
    ids: Sequence[str] | None,
    profile: Profile,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
) -> Gallery:
    """Attention in memory as the page shows it: a panel of every image, of several layers the last.

    With token counts (`attend(..., tokens=True)`) the energy spent on noise is shown too, under these costs and this
    convention.
    """
    name, model = attention.provenance["model"]["name"], profile.ledger.model.get("name")
    if name != model:
        raise SpikeattnError(
            f"attention is of {name}, and the profile of {model}; give the attention of the same model"
        )
    each = image_by_image(attention)
    names = _names(ids, len(each))
    pictures = pictures_of(attention, images)
    energy = (
        None if attention.tokens is None else spurious_energy(profile, attention, costs=costs, convention=convention)
    )
    untrained = attention.provenance["model"].get("trained") is False
    title = f"UNTRAINED {name}" if untrained else name
    layers = layers_of(attention, len(each[0].significance), len(profile.structure.attention))
    views = views_of(attention, each, title, layers[-1], len(profile.structure.attention), energy)
    rows = [row for image, one in zip(names, each, strict=True) for row in image_rows(one, title, image, layers)]
    known = attention.provenance
    network = {
        "title": title, "details": views.details, "rule": rule_of(), "model": dict(known["model"]),
        "questions": meanings(list(answers(each[0])), known["null"], known["replicates"]), "promise": promise(),
    }  # fmt: skip
    summary = {"untrained": untrained, "networks": [network], "files": [], "images": rows, "gallery": key_of(views)}
    summary |= {"provenance": known} | ({} if energy is None else {"energy": energy_record(energy, names)})
    warning = f"UNTRAINED: the weights of {name} are random; this picture describes nothing" if untrained else ""
    table, drawn = rows_of(summary), []
    for i, image in enumerate(names[:MOST]):
        seen = views.of(image, each[i], pictures[i], picture_of(pictures[i]), energy_of(energy, i))
        figure = panel(seen, warning, key=False)
        drawn.append(shown(image, io.BytesIO(to_png(figure, DPI)), table, tiles_of(figure)))
    return Gallery(None, summary, tuple(drawn), table, csv_text.write(attention.frame()).encode())


def _names(ids: Sequence[str] | None, n: int) -> list[str]:
    names = [f"image {i}" for i in range(n)] if ids is None else [str(name) for name in ids]
    if len(names) != n or len(set(names)) != n:
        raise SpikeattnError(f"ids are {len(names)} names of {n} attended images; give one for each, no two the same")
    return names

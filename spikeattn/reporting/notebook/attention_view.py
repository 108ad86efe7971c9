"""What `sa.attend` found: shares of tokens, maps over images, plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeattn.attention.bootstrap_test import QUESTIONS, Attention
from spikeattn.attention.questions import answers
from spikeattn.attention.shares_of_tokens import RULE, shares_of
from spikeattn.boundary import arguments
from spikeattn.boundary.number_format import MISSING, percent
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.reporting.figures.attention_drawing import Seen, scale_of
from spikeattn.reporting.figures.attention_overlay import draw_overlay, draw_p_values
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.drawing import NARROW
from spikeattn.reporting.figures.input_pictures import is_events, picture_of
from spikeattn.reporting.notebook.fragment import fragment, picture
from spikeattn.reporting.notebook.into_axes import axes_of
from spikeattn.reporting.study.captions import details_text, score_text
from spikeattn.reporting.study.in_memory import is_named, pictures_of
from spikeattn.reporting.study.meaning import meanings, promise
from spikeattn.reporting.tables.attention_tables import rule_of, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 3  # pictures in a cell: more would push the next one from the screen
SIDE, BAR = 3.6, 0.95  # inches of a picture, and of the scale beside it with its label
LAST = {"layer": -1, "step": -1, "head": -1}


def html(attention: Attention) -> str:
    """Shares of significant tokens, the first images, and what significant means."""
    known = attention.provenance
    pictures = []
    try:
        for i in range(min(SHOWN, len(attention.maps))):
            seen = _seen(attention, i, LAST, None)
            pictures.append({"name": seen.name, "uri": picture(panel(seen, _warning(attention)))})
    except SpikeattnError:  # without a q there is no outline; the cards say why
        pictures = []
    return fragment(
        "attention.html.j2",
        title=_title(attention),
        untrained=_untrained(attention),
        facts=_facts(attention),
        cards=[_card(question, answer) for question, answer in answers(attention).items()],
        pictures=pictures,
        left=len(attention.maps) - len(pictures),
        meanings=list(meanings(list(answers(attention)), known["null"], known["replicates"]).items()),
        promise=promise(),
    )


def plot(attention: Attention, ax: Any) -> Axes:
    """See `Attention.plot`."""
    axes = axes_of(ax, (NARROW, 3.0))
    found = answers(attention)
    draw_p_values(axes, {q: each.p.ravel() for q, each in found.items()}, {q: _share(a) for q, a in found.items()})
    return axes


def visualize(
    attention: Attention,
    i: int,
    ax: Any,
    images: Any,
    question: str,
    chosen: Mapping[str, int],
    outline: bool,
    colour_bar: bool,
) -> Axes:
    """See `Attention.visualize`."""
    if question not in QUESTIONS:
        raise unknown("question", question, QUESTIONS)
    outline, colour_bar = arguments.switch("outline", outline), arguments.switch("colour_bar", colour_bar)
    if outline:
        attention.answer(question)  # says what cannot be asked
    seen = _seen(attention, i, chosen, images, outline)
    height, width = seen.picture.shape[:2]
    axes = axes_of(ax, (SIDE + BAR * colour_bar, SIDE * height / width + 0.3))
    told = [seen.name, *_places(attention, chosen)]
    told += [f"{seen.share(question)} significant, {seen.rule}"] if outline else []
    title = f"UNTRAINED: {', '.join(told)}" if _untrained(attention) else ", ".join(told)
    draw_overlay(axes, seen, question if outline else None, title, colour_bar)
    return axes


def _seen(attention: Attention, i: int, chosen: Mapping[str, int], images: Any, outlined: bool = True) -> Seen:
    """Image i with one of its maps, ready to be drawn; the colours are the same for that map of all images."""
    n = len(attention.maps)
    if isinstance(i, bool) or not isinstance(i, int | np.integer) or not -n <= i < n:
        raise SpikeattnError(f"image {arguments.shown(i)}: the attention is of {n} images; give 0 to {n - 1}")
    i = int(i) % n
    place = _place(attention, chosen)
    each = len(attention.significance) // n
    flat = int(np.ravel_multi_index(place, attention.maps.shape[1:-2])) if place else 0
    maps = attention.maps.reshape(n, each, *attention.maps.shape[-2:])[:, flat]
    values = pictures_of(attention, images)[i]
    known = attention.provenance
    kind = str(known["statistic"])
    found = answers(attention) if outlined else {}
    return Seen(
        name=f"image {known['indices'][i]}",
        model=_title(attention),
        picture=picture_of(values),
        score=score_text(kind, attention.unit is not None) if is_named(kind) else kind,
        map=maps[i],
        significant={q: significant(answer.significance[i * each + flat]) for q, answer in found.items()},
        rule=rule_of(),
        details=details_text(kind, None, known["null"], known["replicates"], known["estimator"]),
        scale=scale_of(maps),
        events=is_events(values),
        placement=attention.placement,
    )


def _place(attention: Attention, chosen: Mapping[str, int]) -> tuple[int, ...]:
    """Where a map lies along the axes between those of the images and of the tokens."""
    place = []
    sizes = dict(zip(attention.axes, attention.maps.shape, strict=True))
    for name, number in chosen.items():
        if name not in sizes and number != -1:
            raise SpikeattnError(f"{name}={number}: the maps have no such axis; attend with {_ASKED[name]} for one")
    for name in attention.axes[1:-2]:
        size, number = sizes[name], chosen.get(name, -1)
        number = arguments.whole_number(name, number, -size, size - 1)
        place.append(number % size)
    return tuple(place)


_ASKED = {"layer": 'layer="all"', "step": 'steps="each"', "head": 'heads="each"'}


def _places(attention: Attention, chosen: Mapping[str, int]) -> list[str]:
    """Which map it is, in words, as far as there are several."""
    named = {"layer": "block"}
    pairs = zip(attention.axes[1:-2], _place(attention, chosen), strict=True)
    return [f"{named.get(name, name)} {number + 1}" for name, number in pairs]


def _facts(attention: Attention) -> list[tuple[str, str]]:
    known = attention.provenance
    sizes = list(zip(attention.axes, attention.maps.shape, strict=True))
    several = [f"{size} {name}s" for name, size in sizes[1:-2]]
    null = "exact" if known["null"] == "exact" else f"{known['null']}, B = {known['replicates']}"
    return [
        ("Images", f"{len(attention.maps)}"),
        ("Maps", " × ".join([*several, f"{sizes[-2][1]} × {sizes[-1][1]} tokens"])),
        ("Statistic", str(known["statistic"])),
        ("Null", null),
        ("p", str(known["estimator"])),
        *([("Weights", "UNTRAINED")] if _untrained(attention) else []),
    ]


def _card(question: str, answer: Any) -> dict[str, str]:
    card = {"label": f"Significant: {question}", "value": MISSING, "interval": "", "note": ""}
    try:
        shares = shares_of(answer)
    except SpikeattnError as error:
        return card | {"note": str(error)}
    least, most = (percent(float(x)).removesuffix(" %") for x in (shares.min(), shares.max()))
    said = {"interval": f"{least} to {most} %", "note": f"of tokens, {RULE}; range over maps"}
    return card | said | {"value": percent(float(shares.mean()))}


def _share(answer: Any) -> str:
    try:
        return f"{percent(float(shares_of(answer).mean()))} significant"
    except SpikeattnError:
        return "no q with so few replicates"


def _untrained(attention: Attention) -> bool:
    return attention.provenance["model"].get("trained") is False


def _title(attention: Attention) -> str:
    return str(attention.provenance["model"].get("name") or "model")


def _warning(attention: Attention) -> str:
    name = _title(attention)
    return f"UNTRAINED: the weights of {name} are random" if _untrained(attention) else ""

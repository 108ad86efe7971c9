"""Values that a figure tells where one points at it.

They are titles inside the SVG, which browsers show and the page makes its own. An artist carries its text as its gid;
`titled` turns these into `<title>` elements of the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.artist import Artist

_ONE, _MANY = "tip:", "tips:"
_GROUP, _GROUPS = (  # matplotlib quotes an attribute that holds a double quote with single ones
    re.compile(rf"<g id=(?P<quote>[\"'])(?:{prefix})(?P<text>(?:(?!(?P=quote)).)*)(?P=quote)>")
    for prefix in (_ONE, _MANY)
)
_SHAPE = re.compile(r"<defs>.*?</defs>|<(path|use)\b([^>]*)/>", re.DOTALL)


def tip(artist: Artist, text: str) -> None:
    """Give an artist the text that is shown at it."""
    artist.set_gid(_ONE + _plain(text))


def tips(collection: Artist, texts: Sequence[str]) -> None:
    """Give every path of a collection its text, in their order."""
    collection.set_gid(_MANY + "|".join(_plain(text).replace("|", "/") for text in texts))


def titled(svg: str) -> str:
    """The document with texts as titles; what has one is of class "mark"."""
    svg = _GROUP.sub(r'<g class="mark"><title>\g<text></title>', svg)
    out, start = [], 0
    for opening in _GROUPS.finditer(svg):
        end = svg.index("</g>", opening.end())
        inside = _SHAPE.sub(partial(_marked, iter(opening["text"].split("|"))), svg[opening.end() : end])
        out += [svg[start : opening.start()], "<g>", inside]
        start = end
    return "".join([*out, svg[start:]])


def _marked(texts: Iterator[str], shape: re.Match[str]) -> str:
    name, attributes = shape.groups()
    text = next(texts, None) if name else None  # a definition is no mark
    if text is None:
        return shape.group(0)
    return f'<{name} class="mark"{attributes}><title>{text}</title></{name}>'


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)

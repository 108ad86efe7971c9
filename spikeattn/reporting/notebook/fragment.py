"""A piece of HTML in the style of the page that changes nothing around it: for the output of a cell."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from spikeattn.boundary.visible_text import visible
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.drawing import inline, to_png, to_svg

PAGE, HERE = "spikeattn.reporting.page", "spikeattn.reporting.notebook"
DPI = 144  # of a picture in a cell: sharp where a screen has two pixels for one
_DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(?P<colours>[^}]*)\}\s*\}")
_PRINT = re.compile(r"@media print \{.*?\n\}\n", re.DOTALL)


def fragment(template: str, **said: Any) -> str:
    """A template of this room with the style in front; everything in it but the package's own figures is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(HERE, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # Markup is the package's own
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(said | {"style": Markup(style())})


@cache
def style() -> str:
    """The page's own style, inside one class; dark where the notebook is, and else where the reader's system is.

    Raises:
        SpikeattnError: the page's style has its dark colours elsewhere; then a cell would be light in dark notebooks.
    """
    sheet = resources.files(PAGE).joinpath("templates", "report.css").read_text(encoding="utf-8")
    own = resources.files(HERE).joinpath("templates", "fragment.css").read_text(encoding="utf-8")
    dark = _DARK.search(sheet)
    if dark is None:
        raise SpikeattnError("report.css: no dark colours of :root found, which the cells of a notebook share")
    rest = _PRINT.sub("", _DARK.sub("", sheet)).replace(":root", "&")
    return f".spikeattn.spikeattn {{\n{rest}\n{own.replace('/*dark*/', dark['colours'].strip())}}}"


def drawing(figure: Figure, description: str) -> Markup:
    """A figure as vectors in the colours of the cell; equal figures have equal names, so that a page may hold both."""
    svg = to_svg(figure)
    name = f"sa-{hashlib.sha256(svg.encode()).hexdigest()[:8]}"
    return Markup(inline(svg, name, description))


def picture(figure: Figure) -> str:
    """A figure as the data URI of a PNG on white."""
    return f"data:image/png;base64,{base64.b64encode(to_png(figure, DPI)).decode()}"

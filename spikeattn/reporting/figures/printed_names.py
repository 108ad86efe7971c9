"""Names of the Spike-driven Transformer's tensors in figures, as the paper prints them: with subscripts and a hat."""

from __future__ import annotations

import re
from collections.abc import Iterable

from matplotlib.text import Text

_NAME = re.compile(r"\b(?P<hat>Vhat)_S\b|\b(?P<plain>[VQK])_S\b")
_PRODUCT = re.compile(r"(?<=_S)\*(?=[VQK]_S\b)")
HAT, SMALL_S = "V\u0302", "\u209b"  # characters of their own, where text cannot be set as mathematics


def set_names(texts: Iterable[Text]) -> None:
    """Set the names in texts of a figure as mathematics; a text without one stays as it is, dollars and all."""
    for text in texts:
        found = text.get_text()
        if printed(found) != found:
            text.set_text(printed(found))
            text.set_parse_math(True)


def plain_names(text: str) -> str:
    """Text with the names as Unicode has them, for what a mark tells."""

    def in_unicode(name: re.Match[str]) -> str:
        return f"{HAT if name['hat'] else name['plain']}{SMALL_S}"

    return _NAME.sub(in_unicode, _PRODUCT.sub(" ⊙ ", text))


def printed(text: str) -> str:
    """Text with the names as matplotlib's mathematics; the text itself, and no mathematics, where it holds none."""
    if not _NAME.search(text):
        return text

    def set_name(name: re.Match[str]) -> str:
        return r"$\mathregular{\hat{V}_S}$" if name["hat"] else rf"$\mathregular{{{name['plain']}_S}}$"

    return _NAME.sub(set_name, _PRODUCT.sub(" ⊙ ", text.replace("$", r"\$")))

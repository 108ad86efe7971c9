"""Sentences of a paper as pieces (words, names, citations), and how they are written: LaTeX, Pandoc's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spikeattn.reporting.latex.environments import escape_latex, typewriter

LONGEST_WORD = 12  # letters of code in running text that stand on one line; a justified line can stretch by as much


@dataclass(frozen=True)
class Cite:
    """A citation, joined to the word before it."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A name as the code spells it."""

    text: str


@dataclass(frozen=True)
class Ref:
    """The table or figure that shows a number, joined to the word before it; Markdown, which has none, goes without."""

    kind: str  # "Table" or "Figure"
    label: str


Piece = str | Cite | Code | Ref
Sentence = tuple[Piece, ...]


def keys_of(sentences: Iterable[Sentence]) -> list[str]:
    """The keys that are cited, each once, in the order of their first citation."""
    return list(dict.fromkeys(key for s in sentences for piece in s if isinstance(piece, Cite) for key in piece.keys))


def to_tex(sentences: Sequence[Sentence]) -> str:
    """A paragraph for LaTeX, one sentence a line; every name is escaped."""
    return "\n".join("".join(_tex(piece) for piece in sentence) for sentence in sentences) + "\n"


def to_md(sentences: Sequence[Sentence]) -> str:
    """A paragraph in Markdown with Pandoc's citations; every name is escaped."""
    return "\n".join("".join(_md(piece) for piece in sentence) for sentence in sentences) + "\n"


def _tex(piece: Piece) -> str:
    if isinstance(piece, Cite):
        return rf"~\cite{{{','.join(piece.keys)}}}" if piece.keys else ""
    if isinstance(piece, Ref):
        return rf" ({piece.kind}~\ref{{{piece.label}}})"
    if isinstance(piece, Code):
        return typewriter(piece.text, LONGEST_WORD)
    return escape_latex(piece)


def _md(piece: Piece) -> str:
    if isinstance(piece, Ref):
        return ""
    if isinstance(piece, Cite):
        return f" [{'; '.join(f'@{key}' for key in piece.keys)}]" if piece.keys else ""
    if isinstance(piece, Code):
        text = " ".join(piece.text.split())
        ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{ticks}{text}{ticks}" if ticks == "`" else f"{ticks} {text} {ticks}"
    return re.sub(r"([\\`*_<>|\[\]#$^~@{}&])", r"\\\1", re.sub(r"\s+", " ", piece))

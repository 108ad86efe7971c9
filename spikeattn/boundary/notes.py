"""What a reader must know beside a figure: a sentence for people, and a code by which programs tell it from others."""

from __future__ import annotations


class Note(str):
    """A note or warning: the text itself, which prints and is written as any other, with a code.

    Attributes:
        code: one word or words joined by hyphens, such as "untrained"; "" where nobody gave one.
        text: the sentence without the code.
    """

    code: str
    text: str

    def __new__(cls, code: str, text: str, printed: str | None = None) -> Note:
        """Make the note "code: text", or one that prints otherwise."""
        note = super().__new__(cls, f"{code}: {text}" if printed is None else printed)
        note.code, note.text = code, text
        return note

    @classmethod
    def plain(cls, code: str, text: str) -> Note:
        """A note that prints without its code."""
        return cls(code, text, text)

    @classmethod
    def read(cls, printed: str) -> Note:
        """A note from its text: "silent: 1 of 19 ..." has the code "silent", a text without such a word has none."""
        if isinstance(printed, cls):
            return printed
        code, colon, text = printed.partition(": ")
        return cls(code, text) if colon and " " not in code else cls.plain("", printed)

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]  # what a copy or a pickle is made from
        return self.code, self.text, str(self)

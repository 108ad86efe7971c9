"""Which of the files below a folder, or in an archive, are samples; what the others are is said, never dropped.

Everything that reads many files asks here, so that a hidden folder is no class and an unknown extension no silence,
whatever the data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from spikeattn.data.dataset import printable

_LISTED = 5  # names in a sentence; a folder may hold millions
_OF_THE_SYSTEM = {  # folders that programs make for themselves, with copies and thumbnails in them
    "__macosx",  # Finder's archives
    "@eadir",  # Synology's thumbnails
    "__pycache__",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}


@dataclass(frozen=True)
class Sifted:
    """File names below one root, with '/', by what they are.

    Attributes:
        samples: those with an extension of the data set.
        hidden: those that would be samples and lie in a hidden folder, or have a hidden name.
        others: with another extension, or none.
        lost: links that lead nowhere, and have no extension of the data set.
        extensions: those of the data set.
    """

    samples: tuple[str, ...]
    hidden: tuple[str, ...]
    others: tuple[str, ...]
    lost: tuple[str, ...]
    extensions: tuple[str, ...]

    def remarks(self) -> list[str]:
        """A sentence for each kind of file that is left out."""
        said = []
        if self.hidden:
            said.append(f"{_many(self.hidden, 'file')} with a hidden name or in a hidden folder: {listed(self.hidden)}")
        if self.others:
            said.append(f"{_many(self.others, 'file')} of another extension: {self.endings()}; {self.read()}")
        if self.lost:
            said.append(f"{_many(self.lost, 'link')} to nothing: {listed(self.lost)}")
        return [f"left out: {sentence}" for sentence in said]

    def endings(self) -> str:
        """The extensions of the other files, and how many have each."""
        counts = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in self.others).most_common()
        more = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
        return ", ".join(f"{printable(ending)} ({n})" for ending, n in counts[:_LISTED]) + more

    def read(self) -> str:
        """Which extensions are read, for a message."""
        return f"read are {' '.join(self.extensions)}"


def sift(names: Iterable[str], extensions: Collection[str], lost: Collection[str] = ()) -> Sifted:
    """Sort the names of files by what they are; extensions in lower case, with their dot.

    Args:
        lost: names of links that lead nowhere. One with an extension of the data set remains a sample, which is named
            when it is read.
    """
    samples: list[str] = []
    hidden: list[str] = []
    others: list[str] = []
    dangling: list[str] = []
    nowhere = set(lost)
    for name in (*names, *nowhere):
        path = PurePosixPath(name)
        sample = path.suffix.lower() in extensions
        if any(map(is_hidden, path.parts)):
            if sample:  # nobody would take .DS_Store for data
                hidden.append(name)
        elif sample:
            samples.append(name)
        else:
            (dangling if name in nowhere else others).append(name)
    return Sifted(
        tuple(sorted(samples)), tuple(sorted(hidden)), tuple(sorted(others)), tuple(sorted(dangling)), tuple(extensions)
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by a system for itself."""
    return name.startswith(".") or name.casefold() in _OF_THE_SYSTEM


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(printable(name)) for name in names[:_LISTED]) + more


def _many(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"

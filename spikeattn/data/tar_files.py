"""The images in an uncompressed tar, read from where they lie in it: members, what links lead to, and tars within."""

from __future__ import annotations

import posixpath
import tarfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import IO

from spikeattn.data.dataset import printable
from spikeattn.data.disk import read_regular
from spikeattn.data.sifting import is_hidden
from spikeattn.errors import SpikeattnError

_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Stored:
    """Where the bytes of one image lie: a file, or a part of an uncompressed tar (`size` -1: to the end)."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        # Opened anew for each image: worker processes must not share the position in an open tar.
        return read_regular(self.path, self.offset, self.size)


@dataclass(frozen=True)
class Missing:
    """An image that an archive names and does not hold; reading it says why."""

    reason: str

    def read(self) -> bytes:
        raise ValueError(self.reason)


def members_of(path: Path, layout: str) -> dict[str, Stored | Missing]:
    """Where each file of a tar lies, by its name from the root of the archive; a tar within it is a folder.

    Of two members of one name the later counts, as when the archive is unpacked.

    Raises:
        SpikeattnError: no uncompressed tar, or a damaged one.
    """
    found: dict[str, Stored | Missing] = {}
    with path.open("rb") as file:
        archive, members = _read(file, str(path), layout)
        for name, member in _files(members, str(path)):
            stem, ending = posixpath.splitext(name)
            if isinstance(member, Missing) or ending.lower() != ".tar" or any(map(is_hidden, name.split("/"))):
                found[name] = _stored(path, member)
                continue
            where = f"{path}: the archive {printable(name)!r} in it"
            _, inside = _read(archive.extractfile(member), where, layout)
            for below, inner in _files(inside, where):
                found[f"{stem}/{below}"] = _stored(path, inner, member.offset_data)
    return found


def _read(file: IO[bytes] | None, where: str, layout: str) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
    """A tar and its members by their normal names, read to its end."""
    assert file is not None  # of a regular file
    try:
        archive = tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise SpikeattnError(f"{where} cannot be read as an uncompressed tar ({error}); {layout}") from error
    try:
        members = {_normal(member.name): member for member in archive}
    except tarfile.TarError as error:
        raise SpikeattnError(f"{where} is truncated or damaged ({error}); fetch or pack it again") from error
    # tarfile takes whatever is no header for the end, which is a block of zeros.
    file.seek(archive.offset)
    end = file.read(_BLOCK)
    if len(end) < _BLOCK:
        raise SpikeattnError(f"{where} is truncated: it lacks the mark at the end of a tar; fetch or pack it again")
    if any(end):
        raise SpikeattnError(f"{where} is damaged at byte {archive.offset}; fetch or pack it again")
    return archive, members


def _files(members: Mapping[str, tarfile.TarInfo], where: str) -> Iterator[tuple[str, tarfile.TarInfo | Missing]]:
    """Every file by its name, links in the place of what they lead to; a link to a folder holds the folder's files."""
    names = sorted(members)
    for name, member in members.items():
        if not (member.issym() or member.islnk()):
            if not member.isdir():
                yield name, member
            continue
        target = _target(name, members)
        if target is None:
            yield name, Missing(f"a link to {printable(member.linkname)!r}, which the archive does not hold")
        elif target in members and not members[target].isdir():
            yield name, members[target]
        elif f"{name}/".startswith(f"{target}/") or target == ".":
            raise SpikeattnError(
                f"{where}: {printable(name)!r} is a link to a folder that it lies in: its samples would be counted "
                "again and again; pack the archive without it"
            )
        else:
            yield from _linked(name, target, names, members)


def _linked(
    link: str, folder: str, names: list[str], members: Mapping[str, tarfile.TarInfo]
) -> Iterator[tuple[str, tarfile.TarInfo | Missing]]:
    """The files of a folder under the name of a link to it."""
    first = bisect_left(names, f"{folder}/")
    for name in takewhile(lambda name: name.startswith(f"{folder}/"), islice(names, first, None)):
        target = _target(name, members)
        alias = link + name.removeprefix(folder)
        if target is None or target not in members:
            yield alias, Missing(f"a link beyond {printable(link)!r}, which is a link itself; pack with --dereference")
        elif not members[target].isdir():
            yield alias, members[target]


def _target(name: str, members: Mapping[str, tarfile.TarInfo]) -> str | None:
    """The name of the file or folder that a member is or leads to; None where the archive does not hold it."""
    seen = {name}
    while (member := members.get(name)) is not None and (member.issym() or member.islnk()):
        if member.islnk():
            name = _normal(member.linkname)
        elif member.linkname.startswith("/"):
            return None  # a place on the machine where it was packed
        else:
            name = _normal(posixpath.join(posixpath.dirname(name), member.linkname))
        if name in seen:
            return None
        seen.add(name)
    held = name in members or name == "." or any(other.startswith(f"{name}/") for other in members)
    return name if held else None


def _stored(path: Path, member: tarfile.TarInfo | Missing, start: int = 0) -> Stored | Missing:
    """Where a member lies, in an archive that begins at byte `start` of the file."""
    if isinstance(member, Missing):
        return member
    if not member.isfile():
        return Missing("not a regular file (a pipe or a device)")
    if member.issparse():
        return Missing("a sparse file, which lies in the archive in pieces; pack it without --sparse")
    return Stored(str(path), start + member.offset_data, member.size)


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")

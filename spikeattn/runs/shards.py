"""Join the shards of one run, made in folders and on machines of their own, into the result of the whole run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from spikeattn.boundary import arguments
from spikeattn.data.division import Shard
from spikeattn.errors import SpikeattnError
from spikeattn.runs.assembly import check_origin, check_settings, finish, nothing_to_profile
from spikeattn.runs.result import Profile
from spikeattn.storage.folder import LEDGER, RunFolder, interrupted, ledger_of, parts_of
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part


@dataclass(frozen=True)
class _Piece:
    path: Path
    shard: Shard
    ledger: Ledger
    parts: list[Part]


def merge_shards(folders: Sequence[str | Path], out: str | Path, allow_mixed: bool = False) -> Profile:
    """The result of a whole run from the folders of all its shards; these stay as they are.

    `counts.parquet` is, bit for bit, what one process would have written.

    Args:
        folders: of runs made with shard=0/n to n-1/n, in any order.
        out: folder for the result; made if absent.
        allow_mixed: join shards whose device, threads or versions differ; the result says which.

    Raises:
        SpikeattnError: not a finished shard; a shard missing or given twice; other weights, data or settings; damaged.
    """
    if isinstance(folders, str) or not isinstance(folders, Iterable):
        raise SpikeattnError(f"folders is {arguments.shown(folders)}; give the folders of all shards in a list")
    paths = [arguments.path("a folder", path) for path in folders]
    if not paths:
        raise SpikeattnError("no shard to merge: give the folders that `spikeattn profile --shard i/n` wrote")
    pieces = sorted((_piece(path) for path in paths), key=lambda piece: piece.shard.index)
    first = pieces[0]
    _check_complete(pieces)
    for piece in pieces:
        if piece.ledger.labels() != first.ledger.labels() and piece.ledger.hash() == first.ledger.hash():
            raise SpikeattnError(
                f"{piece.path} and {first.path} have other parts, blocks or roles; give the same names file to all"
            )
        if piece.ledger.hash() != first.ledger.hash():
            raise SpikeattnError(f"{piece.path}: holds counts of another model or input size than {first.path}")
        old, new = (one.ledger.provenance.get("settings", {}) for one in (first, piece))
        check_settings(old, new, f"{piece.path}, beside {first.path}", allow_mixed)
        check_origin(piece.parts, piece.ledger, allow_mixed=True)
    parts = [part for piece in pieces for part in piece.parts]
    _check_batches(pieces, first.ledger)
    if all(part.table is None for part in parts):
        raise nothing_to_profile(parts)
    ledger = _start(first)
    if (Path(out) / LEDGER).is_file():
        return _merged_before(Path(out), parts, ledger)
    with RunFolder(out, again=True) as folder:
        return finish(folder, parts, ledger)


def _merged_before(out: Path, parts: Sequence[Part], ledger: Ledger) -> Profile:
    """The finished run in `out`, where it is that of these shards; merging can so be repeated whenever it ended."""
    there = Profile.load(out)
    with TemporaryDirectory(prefix="spikeattn-") as place, RunFolder(place) as folder:
        made = finish(folder, parts, ledger).ledger
    if made.to_dict() != there.ledger.to_dict():
        raise SpikeattnError(f"{out}: holds another finished run; give another folder, or delete it first")
    return there


def _piece(path: Path) -> _Piece:
    if not path.is_dir():
        raise SpikeattnError(f"{path}: no such folder; expected one that `spikeattn profile --shard i/n` wrote")
    ledger = ledger_of(path)
    if ledger is None:
        raise SpikeattnError(f"{path}: no run there; expected a folder that `spikeattn profile --shard i/n` wrote")
    shard = ledger.provenance.get("shard")
    if shard is None:
        state = "an interrupted run" if interrupted(path) else "a run"
        raise SpikeattnError(f"{path}: {state} that is no shard; only folders of --shard i/n can be merged")
    if not (path / LEDGER).is_file():
        raise SpikeattnError(f"{path}: shard {shard} is not finished; the command that made it ends it with --resume")
    return _Piece(path, Shard.parse(shard), ledger, parts_of(path))


def _check_complete(pieces: Sequence[_Piece]) -> None:
    """All shards of one division, each once."""
    first = pieces[0]
    for before, piece in zip(pieces, pieces[1:], strict=False):
        if piece.shard.of != first.shard.of:
            raise SpikeattnError(
                f"{piece.path} is shard {piece.shard} and {first.path} is shard {first.shard}: they overlap; give the "
                "shards of one division"
            )
        if piece.shard == before.shard:
            raise SpikeattnError(f"shard {piece.shard} is given twice: {before.path} and {piece.path}")
    present = {piece.shard.index for piece in pieces}
    if missing := [str(Shard(i, first.shard.of)) for i in range(first.shard.of) if i not in present]:
        raise SpikeattnError(
            f"shard {', '.join(missing)} of the run is missing ({len(pieces)} of {first.shard.of} are given); profile "
            "it with --shard, then merge all"
        )


def _check_batches(pieces: Sequence[_Piece], ledger: Ledger) -> None:
    """Every batch of the run is in one part and only one."""
    owner: dict[int, Path] = {}
    for piece in pieces:
        for part in piece.parts:
            for number in part.batches:
                if number in owner:
                    raise SpikeattnError(
                        f"batch {number} stands in {owner[number]} and in {part.source or piece.path}; a copied part "
                        "must be removed"
                    )
                owner[number] = part.source or piece.path
    data = ledger.settings.data or {}
    total = -(-data["chosen"] // data["batch_size"]) if "chosen" in data else max(owner, default=-1) + 1
    if missing := [number for number in range(total) if number not in owner]:
        of = pieces[0].shard.of
        places = sorted({str(Shard(number % of, of)) for number in missing})
        raise SpikeattnError(
            f"{len(missing)} of {total} batches are missing, the first is {missing[0]}: parts of shard "
            f"{', '.join(places)} have been removed; profile it again"
        )


def _start(piece: _Piece) -> Ledger:
    """The ledger as the whole run would have started with it."""
    ledger = Ledger.load(piece.path / "parts" / LEDGER)
    provenance = {name: entry for name, entry in ledger.provenance.items() if name != "shard"}
    return replace(ledger, provenance=provenance)

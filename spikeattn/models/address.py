"""Where a network of the user's own is: FILE.py:NAME or package.module:NAME, and the file behind it. Nothing is run."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from spikeattn.errors import SpikeattnError
from spikeattn.models.import_roots import ONCE, above, imported, is_installed, package_of


@dataclass(frozen=True)
class Address:
    """FILE.py:NAME or package.module:NAME.

    Attributes:
        text: as it was given.
        file: of the module; None for a module that is installed.
        module: its dotted name; of a file outside any package, its stem.
        name: dotted inside the module, such as "build" or "Net.small".
        folders: that are importable while it is loaded.
        hidden: a name that the file bears and by which it imports an installed package.
    """

    text: str
    file: Path | None
    module: str
    name: str
    folders: tuple[Path, ...] = ()
    hidden: str | None = None


def is_address(name: str) -> bool:
    """Whether a model is named by where its code is."""
    return ":" in name or name.endswith(".py")


def is_nir(name: str) -> bool:
    """Whether a model is named by its NIR file, which is read and not run (`nir_network`)."""
    return name.lower().endswith(".nir")


def parsed(text: str) -> Address:
    """An address, with its file and where its imports are looked for.

    Raises:
        SpikeattnError: no address, or no file or module there.
    """
    place, colon, name = text.rpartition(":")
    if not colon:
        names = _names_in(Path(text)) if Path(text).is_file() else []
        listed = f"; in it are {', '.join(names[:8])}" if names else ""
        raise SpikeattnError(f"{text!r} is a file; give FILE.py:NAME, the class or function that builds it{listed}")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        raise SpikeattnError(f"{text!r}: give FILE.py:NAME or package.module:NAME, NAME a class or a function")
    if place.endswith(".py") or "/" in place or "\\" in place or Path(place).exists():
        return _in_file(text, Path(place).expanduser(), name)
    if not all(part.isidentifier() for part in place.split(".")):
        raise SpikeattnError(f"{text!r}: {place!r} is neither a file FILE.py nor the name of a module")
    return _in_module(text, place, name)


def _in_file(text: str, file: Path, name: str) -> Address:
    if file.is_dir():
        inside = ", ".join(sorted(each.name for each in file.glob("*.py"))[:5]) or "no .py files"
        raise SpikeattnError(f"{text}: {file} is a folder; give the file in it (it holds {inside})")
    if not file.is_file():
        folder = file.parent
        near = sorted(each.name for each in folder.glob("*.py")) if folder.is_dir() else []
        hint = f"; {folder} holds {', '.join(near[:5])}" if near else ""
        raise SpikeattnError(f"{text}: there is no file {file}{hint}")
    if file.suffix != ".py":
        raise SpikeattnError(f"{text}: {file.name} is no Python file; its name must end in .py")
    file = file.resolve()
    tree = _tree(text, file)
    levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    tops = {top for node in ast.walk(tree) for top in imported(node)}
    package = package_of(file, max(levels, default=0), tops)
    root = file.parents[len(package)]
    module = ".".join([*package, file.stem]) if package else file.stem.replace(".", "_")
    folders = [root, file.parent] if package else [file.parent]
    folders += [each for each in file.parents if each in above(file)]
    hidden = file.stem if not package and file.stem in tops else None
    if hidden or module in ONCE or module in sys.stdlib_module_names:
        module += "_file"  # its name means another module, for it and for all others
    return Address(text, file, module, name, tuple(dict.fromkeys(folders)), hidden)


def _in_module(text: str, module: str, name: str) -> Address:
    """Of a module that is not installed the file, so that it is kept apart from others like any file."""
    parts, origin = module.split("."), None
    path = [str(Path.cwd()), *sys.path]
    for depth, part in enumerate(parts):
        spec = PathFinder.find_spec(part if depth == 0 else ".".join(parts[: depth + 1]), path)
        if spec is None:
            where = f"in {'.'.join(parts[:depth])}" if depth else "in this folder or among the installed packages"
            raise SpikeattnError(f"{text}: there is no module {part!r} {where}")
        path, origin = list(spec.submodule_search_locations or ()), spec.origin
    if origin is None or parts[0] in sys.modules or is_installed(Path(origin)):
        return Address(text, None, module, name)
    file = Path(origin).resolve()
    root = file.parents[len(parts) - (file.name != "__init__.py")]
    return Address(text, file, module, name, (root,))


def _tree(text: str, file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        line = "" if error.lineno is None else f", line {error.lineno}"
        raise SpikeattnError(f"{text}: {file.name} is no Python{line}: {error.msg}") from error
    except (ValueError, UnicodeDecodeError) as error:  # ValueError: null bytes
        raise SpikeattnError(f"{text}: {file.name} is no Python: {error}") from error


def _names_in(file: Path) -> list[str]:
    """Classes and functions at the top of a file, which is not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]


def file_as_written(address: Address) -> str:
    return address.text.rpartition(":")[0]


def digest_of(address: Address) -> str | None:
    return None if address.file is None else hashlib.sha256(address.file.read_bytes()).hexdigest()


def commit_of(file: Path | None) -> str | None:
    """The commit that is checked out around a file; None where there is none, or no git."""
    if file is None:
        return None
    command = ["git", "-C", str(file.parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def changed_files(record: Mapping[str, Any], text: str) -> str:
    """Which file that a network was made from is another one now; "" where all are the same. Nothing is run.

    Args:
        record: the description of a run's model, with its "code" and "functions".
        text: the address where its code is now. That there is none is no change, and said when it is loaded.
    """
    folders: list[tuple[Path, Mapping[str, str]]] = []
    with contextlib.suppress(SpikeattnError):
        address = parsed(text)
        if address.file is not None:
            folders.append((address.file.parent, record["code"].get("files") or {}))
    for function in (record.get("functions") or {}).values():
        file = Path(str(function["file"])).expanduser()
        folders.append((file.parent, {file.name: function["sha256"]}))
    for folder, known in folders:
        for name, digest in known.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is not there any more"
            if (now := hashlib.sha256(file.read_bytes()).hexdigest()) != digest:
                return f"{name} has sha256 {now[:16]}... and had {str(digest)[:16]}... in the run"
    return ""

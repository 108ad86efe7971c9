"""Folders from which a file of a published repository imports, read off its import statements and its place."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

# Cannot be loaded a second time beside the copy that runs here, so a folder's own ones of these names are not taken.
ONCE = frozenset({"numpy", "pandas", "pyarrow", "scipy", "spikeattn", "torch", "torchaudio", "torchvision", "triton"})


def is_installed(file: Path) -> bool:
    """Whether a file belongs to the environment, where modules are shared by all."""
    places = (sysconfig.get_path(each) for each in ("purelib", "platlib", "stdlib"))
    return any(file.resolve().is_relative_to(Path(place).resolve()) for place in places)


def imported(node: ast.AST) -> Iterator[str]:
    """The first parts of what an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module.partition(".")[0]


def package_of(file: Path, level: int, tops: set[str]) -> tuple[str, ...]:
    """The packages that a file must be loaded inside: none, unless it imports relatively or from its own package."""
    packages: list[str] = []
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        packages.insert(0, folder.name)
        folder = folder.parent
    own = packages if packages and (level or packages[0] in tops) else _namespace(file, tops)
    if level > len(own):  # folders without __init__.py are packages, too
        own = [each.name for each in reversed(file.parents[:level])]
    return tuple(own)


def _namespace(file: Path, tops: set[str]) -> list[str]:
    """The folders down from the nearest one that a file imports from by its name, which is no module beside it."""
    for number, folder in enumerate(file.parents[:4]):  # deeper ones are never a published repository's own
        name = folder.name
        beside = name != file.stem and (file.parent / f"{name}.py").is_file()
        if name in tops and not beside and PathFinder.find_spec(name) is None:
            return [each.name for each in reversed(file.parents[: number + 1])]
    return []


def above(file: Path) -> list[Path]:
    """Folders around a file that its imports may start from: to the root of its repository, or of its packages."""
    repository = next((each for each in file.parents if (each / ".git").exists()), None)
    if repository is not None:
        return list(file.parents[: file.parents.index(repository) + 1])
    inside = 0
    while (file.parents[inside] / "__init__.py").is_file():
        inside += 1
    return list(file.parents[: inside + 1])

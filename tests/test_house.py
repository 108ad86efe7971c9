"""The house: imports point one way, and the name of a file says where it is and hides nothing. Reads the code only."""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "spikeattn"

# From the ground up: a room may import those before it, and itself. Files of the root count as rooms of their own.
ROOMS = (
    "errors",  # what can go wrong, said once
    "compat",  # versions of others
    "boundary",  # arguments and files from outside
    "storage",  # the two files of a run
    "tracing",  # what a forward pass does
    "models",  # what the package brings
    "provenance",  # of a model, data and settings
    "structure",  # what a network is made of
    "fast",  # prepared copies
    "counting",
    "data",
    "stats",
    "energy",
    "attention",
    "runs",  # from loader to result
    "training",  # in the loop where a network is trained
    "spurious",  # attention x energy
    "reporting",
    "cli",
    "__main__",
)
ROOT = "spikeattn"  # the package's own __init__, which hands names on; no file of the package imports them from there


@cache
def modules() -> Mapping[str, Path]:
    """Every file by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """What each file imports of the package: at the top, inside functions, and for the type checker alone."""
    found: dict[str, set[str]] = {name: set() for name in modules()}
    for name, path in modules().items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found[name].update(module for target in _targets(node, package) if (module := _module(target)))
        found[name].discard(name)
    return {name: frozenset(targets) for name, targets in found.items()}


def _targets(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        base = ".".join(part for part in (base, node.module) if part)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _module(target: str) -> str:
    """The file that a dotted name is in; "" of another package."""
    while target and target not in modules():
        target = target.rpartition(".")[0]
    return target


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ROOT


def circle(arrows: Mapping[str, frozenset[str]]) -> list[str]:
    """One way round, from a name back to it; empty if there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1][::-1]  # it lists what comes first in front
    return []


def test_the_checks_see_a_circle_and_every_import():
    assert circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}) == []
    assert set(circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")})) == {"a", "b", "c"}
    source = """
import spikeattn.errors
from ..boundary import schema
if TYPE_CHECKING:
    from spikeattn.runs import Profile
def lazy():
    from .costs import get_costs, Cost
"""
    found = {_module(t) for node in ast.walk(ast.parse(source)) for t in _targets(node, "spikeattn.energy")}
    assert {"spikeattn.errors", "spikeattn.boundary.schema", "spikeattn.runs", "spikeattn.energy.costs"} <= found
    assert imports()["spikeattn.energy.rules"] >= {"spikeattn.errors", "spikeattn.storage.ledger"}
    assert len(modules()) > 100


def test_no_circle_of_imports_between_files():
    """Lazy imports count: a circle that is put off until the first call is one all the same."""
    assert not circle(imports()), " -> ".join(circle(imports()))


def test_every_room_is_in_the_order():
    assert {room(name) for name in modules()} - {ROOT} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_no_room_imports_one_above_it(name):
    below = {ROOT: -1} | {room: place for place, room in enumerate(ROOMS)}
    up = [
        f"{source} imports {target}"
        for source, targets in imports().items()
        for target in sorted(targets)
        if room(source) == name and below[room(target)] > below[name]
    ]
    assert not up, "\n".join(up)


def test_no_file_takes_names_from_the_package_itself():
    """`spikeattn` hands on what the rooms have: a file that imported it would import everything."""
    assert [name for name, targets in imports().items() if ROOT in targets and name != ROOT] == []


def test_no_file_is_named_like_a_module_of_the_standard_library():
    """A file run as a script, or a folder on the path, would stand in for it. The command `profile` is in its file."""
    named = {name for name in modules() if name.rpartition(".")[2] in sys.stdlib_module_names}
    assert named <= {"spikeattn.cli.profile"}


def test_no_room_has_a_file_of_the_same_name_as_a_neighbour():
    """Neighbours are rooms of one folder; in `cli` a file bears the name of its command."""
    places: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for name, path in modules().items():
        folder = path.parent
        if path.stem != "__init__" and room(name) != "cli" and folder != PACKAGE:
            places[folder.parent, path.stem].append(name)
    assert [names for names in places.values() if len(names) > 1] == []


def test_no_file_is_named_like_its_room_or_a_room_beside_it():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert [name for name in modules() if Counter(name.split("."))[name.rpartition(".")[2]] > 1] == []
    inside = {name for name in modules() if name.count(".") > 1 and room(name) != "cli"}
    assert {name for name in inside if name.rpartition(".")[2] in rooms} <= {"spikeattn.energy.models"}


def test_no_file_of_the_root_is_named_like_a_public_function():
    """Importing `spikeattn.profile` would replace `spikeattn.profile(...)`."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    ]
    assert "profile" in names
    top = {name.rpartition(".")[2] for name in modules() if name.count(".") == 1}
    assert top & set(names) <= {"structure"}  # the room itself is public


# Of Python 3.11 and newer, by module; ruff knows the syntax of 3.10 and not what its library lacks.
NEWER = {
    "tomllib": {"*"},
    "importlib.resources.abc": {"*"},
    "enum": {"StrEnum", "ReprEnum", "verify"},
    "datetime": {"UTC"},
    "hashlib": {"file_digest"},
    "contextlib": {"chdir"},
    "typing": {"Self", "Never", "LiteralString", "Required", "NotRequired", "Unpack", "assert_never", "override"},
    "itertools": {"batched"},
    "math": {"cbrt", "exp2", "sumprod"},
}


def test_only_compat_takes_names_that_python_3_10_lacks():
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if room(name) != "compat" else ():
            if isinstance(node, ast.ImportFrom) and node.module in NEWER:
                wanted = {alias.name for alias in node.names} | {"*"}
            elif isinstance(node, ast.Import):
                wanted = {"*"} if any("*" in NEWER.get(alias.name, ()) for alias in node.names) else set()
                found += [f"{name}: import of {alias.name}" for alias in node.names if wanted]
                continue
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in NEWER:
                wanted, node = {node.attr}, ast.ImportFrom(module=node.value.id, names=[], level=0)
            else:
                continue
            found += [f"{name}: {node.module}.{each}" for each in wanted & NEWER[str(node.module)]]
    assert not found, "spikeattn.compat.python_names has these: " + ", ".join(found)


# What stands elsewhere, or not at all, in a version that the package runs on; and who may import it all the same.
BY_VERSION = ("spikingjelly", "timm.layers", "timm.models._", "torch.nn.attention", "torch.utils.flop_counter", "nir")
KNOWS = {"spikeattn.models.neuron_backend", "spikeattn.energy.published_networks"}  # of SpikingJelly 2, which they name


def test_only_compat_knows_versions():
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if room(name) != "compat" else ():
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                targets = [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f"{name} imports {target}" for target in targets if target.startswith(BY_VERSION)]
    assert {each.partition(" ")[0] for each in found} <= KNOWS, "\n".join(found)

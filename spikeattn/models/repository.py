"""A folder of a user's Python files, importable for the time of a block and from within its own code, and only there.

Each of its modules stands in `sys.modules` under a name of its own (`own_code_<digest>.<name>`) for good, so that
pickling, `inspect` and `torch.compile` find it, and under the name by which the files import each other while one of
them imports. Two repositories with a `utils.py` each so get their own, also in an import inside `forward`.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from spikeattn.compat.absent import absent
from spikeattn.compat.old_modules import OldModules
from spikeattn.compat.old_names import patched
from spikeattn.compat.replacements import Replacements
from spikeattn.models.import_roots import ONCE

# Neurons are known by the name of the module that defines them, so a copy that a repository brings keeps its names.
_FRAMEWORKS = frozenset({"brainpy", "norse", "sinabs", "snntorch", "spikingjelly"})
# An import that a file itself expects to fail.
_EXPECTED = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}

# Of the networks that were made from them; modules of a network's own are looked for there.
REPOSITORIES: WeakKeyDictionary[nn.Module, Repository] = WeakKeyDictionary()
_lock = threading.RLock()  # sys.modules is one for all threads


class Repository:
    """The files that a user's file imports from its own folders.

    Attributes:
        file: the user's file.
        folders: where modules are looked for, in this order, before all other places.
        replaced: what the files asked for and got something else for.
        sources: sha256 of every file that was run or that such a file imports by name, by path.
    """

    def __init__(self, file: Path, folders: Sequence[Path], hidden: str | None = None) -> None:
        """Nothing is run yet. `hidden`: a name that, although the file bears it, means an installed package."""
        self.file, self.folders, self._hidden = file, [str(folder) for folder in folders], hidden
        self.replaced = Replacements()
        self.sources: dict[str, str] = {}
        self._modules: dict[str, ModuleType] = {}  # by the name under which they import each other
        self._tops: set[str] = set()
        self._expected: dict[str, set[int]] = {}  # by file, the lines of imports that may fail
        self._asked, self._path = "", list(sys.path)
        self._listed: dict[str, set[str]] = {}  # by folder, the names of the modules in it
        self._depth = 0
        self._finder, self._old = _Folders(self), OldModules(self.replaced)
        self._room = _room(file)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Its modules importable, and old names and arguments taken."""
        with self.importable(), patched(self.replaced):
            yield

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Its modules importable; afterwards `sys.modules` and `sys.path` are what they were."""
        with _lock:
            if self._depth:
                yield
                return
            self._depth += 1
            path = self._path = list(sys.path)
            names = self._names()
            hidden = _taken({name for name in sys.modules if name.partition(".")[0] in names})
            self._show()
            sys.meta_path.insert(0, self._finder)
            sys.meta_path.append(self._old)
            try:
                yield
            finally:
                sys.meta_path.remove(self._finder)
                sys.meta_path.remove(self._old)
                self._old.leave()
                self._hide()
                sys.modules.update(hidden)
                self.folders = self._places()
                sys.path[:] = path
                self._depth -= 1

    def run(self, name: str, file: Path) -> ModuleType:
        """The module of a file, run unless it was; call it inside `loading`."""
        names = self._names()
        own = (module for each, module in list(sys.modules.items()) if each.partition(".")[0] in names)
        loaded = next((module for module in own if _is_of(module, file)), None)
        if loaded is not None:
            return loaded
        if "." in name:  # inside a package, whose __init__ runs first
            return self._import(name, {}, {}, ("*",), 0)
        spec = spec_from_file_location(name, file, loader=_Source(name, str(file), self))
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        self._tops.add(name)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module

    def modules(self) -> Mapping[str, ModuleType]:
        """Its modules, by the names under which they import each other."""
        return dict(self._modules)

    def close(self) -> None:
        """Forget everything, after a load that failed."""
        for name in [name for name in sys.modules if name == self._room or name.startswith(f"{self._room}.")]:
            del sys.modules[name]

    def relative(self, path: str) -> str:
        """A path of one of its files as the records name it, from the folder of the user's file."""
        return Path(os.path.relpath(path, self.file.parent)).as_posix()

    def plain(self, text: str) -> str:
        """A text with the names of modules as the files have them."""
        return text.replace(f"{self._room}.", "")

    def prepare(self, module: ModuleType, source: bytes, tree: ast.Module) -> None:
        """Before a file runs: imports that it makes, now or later, find its own folders."""
        file, name = str(module.__file__), module.__name__
        self.sources[file] = hashlib.sha256(source).hexdigest()
        self._expected[file] = _expected_failures(tree)
        for late in self._imported(tree):
            self.sources.setdefault(str(late), hashlib.sha256(late.read_bytes()).hexdigest())
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        if name.partition(".")[0] not in _FRAMEWORKS and not hasattr(module, "__path__"):
            module.__name__ = f"{self._room}.{name}"
            sys.modules.setdefault(self._room, ModuleType(self._room))
            sys.modules[module.__name__] = module

    def found(self, name: str, spec: ModuleSpec | None) -> ModuleSpec | None:
        """A spec of one of its modules, with our loader where it is a Python file."""
        if spec is not None:
            self._tops.add(name.partition(".")[0])
            if isinstance(spec.loader, SourceFileLoader) and spec.origin is not None:
                spec.loader = _Source(name, spec.origin, self)
        return spec

    def top(self, name: str) -> ModuleSpec | None:
        """A module of that name in its folders; None where an installed one is meant."""
        if name in ONCE or name == self._hidden or (name in sys.stdlib_module_names and name != self._asked):
            return None
        specs = (PathFinder.find_spec(name, [folder]) for folder in self._places())
        spec = next((each for each in specs if each is not None), None)
        if spec is not None and spec.origin is None and _installed(name):
            return None  # a folder without __init__.py stands behind any module, as in Python
        return self.found(name, spec)

    def inside(self, name: str, path: Sequence[str]) -> ModuleSpec | None:
        """A module in one of its packages."""
        if name.partition(".")[0] not in self._tops:
            return None
        return self.found(name, PathFinder.find_spec(name, path))

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """`__import__` of its files."""
        with self.importable():
            asked, self._asked = self._asked, name.partition(".")[0] if level == 0 else ""
            try:
                return builtins.__import__(name, globals, locals, fromlist, level)
            except ModuleNotFoundError as error:
                missing = error.name or ""
                if level or not (name == missing or name.startswith(f"{missing}.")) or "*" in (fromlist or ()):
                    raise
                line = sys._getframe(1).f_lineno
                own = missing.partition(".")[0] in self._tops
                if own or line in self._expected.get(str((globals or {}).get("__file__")), ()):
                    raise
                self.replaced.say(f"{missing}: not installed; imported and not used so far")
                top = name.partition(".")[0]
                if not fromlist and top in sys.modules:
                    return sys.modules[top]
                return absent(name if fromlist else top, missing)
            finally:
                self._asked = asked

    def _imported(self, tree: ast.Module) -> Iterator[Path]:
        """The files that a file imports by name from its folders, also those that it will import only when called."""
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                beneath = name.replace(".", "/")
                files = (Path(f, each) for f in self._places() for each in (f"{beneath}.py", f"{beneath}/__init__.py"))
                first = next((file for file in files if file.is_file()), None)
                if first is not None and name.partition(".")[0] in self._names():
                    yield first

    def _places(self) -> list[str]:
        """Its folders, and those that its files have put on `sys.path`."""
        added = (str(Path(each).resolve()) for each in sys.path if each not in self._path)
        return list(dict.fromkeys([*self.folders, *added]))

    def _names(self) -> set[str]:
        """Names, up to the first dot, of modules in its folders: what bears them in `sys.modules` is another's."""
        for folder in self._places():
            if folder not in self._listed:
                self._listed[folder] = set(_modules_in(Path(folder)))
        listed = set().union(*self._listed.values())
        return self._tops | (listed - ONCE - {self._hidden or ""} - sys.stdlib_module_names)

    def _show(self) -> None:
        for name, module in self._modules.items():
            sys.modules[name] = module
            if hasattr(module, "__path__"):
                module.__name__ = name

    def _hide(self) -> None:
        """Take its modules out of `sys.modules`, and leave them there under the names that nobody else has."""
        for name in [name for name in sys.modules if name.partition(".")[0] in self._tops]:
            module = sys.modules.pop(name)
            self._modules[name] = module
            if name.partition(".")[0] in _FRAMEWORKS or not isinstance(getattr(module, "__name__", None), str):
                continue
            sys.modules.setdefault(self._room, ModuleType(self._room))
            sys.modules[f"{self._room}.{name}"] = module
            module.__name__ = f"{self._room}.{name}"
            for value in list(vars(module).values()):  # what a package's own __init__ defines
                if isinstance(value, type | FunctionType) and value.__module__ == name:
                    value.__module__ = module.__name__


class _Folders(MetaPathFinder):
    """Finds the modules of a repository before all others."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._repository.top(name) if path is None else self._repository.inside(name, path)


class _Source(SourceFileLoader):
    """Runs a file from its source: no compiled copy is read or written, so what is hashed is what runs."""

    def __init__(self, name: str, path: str, repository: Repository) -> None:
        super().__init__(name, path)
        self._repository = repository

    def exec_module(self, module: ModuleType) -> None:
        """Run the file with imports that find its own folders."""
        source = Path(self.path).read_bytes()
        tree = ast.parse(source, self.path)
        self._repository.prepare(module, source, tree)
        exec(compile(source, self.path, "exec", dont_inherit=True), vars(module))


def _expected_failures(tree: ast.Module) -> set[int]:
    """Lines of the imports that stand in a `try` whose handler takes their failure."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(_takes_import_error(handler) for handler in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
        if isinstance(inner, ast.Import | ast.ImportFrom)
        for line in range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)
    }


def _takes_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    named = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(each, ast.Name) and each.id in _EXPECTED for each in named)


def _taken(names: set[str]) -> dict[str, ModuleType]:
    """Modules out of `sys.modules`, by name."""
    return {name: sys.modules.pop(name) for name in names}


def _installed(name: str) -> bool:
    found = PathFinder.find_spec(name)
    return found is not None and found.origin is not None


def _modules_in(folder: Path) -> Iterator[str]:
    """Names of the modules in a folder; a folder without __init__.py stands behind any other module."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.suffix == ".py":
            yield entry.stem
        elif (entry / "__init__.py").is_file():
            yield entry.name


def _is_of(module: Any, file: Path) -> bool:
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and Path(path).resolve() == file


def _room(file: Path) -> str:
    """A name for its modules that no other has: the same in every process, unless a file is loaded several times."""
    digest = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name, number = f"own_code_{digest}", 1
    while name in sys.modules:
        number += 1
        name = f"own_code_{digest}_{number}"
    return name

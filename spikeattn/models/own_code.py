"""A network of the user's own by its address: FILE.py:NAME or package.module:NAME, NAME a class or a function.

The file is run: name only files that you trust. It may be one of a published repository, unedited; what its imports and
its constructor ask for and this environment no longer has is replaced by `spikeattn.compat`, and recorded.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
import logging
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from spikeattn.boundary.arguments import shown
from spikeattn.boundary.literals import read_value
from spikeattn.compat import old_names
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.ann import AnnTransformer
from spikeattn.models.repository import ONCE, Repository
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.tracing.neurons import is_spiking_neuron, unwrap

logger = logging.getLogger(__name__)

_LONGEST = 300  # characters of a user's message; the cause keeps the whole
_REPOSITORIES: WeakKeyDictionary[nn.Module, Repository] = WeakKeyDictionary()


class Word(str):
    """An argument as it was typed: a literal, or text where the parameter's default is a text."""


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


def build_own(text: str, arguments: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """The module that a user's class or function makes, in eval mode.

    Args:
        text: the address.
        arguments: of the factory; a `Word` is read as its parameter wants it.
        pretrained: handed on to a factory that has a parameter of that name.

    Returns:
        The module; its `provenance` holds name, config, whether it is trained (None: not known) and "code": file,
        factory, arguments, git commit, sha256 of the file and of all files it was made from, what was replaced.

    Raises:
        SpikeattnError: no such file, name or argument; whatever the file or the factory raises, with its line.
    """
    address = parsed(text)
    repository = _repository(address)
    try:
        with repository.loading(), _watched_weights() as loads:
            with _explained(f"{address.text} cannot be loaded", repository):
                module = _module(address, repository)
            target = _target(address, module)
            given = _arguments(address, target, arguments, pretrained)
            loads.clear()  # what the file did when it was loaded is not this model's
            with _explained(f"the factory {address.name} of {address.text} fails", repository):
                model = target(**given.arguments)
            _check_result(address, model)
            model = unwrap(model)
            with _explained(f"{address.text}: eval() fails", repository):
                model.eval()
        old_names.check_dynamics(model)
    except SpikeattnError:
        repository.close()
        raise
    _REPOSITORIES[model] = repository
    _describe(model, address, given, repository, trained=None if loads or pretrained or given.pretrained else False)
    if told := list(repository.replaced):
        logger.warning("%s: %s", address.text, "; ".join(told))
    return model


def function_at(text: str, model: nn.Module, option: str) -> Callable[..., Any]:
    """A function by its address; from the model's own modules where they hold its file.

    Its file and sha256 are added to the model's provenance, as "code" of its own.
    """
    address = parsed(text)
    repository = _REPOSITORIES.get(model)
    if repository is None or address.file is None or str(address.file) not in repository.sources:
        repository = _repository(address)
    with repository.loading():
        with _explained(f"{option} {address.text} cannot be loaded", repository):
            module = _module(address, repository)
        found = _target(address, module)
    if not isinstance(found, Callable):  # type: ignore[arg-type]
        raise SpikeattnError(f"{option} {address.text} is {shown(found)}; give a function of the model and its images")
    model.provenance.setdefault("functions", {})[option.lstrip("-")] = {  # type: ignore[union-attr]
        "file": _file_as_given(address), "name": address.name, "sha256": _digest(address)
    }  # fmt: skip
    return found


def neuron_predicate(model: nn.Module, names: list[str]) -> Callable[[nn.Module], bool]:
    """Says of a module whether it is a spiking neuron: one of the table, or of the classes named.

    Args:
        names: bare, of a class in the model's own files or of one of its modules; or dotted, of an importable module.

    Raises:
        SpikeattnError: no such class, several of that name, or one that no module of the model is of.
    """
    classes = tuple(_neuron_class(model, name) for name in names)
    return lambda module: isinstance(module, classes) or is_spiking_neuron(module)


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
    tops = {top for node in ast.walk(tree) for top in _imported(node)}
    package = _package(file, max(levels, default=0), tops)
    root = file.parents[len(package)]
    module = ".".join([*package, file.stem]) if package else file.stem.replace(".", "_")
    folders = [root, file.parent] if package else [file.parent]
    folders += [each for each in file.parents if each in _above(file)]
    hidden = file.stem if not package and file.stem in tops else None
    if hidden or module in ONCE or module in sys.stdlib_module_names:
        module += "_file"  # its name means another module, for it and for all others
    return Address(text, file, module, name, tuple(dict.fromkeys(folders)), hidden)


def _in_module(text: str, module: str, name: str) -> Address:
    """Of a module that is not installed the file, so that it is kept apart from others like any file."""
    parts = module.split(".")
    path = [str(Path.cwd()), *sys.path]
    for depth, part in enumerate(parts):
        spec = PathFinder.find_spec(part if depth == 0 else ".".join(parts[: depth + 1]), path)
        if spec is None:
            where = f"in {'.'.join(parts[:depth])}" if depth else "in this folder or among the installed packages"
            raise SpikeattnError(f"{text}: there is no module {part!r} {where}")
        path = list(spec.submodule_search_locations or ())
    if spec.origin is None or parts[0] in sys.modules or _is_installed(Path(spec.origin)):
        return Address(text, None, module, name)
    file = Path(spec.origin).resolve()
    root = file.parents[len(parts) - (file.name != "__init__.py")]
    return Address(text, file, module, name, (root,))


def _is_installed(file: Path) -> bool:
    """Whether a file belongs to the environment, where modules are shared by all."""
    places = (sysconfig.get_path(each) for each in ("purelib", "platlib", "stdlib"))
    return any(file.resolve().is_relative_to(Path(place).resolve()) for place in places)


def _imported(node: ast.AST) -> Iterator[str]:
    """The first parts of what an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module.partition(".")[0]


def _package(file: Path, level: int, tops: set[str]) -> tuple[str, ...]:
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


def _above(file: Path) -> list[Path]:
    """Folders around a file that its imports may start from: to the root of its repository, or of its packages."""
    repository = next((each for each in file.parents if (each / ".git").exists()), None)
    if repository is not None:
        return list(file.parents[: file.parents.index(repository) + 1])
    inside = 0
    while (file.parents[inside] / "__init__.py").is_file():
        inside += 1
    return list(file.parents[: inside + 1])


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


def _repository(address: Address) -> Repository:
    file = address.file if address.file is not None else Path(address.module)
    return Repository(file, address.folders, address.hidden)


def _module(address: Address, repository: Repository) -> ModuleType:
    if address.file is None:
        return import_module(address.module)
    return repository.run(address.module, address.file)


def _target(address: Address, module: ModuleType) -> Any:
    """What NAME is.

    Raises:
        SpikeattnError: it is not there; the closest names are in the message.
    """
    found: Any = module
    for part in address.name.split("."):
        if not hasattr(found, part):
            names = [key for key, value in vars(found).items() if isinstance(value, type | FunctionType)]
            own = [key for key in names if vars(found)[key].__module__ == getattr(module, "__name__", "")] or names
            raise unknown(f"class or function of {address.text.rpartition(':')[0]}", address.name, own)
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise SpikeattnError(f"{address.text} is {shown(found)}; give a class, or a function that returns the network")
    return found


@dataclass(frozen=True)
class _Given:
    """Arguments of a factory: as it gets them, and all that it runs with, as JSON has them."""

    arguments: dict[str, Any]
    all: dict[str, Any]
    pretrained: bool = False


def _arguments(address: Address, target: Any, arguments: Mapping[str, Any], pretrained: bool) -> _Given:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # written in C
        signature = inspect.Signature([inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)])
    parameters = signature.parameters
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if pretrained and "pretrained" not in named:
        raise SpikeattnError(
            f"{address.text} takes no pretrained; give its weights as checkpoint= (--checkpoint FILE). Pretrained "
            "weights come with models of this package and of timm"
        )
    given = dict(arguments) | ({"pretrained": True} if pretrained else {})
    for key, value in given.items():
        if key not in named and not anything:
            if not named:
                raise SpikeattnError(f"{address.text} takes no arguments; leave out {key}")
            raise unknown(f"argument of {address.text}", key, named)
        if isinstance(value, Word):
            text = key in named and isinstance(named[key].default, str)
            given[key] = str(value) if text else read_value(value)
    missing = [name for name, parameter in named.items() if parameter.default is parameter.empty and name not in given]
    if missing:
        raise SpikeattnError(
            f"{address.text} needs {', '.join(missing)}; give --model-arg {missing[0]}=VALUE for each of them, or "
            "keyword arguments of load_model"
        )
    defaults = {name: p.default for name, p in named.items() if p.default is not p.empty}
    whole = {key: _plain(value) for key, value in (defaults | given).items()}
    return _Given(given, whole, bool(given.get("pretrained")))


def _plain(value: Any) -> Any:
    """A value as JSON holds it; of what it cannot hold, what it is."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return shown(value)


def _check_result(address: Address, model: Any) -> None:
    if isinstance(model, nn.Module):
        if "_modules" in vars(model):
            return
        raise SpikeattnError(f"{address.text}: {type(model).__name__}.__init__ must call super().__init__() first")
    if isinstance(model, old_names.Absent):
        raise SpikeattnError(f"{address.text} returns {model!r}")
    inside = " with a module in it" if isinstance(model, tuple | list) and any(
        isinstance(each, nn.Module) for each in model) else ""  # fmt: skip
    raise SpikeattnError(
        f"{address.text} returns {shown(model)}{inside}, and no torch module; give a class, or a function that "
        "returns the network alone"
    )


@contextmanager
def _watched_weights() -> Iterator[list[str]]:
    """The modules into which weights are loaded inside the block: then nobody here knows whether they are trained."""
    loads: list[str] = []
    load = nn.Module.load_state_dict

    def load_state_dict(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        loads.append(type(self).__name__)
        return load(self, *args, **kwargs)

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]
    try:
        yield loads
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]


def _describe(model: nn.Module, address: Address, given: _Given, repository: Repository, trained: bool | None) -> None:
    own = getattr(model, "provenance", None)
    own = {key: _plain(value) for key, value in own.items()} if isinstance(own, Mapping) else {}
    cls = type(model)
    ours = isinstance(model, SpikeDrivenTransformer | AnnTransformer)  # whose twins are made from their own arguments
    unknown_weights = {"checkpoint": None, "sha256": None, "weights": None, "card": {}}
    known = {
        "name": f"{address.module.rpartition('.')[2].removesuffix('_file')}:{address.name}",
        "trained": trained,
        "notes": ["the factory loads weights itself"] if trained is None else [],
        "config": _plain(model.config) if ours else given.all,
    }
    model.provenance = {  # type: ignore[assignment]
        **unknown_weights,
        **known,
        **own,
        "class": f"{repository.plain(cls.__module__)}.{cls.__qualname__}",
        "code": {
            "file": _file_as_given(address),
            "factory": address.name,
            "arguments": {key: given.all[key] for key in given.arguments},
            "commit": _commit(address.file),
            "sha256": _digest(address),
            "files": {repository.relative(path): digest for path, digest in sorted(repository.sources.items())},
            "replaced": list(repository.replaced),
        },
    }


def _file_as_given(address: Address) -> str:
    return address.text.rpartition(":")[0]


def _digest(address: Address) -> str | None:
    return None if address.file is None else hashlib.sha256(address.file.read_bytes()).hexdigest()


def _commit(file: Path | None) -> str | None:
    """The commit that is checked out around a file; None where there is none, or no git."""
    if file is None:
        return None
    command = ["git", "-C", str(file.parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _neuron_class(model: nn.Module, name: str) -> type:
    home, _, last = name.rpartition(".")
    used = {cls for module in model.modules() for cls in type(module).__mro__ if issubclass(cls, nn.Module)}
    repository = _REPOSITORIES.get(model)
    room = repository.modules() if repository is not None else {}
    if home:
        candidates = {cls for cls in used if cls.__qualname__ == last and _is_home(cls.__module__, home)}
        if not candidates:
            with contextlib.suppress(ImportError, ValueError):
                value = vars(room.get(home) or import_module(home)).get(last)
                candidates = {value} if isinstance(value, type) else set()
    else:
        candidates = {cls for cls in used if cls.__name__ == last}
        candidates = candidates or {
            value for module in room.values() if isinstance(value := vars(module).get(last), type)
        }
    plain = repository.plain if repository is not None else str
    if not candidates:
        known = {cls.__name__ for cls in used} - {"Module"}
        raise unknown("class of a neuron (--neuron-class)", name, known)
    if len(candidates) > 1:
        where = ", ".join(sorted(f"{plain(cls.__module__)}.{cls.__qualname__}" for cls in candidates))
        raise SpikeattnError(f"--neuron-class {name}: there are several, {where}; give one of these")
    found = candidates.pop()
    if found is nn.Module or found not in used:
        raise SpikeattnError(f"--neuron-class {name}: no module of the model is a {found.__name__}")
    return found


def _is_home(module: str, home: str) -> bool:
    return module == home or module.endswith(f".{home}")


@contextmanager
def _explained(what: str, repository: Repository) -> Iterator[None]:
    """Whatever a user's file raises, as one sentence with the line of it."""
    try:
        yield
    except SystemExit as error:
        where = _where(error.__traceback__, repository)
        raise SpikeattnError(
            f"{what}: it ends the program (exit {error.code}){where}; a file must not read the command line when it is "
            'imported: put that under if __name__ == "__main__"'
        ) from error
    except Exception as error:  # a user's file can raise anything
        reason = str(error) if isinstance(error, SpikeattnError) else _reason(error)
        where = _where(error.__traceback__, repository)
        raise SpikeattnError(f"{what}: {repository.plain(reason)}{where}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _where(traceback: TracebackType | None, repository: Repository) -> str:
    """The last line of the user's own code in a traceback."""
    found = ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file in repository.sources or file == str(repository.file):
            found = f" ({repository.relative(file)}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return found

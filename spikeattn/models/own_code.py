"""A network of the user's own by its address: FILE.py:NAME or package.module:NAME, NAME a class or a function.

The file is run: name only files that you trust. It may be one of a published repository, unedited; what its imports and
its constructor ask for and this environment no longer has is replaced by `spikeattn.compat`, and recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from spikeattn.boundary.arguments import shown
from spikeattn.compat.absent import Absent
from spikeattn.compat.spikingjelly_version import is_current
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.address import Address, commit_of, digest_of, file_as_written, parsed
from spikeattn.models.ann import AnnTransformer
from spikeattn.models.configs import note
from spikeattn.models.factory_arguments import FactoryArguments, factory_arguments, plain
from spikeattn.models.repository import REPOSITORIES, Repository
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.models.user_errors import explained
from spikeattn.tracing.neurons import unwrap

logger = logging.getLogger(__name__)


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
            with explained(f"{address.text} cannot be loaded", repository):
                module = _module(address, repository)
            target = _target(address, module)
            given = factory_arguments(address, target, arguments, pretrained)
            loads.clear()  # what the file did when it was loaded is not this model's
            with explained(f"the factory {address.name} of {address.text} fails", repository):
                model = target(**given.arguments)
            _check_result(address, model)
            model = unwrap(model)
            with explained(f"{address.text}: eval() fails", repository):
                model.eval()
        if is_current():  # older neurons call what a class derived from them changes
            from spikeattn.compat.old_neurons import check_dynamics

            check_dynamics(model)
    except SpikeattnError:
        repository.close()
        raise
    REPOSITORIES[model] = repository
    _describe(model, address, given, repository, trained=None if loads or pretrained or given.pretrained else False)
    if told := list(repository.replaced):
        logger.warning("%s: %s", address.text, "; ".join(told))
    return model


def function_at(text: str, model: nn.Module, option: str) -> Callable[..., Any]:
    """A function by its address; from the model's own modules where they hold its file.

    Its file and sha256 are added to the model's provenance, as "code" of its own.
    """
    address = parsed(text)
    repository = REPOSITORIES.get(model)
    if repository is None or address.file is None or str(address.file) not in repository.sources:
        repository = _repository(address)
    with repository.loading():
        with explained(f"{option} {address.text} cannot be loaded", repository):
            module = _module(address, repository)
        found = _target(address, module)
    if not callable(found):
        raise SpikeattnError(f"{option} {address.text} is {shown(found)}; give a function of the model and its images")
    provenance: Any = model.provenance
    provenance.setdefault("functions", {})[option.lstrip("-")] = {
        "file": file_as_written(address), "name": address.name, "sha256": digest_of(address)
    }  # fmt: skip
    return found


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


def _check_result(address: Address, model: Any) -> None:
    if isinstance(model, nn.Module):
        if "_modules" in vars(model):
            return
        raise SpikeattnError(f"{address.text}: {type(model).__name__}.__init__ must call super().__init__() first")
    if isinstance(model, Absent):
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

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]  # for the time of the block
    try:
        yield loads
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]  # as it was


def _describe(
    model: nn.Module, address: Address, given: FactoryArguments, repository: Repository, trained: bool | None
) -> None:
    own = getattr(model, "provenance", None)
    own = {key: plain(value) for key, value in own.items()} if isinstance(own, Mapping) else {}
    cls = type(model)
    ours = isinstance(model, SpikeDrivenTransformer | AnnTransformer)  # whose twins are made from their own arguments
    unknown_weights: dict[str, Any] = {"checkpoint": None, "sha256": None, "weights": None, "card": {}}
    known = {
        "name": f"{address.module.rpartition('.')[2].removesuffix('_file')}:{address.name}",
        "trained": trained,
        "notes": ["the factory loads weights itself"] if trained is None else [],
        "config": plain(model.config) if ours else given.all,
    }
    provenance = {
        **unknown_weights,
        **known,
        **own,
        "class": f"{repository.plain(cls.__module__)}.{cls.__qualname__}",
        "code": {
            "file": file_as_written(address),
            "factory": address.name,
            "arguments": {key: given.all[key] for key in given.arguments},
            "commit": commit_of(address.file),
            "sha256": digest_of(address),
            "files": {repository.relative(path): digest for path, digest in sorted(repository.sources.items())},
            "replaced": list(repository.replaced),
        },
    }
    note(model, provenance=provenance)

"""Every energy model by name: those of the files beside this one, and those that a user registers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from spikeattn.boundary.arguments import shown
from spikeattn.energy.models.record import NamedModel
from spikeattn.errors import SpikeattnError, unknown

ALL = "all"
FIRST = "compute"  # what the others are held against
_registered: dict[str, NamedModel] = {}


@cache
def _shipped() -> dict[str, NamedModel]:
    """The models of every file of this folder that has `NAMED_MODELS`: `compute`, other energies, what is no energy."""
    folder = import_module(__package__)
    modules = (import_module(f"{folder.__name__}.{each.name}") for each in iter_modules(folder.__path__))
    models = [model for module in modules for model in getattr(module, "NAMED_MODELS", ())]
    models.sort(key=lambda model: (model.name != FIRST, model.record.unit != "mJ", model.record.fidelity != "analytic"))
    return {model.name: model for model in models}


def register_energy_model(model: NamedModel) -> NamedModel:
    """Make an energy model known by its name, for `by_model` and `spikeattn energy-models`; returns it.

    The model stays known for as long as the program runs. Registering the same name again replaces one's own model.

    Raises:
        SpikeattnError: no `NamedModel`, or the name of a model of the package.
    """
    if not isinstance(model, NamedModel):
        raise SpikeattnError(f"an energy model is registered as a NamedModel, not {shown(model)}")
    if "," in model.name or model.name == ALL:
        raise SpikeattnError(f"no energy model can be called {model.name!r}: commas part names, {ALL!r} is all")
    if model.name in _shipped():
        raise SpikeattnError(f"{model.name!r} is an energy model of the package; give yours another name")
    _registered[model.name] = model
    return model


def list_energy_models(own: bool = True) -> tuple[str, ...]:
    """Names of all energy models, `compute` first, those of the user last.

    Args:
        own: whether those that the user registered are among them.
    """
    return (*_shipped(), *(_registered if own else ()))


def get_energy_model(model: str | NamedModel) -> NamedModel:
    """The energy model of this name, or the model itself.

    Raises:
        SpikeattnError: unknown name, with the closest ones.
    """
    if isinstance(model, NamedModel):
        return model
    if not isinstance(model, str):
        raise SpikeattnError(
            f"model is {shown(model)}; give an energy model or the name of one of list_energy_models()"
        )
    known = _shipped() | _registered
    if model not in known:
        raise unknown("energy model", model, known)
    return known[model]


def chosen_models(models: str | NamedModel | Iterable[str | NamedModel]) -> list[NamedModel]:
    """One model, several, or "all"; without repetition, in the order given.

    Raises:
        SpikeattnError: none at all, and whatever `get_energy_model` refuses.
    """
    if isinstance(models, str) and models == ALL:
        models = list_energy_models()
    elif isinstance(models, str | NamedModel):
        models = [models]
    elif not isinstance(models, Iterable):
        raise SpikeattnError(f'models is {shown(models)}; give names of energy models, or "{ALL}"')
    found = {model.name: model for model in map(get_energy_model, models)}
    if not found:
        raise SpikeattnError(f'models is empty; give at least one energy model, or "{ALL}"')
    return list(found.values())

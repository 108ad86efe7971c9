"""The arguments of a user's factory: checked against its signature, and as JSON for the provenance."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikeattn.boundary.arguments import shown
from spikeattn.boundary.literals import read_value
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.address import Address


class Word(str):
    """An argument as it was typed: a literal, or text where the parameter's default is a text."""


@dataclass(frozen=True)
class FactoryArguments:
    """Arguments of a factory: as it gets them, and all that it runs with, as JSON has them."""

    arguments: dict[str, Any]
    all: dict[str, Any]
    pretrained: bool = False


def factory_arguments(
    address: Address, target: Any, arguments: Mapping[str, Any], pretrained: bool
) -> FactoryArguments:
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
    chosen = dict(arguments) | ({"pretrained": True} if pretrained else {})
    for key, value in chosen.items():
        if key not in named and not anything:
            if not named:
                raise SpikeattnError(f"{address.text} takes no arguments; leave out {key}")
            raise unknown(f"argument of {address.text}", key, named)
        if isinstance(value, Word):
            text = key in named and isinstance(named[key].default, str)
            chosen[key] = str(value) if text else read_value(value)
    missing = [name for name, parameter in named.items() if parameter.default is parameter.empty and name not in chosen]
    if missing:
        raise SpikeattnError(
            f"{address.text} needs {', '.join(missing)}; give --model-arg {missing[0]}=VALUE for each of them, or "
            "keyword arguments of load_model"
        )
    defaults = {name: p.default for name, p in named.items() if p.default is not p.empty}
    whole = {key: plain(value) for key, value in (defaults | chosen).items()}
    return FactoryArguments(chosen, whole, bool(chosen.get("pretrained")))


def plain(value: Any) -> Any:
    """A value as JSON holds it; of what it cannot hold, what it is."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return shown(value)

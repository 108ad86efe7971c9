"""Named records with settings changed: a changed one says so in its name, so that it cannot pass for the original."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from spikeattn.errors import unknown


def changes(record: Any, settings: Mapping[str, Any], valid: Collection[str], what: str) -> dict[str, Any]:
    """Those of `settings` that differ from what `record` has; `what` says in errors what they are settings of.

    Raises:
        SpikeattnError: a setting that is not among the valid ones, with the closest names.
    """
    for key in settings:
        if key not in valid:
            raise unknown(f"{what} {record.name!r}", key, valid)
    return {key: value for key, value in settings.items() if getattr(record, key) != value}


def changed_name(name: str, changed: Mapping[str, Any]) -> str:
    """The name with what was changed, such as "exact[first_conv=every-step]"."""
    return f"{name}[{', '.join(f'{key}={value}' for key, value in sorted(changed.items()))}]"

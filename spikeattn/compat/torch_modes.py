"""The stack of torch's dispatch modes, of which torch has no public view."""

from __future__ import annotations

from typing import Any

from torch.utils import _python_dispatch as dispatch


def top_mode() -> Any:
    """The dispatch mode that sees an operation first, or None: the only one that may leave the stack of modes."""
    return dispatch._get_current_dispatch_mode()

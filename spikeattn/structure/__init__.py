"""What a network is made of: part, block and role of everything, inferred from the data's way through it.

The room is called as its one public function is: `spikeattn.structure(model, images)` calls `reading.structure`, also
after the room has been imported, which puts it where the function's name stands.
"""

import sys
from types import ModuleType
from typing import Any

from spikeattn.structure.entry import Entry, Structure
from spikeattn.structure.reading import structure


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Structure:
        return structure(*args, **kwargs)


_Room.__call__.__doc__ = structure.__doc__
_Room.__call__.__wrapped__ = structure  # type: ignore[attr-defined]
sys.modules[__name__].__class__ = _Room

__all__ = ["Entry", "Structure", "structure"]

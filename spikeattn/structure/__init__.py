"""What a network is made of: part, block and role of everything, inferred from the data's way through it.

The room is called as its one public function is: `spikeattn.structure(model, images)` calls `reading.structure`. A
function of that name in the package would be replaced by the room as soon as somebody imports the latter. torch is
loaded when a structure is read from a network, not when it is read from a run.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spikeattn.structure.entry import Entry, Extent
from spikeattn.structure.network_structure import Structure

if TYPE_CHECKING:
    from spikeattn.structure.reading import structure


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Structure:
        """See `spikeattn.structure.reading.structure`."""
        from spikeattn.structure.reading import structure

        return structure(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name != "structure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spikeattn.structure.reading import structure

    return structure


sys.modules[__name__].__class__ = _Room

__all__ = ["Entry", "Extent", "Structure", "structure"]

"""How a network that is not the package's own is named: said in errors, and by `spikeattn models` without torch."""

from __future__ import annotations

ADDRESSES = "FILE.py:NAME or package.module:NAME for a network of your own, FILE.nir for one in a NIR file"

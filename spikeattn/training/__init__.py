"""In the loop where a network is trained: what it costs while it learns. Names are loaded on first use."""

from spikeattn.compat.lazy_names import lazy_names

__all__: list[str] = []

__getattr__ = lazy_names(__name__, {})

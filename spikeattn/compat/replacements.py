"""A record of what stands in the place of names that are no more, for the provenance of a network."""

from __future__ import annotations

from collections.abc import Iterator


class Replacements:
    """What was put in the place of names and arguments that are no more; one sentence each, in the order of use."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}

    def say(self, sentence: str) -> None:
        """Note a replacement, once."""
        self._said[sentence] = None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._said))


LOADS: list[Replacements] = []  # of the loads that go on now, the innermost last

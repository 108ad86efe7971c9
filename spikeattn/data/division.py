"""Who takes which batches of a run: shards, ranks, and what earlier processes have done."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `of` parts of a run that need no connection to each other, such as the jobs of an array."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str | Shard) -> Shard:
        """A shard from "i/n", with i from 0 to n-1; a shard is itself."""
        if isinstance(text, Shard):
            return text
        if not isinstance(text, str):
            raise SpikeattnError(f"shard is {shown(text)}; give i/n as text, with i from 0 to n-1, such as '0/4'")
        index, slash, of = text.partition("/")
        if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
            n = int(of) if of.isdecimal() and int(of) > 0 else 4
            raise SpikeattnError(f"shard {text!r}: give i/n with i from 0 to n-1, such as 0/{n} to {n - 1}/{n}")
        return cls(int(index), int(of))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


WHOLE = Shard(0, 1)


@dataclass(frozen=True)
class Take:
    """The batches that this process takes, by their number in the plan.

    Attributes:
        done: batches that earlier processes have finished.
        shard: which shard of the run this is.
        rank, ranks: which of how many processes that share the shard.
    """

    done: frozenset[int] = frozenset()
    shard: Shard = WHOLE
    rank: int = 0
    ranks: int = 1

    def of_plan(self, total: int) -> list[int]:
        """Of a plan of `total` batches: what is left of the shard, dealt out to the ranks in turn."""
        left = [number for number in range(self.shard.index, total, self.shard.of) if number not in self.done]
        return left[self.rank :: self.ranks]

    def __contains__(self, number: int) -> bool:
        """Whether to run a batch where the number of batches is not known: fixed shares, even if some is done."""
        mine = number % self.shard.of == self.shard.index and number // self.shard.of % self.ranks == self.rank
        return mine and number not in self.done


EVERYTHING = Take()

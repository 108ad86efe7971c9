"""Operations by token: the terms of an energy convention, spread over the tokens at which they take place.

A layer that acts on one token at a time (1x1 convolution, linear layer) costs count x fan-out at the token whose spikes
it received; an addition of the gate's token sum is at the token whose k AND v spiked; a pair of spikes in a matrix
product where `TokenCounts` has it; a constant (masks, real inputs, neurons if a convention prices them) is the same at
every token. What has no token is listed, never dropped. The definition is ours; `docs/attention.md` says it in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.tokens import TokenCounts
from spikeattn.energy.activity import Constant, Count, CountedActivity, Rate
from spikeattn.energy.conventions import Convention
from spikeattn.energy.rules import Term, terms_of
from spikeattn.structure.entry import OTHER as OTHER

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inside:
    """The operations of one term of a block.

    Attributes:
        layer: number of the block.
        part: of the network; the module inside the block where the model has no parts.
        amounts: [image, head, token]; one head where the term has none.
        attention: whether it belongs to the attention rather than to what follows it.
    """

    term: Term
    layer: int
    part: str
    amounts: Floats
    attention: bool


@dataclass(frozen=True, eq=False)
class Outside:
    """The operations of one term that has no tokens, [image], and why."""

    term: Term
    part: str
    reason: str
    amounts: Floats


@dataclass(frozen=True, eq=False)
class Attribution:
    """All operations of some images under a convention: `inside` at tokens, `outside` without; together everything.

    Attributes:
        evenly: names of the terms of an attention that were spread evenly over its heads for want of counts by head.
    """

    inside: tuple[Inside, ...]
    outside: tuple[Outside, ...]
    evenly: tuple[str, ...]


def attribute(
    activity: CountedActivity, convention: Convention, tokens: TokenCounts, rows: NDArray[np.intp], heads: bool = False
) -> Attribution:
    """The operations of the images of `tokens`, which are the rows `rows` of the activity.

    Args:
        heads: split what belongs to an attention by head; `tokens` must have been counted by head.
    """
    spread = _Spread(activity, tokens, heads)
    inside: list[Inside] = []
    outside: list[Outside] = []
    for term in terms_of(activity.ledger, convention):
        layer, total = tokens.layer_of(term.name), (activity.total(term.source) * term.factor)[rows].astype(float)
        amounts = "outside the blocks" if layer is None else spread.of(term)
        if layer is None or isinstance(amounts, str):
            outside.append(Outside(term, part_of(term, tokens), str(amounts), total))
            continue
        path = tokens.layers[layer]
        inside.append(Inside(term, layer, part_of(term, tokens), amounts, term.name.startswith(f"{path}.attn.")))
    return Attribution(tuple(inside), tuple(outside), tuple(dict.fromkeys(spread.evenly)))


def part_of(term: Term, tokens: TokenCounts) -> str:
    """The part of a term; where the model has none, the module of the block, or the first one of the network."""
    if term.part != OTHER:
        return term.part
    layer = tokens.layer_of(term.name)
    inner = term.name if layer is None else term.name.removeprefix(f"{tokens.layers[layer]}.")
    return inner.split(".")[0]


class _Spread:
    """Amounts [image, head, token] of a term, or a sentence why it has none."""

    def __init__(self, activity: CountedActivity, tokens: TokenCounts, heads: bool) -> None:
        self.activity, self.ledger, self.tokens, self.heads = activity, activity.ledger, tokens, heads
        self.n = tokens.grid[0] * tokens.grid[1]
        self.evenly: list[str] = []

    def of(self, term: Term) -> Floats | str:
        source = term.source
        if isinstance(source, Constant):
            found = self._constant(term, source)
        elif isinstance(source, Rate):
            found = self._rates(source)
        elif source.measure.startswith("pairs"):
            found = self._pairs(source)
        elif source.measure.startswith("fan_"):
            found = self._fan(source)
        else:
            found = self._tensor(source.name, source.measure, source.once)
        if isinstance(found, str):
            return found
        found = found * float(term.factor)
        return self._in_heads(term, found)

    def _in_heads(self, term: Term, found: Floats) -> Floats:
        """One head where there is none; an attention's terms without counts by head evenly over the heads."""
        layer = self.tokens.layer_of(term.name)
        attention = term.name.startswith(f"{self.tokens.layers[layer]}.attn.") if layer is not None else False
        if not (self.heads and attention):
            return found.sum(axis=1, keepdims=True)
        if found.shape[1] == self.tokens.heads:
            return found
        if not isinstance(term.source, Constant) and not self._feeds_heads(term):
            self.evenly.append(term.name)
        return np.repeat(found / self.tokens.heads, self.tokens.heads, axis=1)

    def _feeds_heads(self, term: Term) -> bool:
        """Whether a layer makes q, k or v: it receives what the attention receives, each head its share of outputs."""
        names = {s.name: s.input for s in self.ledger.synapses}
        layer = self.tokens.layer_of(term.name)
        assert layer is not None  # the term is one of a block's attention
        path = self.tokens.layers[layer]
        first = next((tensor for name, tensor in names.items() if name.startswith(f"{path}.attn.")), None)
        return first is not None and names.get(term.name) == first

    def _tensor(self, name: str, by: str, once: bool) -> Floats | str:
        """Counts [image, head, token] of a tensor over the time steps."""
        if name not in self.tokens.tensors:
            return self.tokens.off_grid.get(name, f"{name} has no place per token")
        steps = slice(1 if once else None)
        by_head = self.tokens.by_head.get(name) if self.heads else None
        integer = by == "abs" and name in self.tokens.values
        if by_head is not None and not integer:
            return by_head[:, steps].sum(axis=1, dtype=np.float64)
        return self.tokens.of(name, by)[:, steps].sum(axis=1, dtype=np.float64)[:, None]

    def _fan(self, source: Count) -> Floats | str:
        synapse = self.ledger.synapse(source.name)
        if synapse.fan_out is None:
            return "its fan-out differs from position to position"
        found = self._tensor(synapse.input, source.measure.removeprefix("fan_"), source.once)
        return found if isinstance(found, str) else found * synapse.fan_out

    def _pairs(self, source: Count) -> Floats | str:
        known = self.tokens.pairs.get(source.name)
        if source.measure == "pairs_abs":
            known = self.tokens.pair_values.get(source.name, known)
        if known is None:
            return "its pairs of spikes have no one token"
        return known[:, slice(1 if source.once else None)].sum(axis=1, dtype=np.float64)

    def _rates(self, source: Rate) -> Floats | str:
        names: Sequence[str] = source.tensors
        if source.least:  # the same choice as for the whole run
            means = [self.activity.total(Rate((name,), source.by, source.once)).mean() for name in names]
            names = [names[int(np.argmin(means))]]
        rates: list[Floats] = []
        for name in names:
            counts = self._tensor(name, source.by, source.once)
            if isinstance(counts, str):
                return counts
            rates.append(counts / self.ledger.tensor(name).elements)
        if len({rate.shape[1] for rate in rates}) > 1:
            rates = [rate.sum(axis=1, keepdims=True) for rate in rates]
        total: Floats = np.sum(rates, axis=0)
        return total

    def _constant(self, term: Term, source: Constant) -> Floats | str:
        """The same at every token of the images, if what it acts on has tokens."""
        entries: dict[str, tuple[str, ...]] = {s.name: (s.input,) for s in self.ledger.synapses}
        entries |= {p.name: p.operands for p in self.ledger.products}
        entries |= {a.name: entries[a.layer] for a in self.ledger.additions or () if a.layer is not None}
        acted: tuple[Any, ...] = entries.get(term.name, (term.name,))
        if not any(name in self.tokens.tensors for name in acted):
            return self.tokens.off_grid.get(acted[0], f"{acted[0]} has no place per token")
        return np.full((len(self.tokens.images), 1, self.n), source.times / self.n)

"""What a network loses when tokens fall silent: accuracy and energy over the number of tokens kept (ours).

The spikes of chosen tokens are set to 0 in the blocks, by hooks on the neurons, and the network runs again: the energy
is counted on what then fires, not predicted. Silent tokens keep their membrane potential, which SPS gave them, so this
is an upper bound on what a token pruning that does nothing else could save, and no pruning method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.regularize import METHOD, WITH_THRESHOLD
from spikeattn.counting.recorder import Recorder
from spikeattn.data.batches import Batch
from spikeattn.data.loaders import images_first
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable
from spikeattn.energy.estimate import EnergyTable
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.provenance import device_of
from spikeattn.runs.result import Profile
from spikeattn.runs.run import profile
from spikeattn.spurious.join import Assessed, assess_tokens
from spikeattn.storage.counts import Counts, batch_table, merge
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import plan

Kept = NDArray[np.bool_]  # [image, layer, token]

NONE = -1.0  # a threshold that keeps no token
THRESHOLDS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, NONE)
CONTROLS = ("random", "score", "spikes")
BELOW = ("keep", "silence")
_OUTSIDE = ("SPS", "head", "total")


def silencing_curve(
    model: nn.Module,
    loader: Iterable[Any],
    attention: Attention | Sequence[Attention],
    *,
    method: str = METHOD,
    question: str = "how much",
    thresholds: Sequence[float] = THRESHOLDS,
    below: str = "keep",
    controls: Sequence[str] = CONTROLS,
    draws: int = 3,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy and energy when the tokens that are not significant fall silent, for rising demands on significance.

    In every block that was attended, the spikes of the tokens whose `method` is above the threshold are set to 0 at
    every neuron, from the block's input to the last layer of its MLP. Controls silence as many tokens of the same image
    and block: drawn at "random", those with the lowest attention "score", or those with the fewest "spikes".

    Args:
        model: a Spike-driven Transformer, whose residual stream is a membrane potential.
        loader: batches as of `profile`; images that were not attended are left out.
        attention: of `attend(..., tokens=True)`, as of `spurious_energy`; every head must call a token for it to fall
            silent.
        method: "q", "lfdr" or "p".
        question: "how much" or "where", as of `spurious_energy`.
        thresholds: tokens above are silenced; 1 keeps all, and a negative one keeps none.
        below: "keep" leaves tokens that significantly get less attention than noise does; "silence" silences them too,
            as `regularize` does, except at the threshold 1.
        draws: of the random control, each of its own seed.
        costs, convention: of the energies.

    Returns:
        One row per order, threshold and draw, with columns order ("significance" or the control), threshold, draw,
        silenced (share of the tokens of the attended blocks), accuracy with accuracy_low and accuracy_high (Wilson),
        same_prediction (share of images whose class is that of the whole network), energy_mj with ci_low and ci_high,
        blocks_mj (without SPS and head), energy_share and blocks_share (of the whole network's), sops_per_image,
        n_images.

    Raises:
        SpikeattnError: another model, no tokens, images that the loader does not give, unknown names.
    """
    if not isinstance(model, SpikeDrivenTransformer):
        raise SpikeattnError(
            f"{type(model).__name__}: silencing is defined for the Spike-driven Transformer, whose blocks pass on "
            "membrane potentials; where spikes themselves are passed on, a silent neuron does not silence its token"
        )
    for kind, given, valid in (
        ("method", [method], WITH_THRESHOLD),
        ("below", [below], BELOW),
        ("control", controls, CONTROLS),
    ):
        for name in given:
            if name not in valid:
                raise unknown(kind, name, valid)
    if draws < 1 or not thresholds or max(thresholds) > 1:
        raise SpikeattnError(
            f"draws={draws}, thresholds={list(thresholds)}: at least one of each, thresholds at most 1"
        )
    assessed = assess_tokens(attention, method, None, question, values=True)
    measured = assessed.spurious.min(2), assessed.above.max(2) > 0  # of the head that calls a token most
    runner = _Silenced(model, loader, assessed)
    whole = runner.run(None)
    before = whole.energy(costs, convention)
    measures = {bytes(0): _row(whole, whole, before, costs, convention)}  # by what is silenced: nothing so far
    rows: list[dict[str, Any]] = []
    for threshold in thresholds:
        kept = _kept(measured, threshold, below)
        orders: list[tuple[str, int, Kept]] = [("significance", 0, kept)]
        for control in controls:
            for draw in range(draws if control == "random" else 1):
                orders.append((control, draw, _as_many(kept, _ranking(control, assessed, seed + draw))))
        for order, draw, mask in orders:
            key = bytes(0) if mask.all() else np.packbits(mask).tobytes()
            if key not in measures:
                measures[key] = _row(runner.run(mask), whole, before, costs, convention)
            found = {"order": order, "threshold": float(threshold), "draw": draw, "silenced": float(1 - mask.mean())}
            rows.append(found | measures[key])
    frame = pd.DataFrame(rows)
    frame.attrs = {
        "method": method,
        "question": question,
        "below": below,
        "seed": seed,
        "layers": list(assessed.layers),
    }
    return frame


def _kept(measured: tuple[NDArray[Any], NDArray[Any]], threshold: float, below: str) -> Kept:
    values, above = measured
    if threshold >= 1:
        return np.ones(values.shape, bool)
    kept = values <= threshold
    return kept if below == "keep" else kept & above


def _ranking(control: str, assessed: Assessed, seed: int) -> NDArray[Any]:
    """[image, layer, token]: tokens with small values are silenced first; ties are broken at random."""
    shape = (*assessed.scores.shape[:2], assessed.scores.shape[-1])
    noise = np.random.default_rng(seed).random(shape)
    if control == "random":
        return noise
    if control == "score":
        values = assessed.scores.mean(2)
    else:
        tokens = assessed.tokens
        layers = [tokens.layer_of(name) for name in tokens.tensors]
        values = np.stack(
            [
                tokens.counts[:, [k for k, at in enumerate(layers) if at == layer]].sum(axis=(1, 2), dtype=np.int64)
                for layer in assessed.layers
            ],
            axis=1,
        )
    order = np.lexsort((noise, values), axis=-1)
    ranks = np.empty(shape, np.int64)
    np.put_along_axis(ranks, order, np.arange(shape[-1]), axis=-1)
    return ranks


def _as_many(kept: Kept, ranking: NDArray[Any]) -> Kept:
    """As many tokens of every image and layer, the highest in the ranking."""
    ranks = ranking.argsort(-1, kind="stable").argsort(-1, kind="stable")
    return ranks >= (~kept).sum(-1, keepdims=True)


def _row(ran: Profile, whole: Profile, before: EnergyTable, costs: Any, convention: Any) -> dict[str, Any]:
    table = before if ran is whole else ran.energy(costs, convention)
    blocks, blocks_before = (float(t.loc[~t["part"].isin(_OUTSIDE), "energy_mj"].sum()) for t in (table, before))
    last, column = ran.over_time().iloc[-1], f"pred_{ran.time_steps}"
    rows, rows_before = ran.counts.rows, whole.counts.rows
    known = column in rows
    return {
        "accuracy": float(last["accuracy"]),
        "accuracy_low": float(last["accuracy_low"]),
        "accuracy_high": float(last["accuracy_high"]),
        "same_prediction": float((rows[column] == rows_before[column]).mean()) if known else np.nan,
        "energy_mj": table.total.value,
        "ci_low": table.total.low,
        "ci_high": table.total.high,
        "blocks_mj": blocks,
        "energy_share": table.total.value / before.total.value,
        "blocks_share": blocks / blocks_before if blocks_before > 0 else np.nan,
        "sops_per_image": float(table.iloc[-1]["sops"]),
        "n_images": ran.n_images,
    }


class _Silenced:
    """Runs a model on the attended images of a loader with the spikes of some tokens set to 0."""

    def __init__(self, model: SpikeDrivenTransformer, loader: Iterable[Any], assessed: Assessed) -> None:
        self.model, self.assessed = model, assessed
        self.place = {number: row for row, number in enumerate(assessed.tokens.images)}
        given = (self._attended(batch) for batch in images_first(loader))
        self.batches = [batch for batch in given if batch is not None]
        seen = {number for batch in self.batches for number in batch.index.tolist()}
        missing = [number for number in self.place if number not in seen]
        if missing:
            raise SpikeattnError(
                f"the loader does not give {len(missing)} of {len(self.place)} attended images, the first is number "
                f"{missing[0]}; give the loader that was profiled"
            )
        self.plan = plan(model, self.batches[0].images.to(device_of(model)))
        if self.plan.ledger.hash() != assessed.tokens.ledger:
            raise SpikeattnError(
                "the attention's tokens are of another network or input size than this model and loader (their ledgers "
                "differ); attend this model on these images"
            )
        self.ledger: Any = None
        self.mask: Tensor | None = None

    def _attended(self, batch: Batch) -> Batch | None:
        rows = [row for row, number in enumerate(batch.index.tolist()) if number in self.place]
        if not rows or len(rows) == len(batch.ids):
            return batch if rows else None
        ids = [batch.ids[row] for row in rows]
        return Batch(batch.images[rows], batch.labels[rows], batch.index[rows], ids, [], batch.number)

    def run(self, kept: Kept | None) -> Profile:
        """The counts of one pass over all images; None silences nothing."""
        if self.ledger is None:
            whole = profile(self.model, self.batches, progress=False)
            self.ledger = whole.ledger
            if kept is None:
                return whole
        device, tables = device_of(self.model), []
        with (
            nodes.uncompiled(),
            nodes.evaluating(self.model),
            self._hooks(),
            Recorder(self.model, self.plan) as recorder,
        ):
            for batch in self.batches:
                rows = [self.place[number] for number in batch.index.tolist()]
                self.mask = None if kept is None else torch.from_numpy(kept[rows]).to(device)
                nodes.reset(self.model)
                with torch.no_grad(), recorder.watching(len(rows)) as tally:
                    counts = tally.collect(self.model(batch.images.to(device)))
                tables.append(batch_table(counts, batch.index.tolist(), batch.ids, batch.labels.tolist()))
        return Profile(self.ledger, Counts(merge(tables, self.ledger), self.ledger))

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Silence tokens wherever spikes of an attended block arise; registered before, so counted after."""
        tokens, handles = self.assessed.tokens, []
        for name in tokens.tensors:
            layer = tokens.layer_of(name)
            if layer in self.assessed.layers:
                hook = self._hook(self.assessed.layers.index(layer))
                handles.append(self.model.get_submodule(name).register_forward_hook(hook))
        try:
            yield
        finally:
            self.mask = None
            for handle in handles:
                handle.remove()

    def _hook(self, place: int) -> Any:
        def silence(module: nn.Module, args: Any, spikes: Tensor) -> Tensor | None:  # [T, B, D, h, w]
            if self.mask is None:
                return None
            keep = self.mask[:, place].reshape(1, -1, 1, *spikes.shape[-2:])
            return torch.where(keep, spikes, spikes.new_zeros(()))

        return silence

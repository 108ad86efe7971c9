"""`sa.FiringRate`: a metric of what a spiking network does in the passes of a training, in flat memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from spikeattn.boundary import arguments
from spikeattn.compat.metrics import torchmetrics_base
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.errors import SpikeattnError
from spikeattn.provenance import device_of
from spikeattn.structure.reading import Names
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.state import state_kept
from spikeattn.training.epoch_rates import EpochRates, Sums
from spikeattn.training.following import Following, PassCounts
from spikeattn.training.logs import write_scalars
from spikeattn.training.plain_metric import PlainMetric
from spikeattn.training.sum_layout import Layer, Layout

_Base: Any = torchmetrics_base() or PlainMetric
_MOST = (1 << 31) - 1  # int32, in which neurons are counted
_RESETS_NEURONS = ("spikingjelly.", nodes.__name__)  # modules that call the reset of whatever has one
_NOTHING = (
    "no pass has been counted yet: call the network inside `with rate:`, or rate.update(images), before compute()"
)


class FiringRate(_Base):
    """Firing rates, dead and saturated neurons, operations and energy of a spiking network while it trains.

    >>> rate = sa.FiringRate(net)
    >>> for epoch in range(epochs):
    ...     with rate:                       # the passes of your own loop are counted, in training or eval mode
    ...         for images, labels in loader:
    ...             loss = criterion(net(images), labels)
    ...             ...
    ...     print(rate.compute()["mean_rate"], rate.epoch().layers())
    ...     rate.reset()

    A metric with the three methods of torchmetrics, whose `Metric` it derives from where torchmetrics is installed (it
    then stands in a `MetricCollection`, is cloned and moved as any other), and the same without. The states are sums
    (`dist_reduce_fx="sum"`): memory is flat, and under `torch.distributed` `compute` merges the ranks.

    The network is traced at its first batch, as by `sa.record`: exact counts, border-exact fan-outs, the mode, the
    weights and torch's random numbers as they would be without. A part that gradient checkpointing repeats in the
    backward pass is counted once. What `torch.compile` has compiled runs as plain Python inside the block.

    Args:
        model: the network; also inside DistributedDataParallel. It must not have this metric among its modules.
        per_layer: whether `compute` gives the numbers of every layer too.
        costs, convention: of the energy; see `Profile.energy`.
        neurons, time_steps, layout, input, spike_output, levels, strict, names: see `sa.record`.
        options: of `torchmetrics.Metric`; without torchmetrics `process_group` and `sync_on_compute`.

    Raises:
        SpikeattnError: as `sa.record`.
    """

    is_differentiable = False
    full_state_update = False  # the value of a batch needs no second pass
    image_total: Tensor
    pass_total: Tensor
    count_totals: Tensor
    flag_totals: Tensor
    lowest: Tensor
    highest: Tensor
    place_totals: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        per_layer: bool = False,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        convention: str | Convention = DEFAULT_CONVENTION,
        neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
        time_steps: int | None = None,
        layout: str | None = None,
        input: str | None = None,
        spike_output: int | None = None,
        levels: int | None = None,
        strict: bool = False,
        names: Names = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.per_layer = arguments.switch("per_layer", per_layer)
        self.costs, self.convention = get_costs(costs), get_convention(convention)
        self._network = _Network(model)
        self._how: dict[str, Any] = {
            "strict": strict, "names": names, "neurons": neurons, "time_steps": time_steps, "layout": layout,
            "input": input, "spike_output": spike_output, "levels": levels,
        }  # fmt: skip
        self._following: Following | None = Following(model, self.update, **self._how)
        self._inside: ExitStack | None = None
        self._layout: Layout | None = None
        self._channels: dict[str, Tensor] = {}  # of the layers, on the device
        zero = torch.zeros((), dtype=torch.int64)
        self.add_state("image_total", zero, dist_reduce_fx="sum")
        self.add_state("pass_total", zero, dist_reduce_fx="sum")
        # Their sizes are known after the first batch; until then one 0 stands for all.
        self.add_state("count_totals", zero.double(), dist_reduce_fx="sum")
        self.add_state("flag_totals", zero, dist_reduce_fx="sum")
        self.add_state("lowest", zero.double() + torch.inf, dist_reduce_fx="min")
        self.add_state("highest", zero.double() - torch.inf, dist_reduce_fx="max")
        self.add_state("place_totals", zero.int(), dist_reduce_fx="sum")

    # ---------------------------------------------------------------- following the network
    @property
    def network(self) -> nn.Module:
        """The network that is followed."""
        return self._network.module

    def __enter__(self) -> FiringRate:
        if self._inside is not None:
            raise SpikeattnError("this metric follows its network already; leave its block first")
        if any(module is self for module in self.network.modules()):
            raise SpikeattnError(
                f"the metric is a part of the {type(self.network).__name__} that it follows, so that a reset of all of "
                "its modules would empty it; keep it beside the network, e.g. self.rate = FiringRate(self.net)"
            )
        if self._following is None:  # a copy
            self._following = Following(self.network, self.update, **self._how)
        stack = ExitStack()
        stack.enter_context(self._following)
        self._inside = stack
        return self

    def __exit__(self, *error: Any) -> None:
        inside, self._inside = self._inside, None
        if inside is not None:
            inside.__exit__(*error)

    def begin_inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count a call of the network that has just begun, in which this metric was opened; for hooks before it."""
        assert self._following is not None
        self._following.begin_inside(args, kwargs)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        if self._inside is not None:
            yield
            return
        with self:
            yield

    # ---------------------------------------------------------------- torchmetrics' three methods
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Run the network on a batch and count it: `update(images)`, with whatever else the network takes.

        The pass has no gradients and leaves no trace: neurons, running statistics and random numbers are afterwards as
        they were. The network is in the mode it is in. Passes of your own loop, inside `with rate:`, need no update.
        """
        if len(args) == 1 and isinstance(args[0], PassCounts):
            self._add(args[0])
            return
        model = self.network
        devices = {t.device for t in (*model.parameters(), *model.buffers()) if t.is_cuda}
        with self._opened(), torch.no_grad(), state_kept(model), torch.random.fork_rng(devices=sorted(
            device.index or 0 for device in devices
        )):  # fmt: skip
            nodes.reset(model)
            model(*args, **kwargs)
        self._settle()

    def compute(self) -> dict[str, Tensor]:
        """The numbers of all passes since the last reset, on all ranks: 0-dimensional tensors by name.

        See `EpochRates.scalars` for the names; `epoch()` has the tables.

        Raises:
            SpikeattnError: nothing has been counted.
        """
        self._settle()
        scalars = self._result().scalars(self.per_layer)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()}

    def reset(self) -> None:
        """Forget the counts, as at the end of an epoch; what the network is made of stays known.

        The `reset_net` that a loop calls after every batch empties neurons and not this metric, also where it is given
        a module that holds both.
        """
        if str(sys._getframe(1).f_globals.get("__name__")).startswith(_RESETS_NEURONS):
            return
        if self._following is not None:
            self._following.forget()
        super().reset()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """`update(images)`, and what `compute` gives for this batch alone."""
        self._settle()
        return super().forward(*args, **kwargs)

    # ---------------------------------------------------------------- results
    @property
    def seen(self) -> bool:
        """Whether a pass has been counted since the last reset, on this rank."""
        self._settle()
        return int(self.image_total) > 0

    def epoch(self) -> EpochRates:
        """The tables: rates, dead and saturated neurons, operations and energy; merged over ranks, as `compute` is.

        Under `torch.distributed` every rank must call it.

        Raises:
            SpikeattnError: nothing has been counted.
        """
        self._settle()
        with self.sync_context(should_sync=bool(self.sync_on_compute)):
            return self._result()

    def log(self, to: Any, step: int, prefix: str = "") -> None:
        """Write what `compute` gives to TensorBoard, or into a csv file.

        Under `torch.distributed` every rank must call it; the first one writes.

        Args:
            to: anything with `add_scalar(name, value, step)`, as a `SummaryWriter`; or the path of a csv file, which
                gets a row per step (another one for a step that it has takes its place) and appears whole or not at
                all.
            step: the number of the epoch, or of the step.
            prefix: in front of the names, such as "train/".

        Raises:
            SpikeattnError: nothing has been counted; a file that is no log.
        """
        values = {f"{prefix}{name}": float(value) for name, value in self.compute().items()}
        first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        write_scalars(to, arguments.whole_number("step", step), values, first)

    # ---------------------------------------------------------------- states
    def sync(self, *args: Any, **kwargs: Any) -> None:
        """The states of all ranks in the place of this rank's; see torchmetrics.

        Raises:
            SpikeattnError: on every rank, where one has counted nothing, or another network.
        """
        self._settle()
        if kwargs.get("should_sync", True) and dist.is_available() and dist.is_initialized():
            self._check_ranks()
        super().sync(*args, **kwargs)

    def _check_ranks(self) -> None:
        group = self.process_group
        own = bytes.fromhex(self._layout.digest()) if self._layout is not None and self.image_total else bytes(32)
        mine = torch.tensor(list(own), dtype=torch.uint8, device=self.image_total.device)
        all_of_them = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(all_of_them, mine, group=group)
        empty = [rank for rank, digest in enumerate(all_of_them) if not digest.any()]
        if empty:
            raise SpikeattnError(
                f"rank {empty[0]} of {len(all_of_them)} has counted no batch; give every rank one, or leave the ranks "
                "unmerged with sync_on_compute=False"
            )
        if any(not torch.equal(digest, all_of_them[0]) for digest in all_of_them):
            raise SpikeattnError(
                "the ranks count different networks or input sizes, which do not add up; give all ranks the same, or "
                "leave them unmerged with sync_on_compute=False"
            )

    def _settle(self) -> None:
        if self._following is not None:
            self._following.settle()

    def _add(self, counted: PassCounts) -> None:
        """Add the counts of a pass to the states."""
        layout, counts = counted.layout, counted.counts
        if self._layout is None:
            self._layout = layout
            self.to(device_of(self.network))
        elif layout.layers is not self._layout.layers and layout.digest() != self._layout.digest():  # of a copy
            raise SpikeattnError(
                "this pass counts another network or input size than those before; call reset() on a new metric"
            )
        images = int(self.image_total) + counts.batch
        if images * max((layer.positions for layer in layout.layers), default=1) > _MOST:
            raise SpikeattnError(
                f"{images:,} images since the last reset, more than neurons can be counted on; call reset() at the end "
                "of an epoch"
            )
        vector = np.concatenate([counts.counts[key].sum(axis=1) for key, _ in layout.columns])
        flags = np.array([flag for name, _ in layout.flags for flag in counts.flags[name]], np.int64)
        extremes = np.array([counts.extremes[name] for name in layout.extremes], np.float64).reshape(-1, 2)
        self.image_total = self.image_total + counts.batch
        self.pass_total = self.pass_total + 1
        self.count_totals = self.count_totals + self._here(vector)
        self.flag_totals = self.flag_totals + self._here(flags)
        self.lowest = torch.minimum(self.lowest, self._here(extremes[:, 0]))
        self.highest = torch.maximum(self.highest, self._here(extremes[:, 1]))
        if self.place_totals.dim() == 0:
            self.place_totals = self.place_totals.new_zeros(layout.places)
        for layer in layout.layers:
            if layer.size:
                fired = self._of_layer(layer, counted.by_neuron[layer.name])
                self.place_totals[layer.start : layer.start + layer.size] += fired.to(self.place_totals)

    def _here(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.image_total.device)

    def _of_layer(self, layer: Layer, fired: Tensor) -> Tensor:
        """The sums that a layer keeps, of those of its neurons."""
        if layer.single or layer.channel is None:
            return fired.reshape(-1)
        channel = self._channels.get(layer.name)
        if channel is None or channel.device != fired.device:
            channel = self._channels[layer.name] = layer.channel.to(fired.device)
        return fired.new_zeros(layer.channels, dtype=torch.float64).index_add_(0, channel, fired.reshape(-1).double())

    def _result(self) -> EpochRates:
        if self._layout is None or not int(self.image_total):
            raise SpikeattnError(_NOTHING)
        counts, flags, lowest, highest, places = (
            np.asarray(state.detach().cpu())
            for state in (self.count_totals, self.flag_totals, self.lowest, self.highest, self.place_totals)
        )
        sums = Sums(int(self.image_total), int(self.pass_total), counts, flags, lowest, highest, places)
        ledger = self._layout.ledger
        if self._following is not None:
            ledger, warnings = self._following.seen(ledger)
            ledger = replace(ledger, warnings=(*self._layout.ledger.warnings, *warnings))
        return EpochRates.of(self._layout, sums, ledger, self.costs, self.convention)

    # ---------------------------------------------------------------- copies
    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: the sums and what they stand for; it traces the network again."""
        state = dict(super().__getstate__())
        return {**state, "_following": None, "_inside": None, "_channels": {}}

    def __repr__(self) -> str:
        return f"<FiringRate of {type(self.network).__name__}: {int(self.image_total)} images>"


class _Network:
    """The network of a metric, which is no part of it: not among its parameters, and not copied with it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Network:
        return _Network(memo.get(id(self.module), self.module))

"""`sa.SpikeMonitor`: a Lightning callback that logs what a spiking network costs while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from spikeattn.boundary import arguments
from spikeattn.compat.extras import missing_extra
from spikeattn.compat.lightning_names import callback_base, runs_a_step
from spikeattn.counting.counted_pass import in_own_passes
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.stack import Hook
from spikeattn.training.epoch_rates import EpochRates
from spikeattn.training.firing_rate import FiringRate

STAGES = ("train", "val", "test")
_found = callback_base()
_Base: Any = _found or object


class SpikeMonitor(_Base):
    """Logs firing rates, dead and saturated neurons, SOPs and energy per epoch, to whatever logger the trainer has.

    >>> trainer = Trainer(callbacks=[sa.SpikeMonitor()], logger=CSVLogger("logs"))

    It follows the passes that the steps of the module run, with a `FiringRate` per stage, and logs its numbers as
    "train/mean_rate", "train/sops_per_image", "train/energy_mj" ... at the end of every epoch (see
    `EpochRates.scalars`), merged over ranks. Lightning is imported under the name it is installed by, `lightning` or
    `pytorch_lightning`. The sanity check before a training is not counted.

    Args:
        network: dotted path of the network in the LightningModule, such as "net", or "" for the module itself; default
            is the outermost part that holds all spiking neurons and is called with one tensor.
        per_layer: also the numbers of every layer.
        stages: which of "train", "val" and "test" are followed.
        costs, convention: of the energy; see `Profile.energy`.
        options: of `FiringRate`, such as neurons and time_steps.

    Raises:
        SpikeattnError: Lightning is not installed; the first batch of a stage does not call the network.
    """

    def __init__(
        self,
        network: str | None = None,
        *,
        per_layer: bool = False,
        stages: Sequence[str] = STAGES,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        convention: str | Convention = DEFAULT_CONVENTION,
        **options: Any,
    ) -> None:
        if _found is None:
            raise missing_extra("SpikeMonitor", "lightning", "; without it FiringRate counts in a loop of your own")
        super().__init__()
        if network is not None and not isinstance(network, str):
            raise SpikeattnError(
                f"network is {arguments.shown(network)}; give its path in the LightningModule as text, such as 'net', "
                "or leave it out"
            )
        for stage in (stages := [stages] if isinstance(stages, str) else list(stages)):
            if stage not in STAGES:
                raise unknown("stage", stage, STAGES)
        self.network, self.stages = network, tuple(stages)
        self._options = {
            "per_layer": arguments.switch("per_layer", per_layer), "costs": get_costs(costs),
            "convention": get_convention(convention), **options,
        }  # fmt: skip
        self._rates: dict[str, FiringRate] = {}
        self._open: ExitStack | None = None
        self._stage: str | None = None  # the one that is followed
        self._paused: str | None = None  # the one that goes on behind a validation

    def epoch(self, stage: str = "train") -> EpochRates:
        """The tables of the last epoch of a stage; see `FiringRate.epoch`.

        Raises:
            SpikeattnError: that stage was not followed.
        """
        if stage not in self._rates:
            raise unknown("stage that was followed", stage, self._rates)
        return self._rates[stage].epoch()

    # ---------------------------------------------------------------- following a stage
    def _begin(self, trainer: Any, module: nn.Module, stage: str, again: bool = False) -> None:
        """Follow a stage; `again` goes on with its counts."""
        self._close()
        if stage not in self.stages or trainer.sanity_checking:
            return
        self._stage, self._open = stage, ExitStack()
        rate = self._rates.get(stage)
        if rate is not None and any(rate.network is part for part in module.modules()):
            if not again:
                rate.reset()
            self._open.enter_context(rate)
        elif self.network is not None:
            self._follow(stage, self._named(module, self.network))
        else:
            self._rates.pop(stage, None)
            for part in _candidates(module, self._options.get("neurons", nodes.is_spiking_neuron)):
                hook = Hook(partial(self._first_call, stage))
                self._open.callback(part.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def _named(self, module: nn.Module, path: str) -> nn.Module:
        parts = dict(module.named_modules())
        if path not in parts:
            raise unknown(f"part of {type(module).__name__}", path, [name for name in parts if name])
        return parts[path]

    def _follow(self, stage: str, network: nn.Module) -> FiringRate:
        assert self._open is not None
        rate = self._rates[stage] = FiringRate(network, **self._options)
        self._open.enter_context(rate)
        return rate

    def _first_call(self, stage: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Follow the first part that is called with one tensor, from this call on."""
        if stage in self._rates or in_own_passes() or runs_a_step(part):
            return
        if len(list(tensors_in((args, kwargs)))) != 1:
            return
        self._follow(stage, part).begin_inside(args, kwargs)

    def _check(self, module: nn.Module, stage: str, batch: int) -> None:
        """The first batch of a stage has been counted."""
        if batch or self._stage != stage:
            return
        rate = self._rates.get(stage)
        if rate is None or not rate.seen:
            name = type(module).__name__
            what = f"{name}, or of a part that holds all its spiking neurons," if self.network is None else self.network
            raise SpikeattnError(
                f"SpikeMonitor: the {stage} step made no call of {what} with one tensor; name the part that it calls, "
                "as in SpikeMonitor(network='net')"
            )

    def _log(self, trainer: Any, module: Any, stage: str) -> None:
        if self._stage != stage:
            return
        self._close()
        rate = self._rates.get(stage)
        if rate is not None and rate.seen:
            values = {f"{stage}/{name}": value.float() for name, value in rate.compute().items()}
            # Every rank has the same numbers; their mean is asked for because Lightning warns where it is not.
            module.log_dict(values, on_step=False, on_epoch=True, sync_dist=trainer.world_size > 1)

    def _close(self) -> None:
        inside, self._open, self._stage = self._open, None, None
        if inside is not None:
            inside.close()

    # ---------------------------------------------------------------- Lightning's names
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module, "train")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._check(pl_module, "train", batch_idx)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._log(trainer, pl_module, "train")

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._paused = self._stage
        self._begin(trainer, pl_module, "val")

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._check(pl_module, "val", batch_idx)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._log(trainer, pl_module, "val")
        if self._paused is not None:  # a validation within the epoch of a training, which goes on
            self._begin(trainer, pl_module, self._paused, again=True)
        self._paused = None

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module, "test")

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._check(pl_module, "test", batch_idx)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._log(trainer, pl_module, "test")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._close()


def _candidates(module: nn.Module, predicate: nodes.NeuronPredicate) -> list[nn.Module]:
    """The module and those of its parts that hold all spiking neurons, outermost first."""
    paths = [path.split(".")[:-1] for path in nodes.find_neurons(module, predicate)]
    common = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return [module.get_submodule(".".join(common[:depth])) for depth in range(len(common) + 1)]

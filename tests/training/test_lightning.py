"""`sa.SpikeMonitor` in a trainer of Lightning, under both names of the package."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikeattn as sa
from spikeattn.compat.lightning_names import PACKAGES, callback_base
from spikeattn.errors import SpikeattnError
from tests.training.networks import Net, batches

LIGHTNING = callback_base()
needs_lightning = pytest.mark.skipif(LIGHTNING is None, reason="Lightning is not installed")


def loader(*sizes: int, seed: int = 0) -> DataLoader:
    images = torch.cat(batches(*sizes, seed=seed))
    return DataLoader(TensorDataset(images, torch.arange(len(images)) % 3), batch_size=4)


def module_of(package: str, kind: str, net: nn.Module) -> Any:
    """A LightningModule that holds the network, is it, or calls parts of it."""
    base = import_module(package).LightningModule

    class Holds(base):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def loss(self, batch: Any) -> Tensor:
            functional.reset_net(self)
            out = self(batch[0]) if kind == "is" else self.net(batch[0])
            return nn.functional.cross_entropy(out, batch[1])

        def forward(self, x: Tensor) -> Tensor:
            return self.net.rest(self.net.first(x)) if kind in ("is", "parts") else self.net(x)

        def training_step(self, batch: Any, number: int) -> Tensor:
            functional.reset_net(self)
            return self.loss(batch) if kind != "parts" else self.forward(batch[0]).sum()

        def validation_step(self, batch: Any, number: int) -> None:
            self.loss(batch)

        test_step = validation_step

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Holds()


def trainer_of(package: str, folder: Path, monitor: Any, epochs: int = 2, **options: Any) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logger = import_module(f"{package}.loggers").CSVLogger(folder, name="run", version=0)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"max_epochs": epochs, "accelerator": "cpu", "log_every_n_steps": 1}
    return import_module(package).Trainer(callbacks=[monitor], logger=logger, **quiet, **options)


@pytest.fixture(autouse=True)
def silent() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@needs_lightning
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("kind", "options"), [("holds", {}), ("is", {}), ("is", {"strategy": "ddp"})])
def test_every_epoch_is_logged_by_the_trainers_own_logger(
    package: str, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip(package.partition(".")[0])
    net = Net()
    module, monitor = module_of(package, kind, net), sa.SpikeMonitor(per_layer=True)
    trainer = trainer_of(package, tmp_path, monitor, **options)
    trainer.fit(module, loader(4, 4, 3), loader(4, 2, seed=1))
    log = pd.read_csv(tmp_path / "run" / "version_0" / "metrics.csv")
    train, val = log.dropna(subset="train/mean_rate"), log.dropna(subset="val/mean_rate")
    assert train["epoch"].tolist() == val["epoch"].tolist() == [0, 1]
    assert train["train/n_images"].tolist() == [11, 11] and val["val/n_images"].tolist() == [6, 6]
    profile = sa.profile(net.eval(), list(torch.cat(batches(4, 2, seed=1)).split(4)))
    last, summary = val.iloc[-1], profile.summary()
    for name in ("mean_rate", "sops_per_image", "macs_per_image", "energy_mj"):
        assert last[f"val/{name}"] == pytest.approx(summary[name])
    prefix = "net." if kind == "is" else ""
    assert last[f"val/dead_channel_share/{prefix}lif"] == 0.25
    assert monitor.epoch("val").layers()["neurons"].tolist() == [64, 96]
    trainer.test(module, loader(4, 2, seed=1), verbose=False)
    assert float(trainer.callback_metrics["test/mean_rate"]) == pytest.approx(summary["mean_rate"])
    assert not net._forward_hooks and not net._forward_pre_hooks


@needs_lightning
def test_what_the_step_does_not_call_is_one_clear_error(tmp_path: Path) -> None:
    package = next(name for name in PACKAGES if issubclass(LIGHTNING, import_module(name).Callback))
    module = module_of(package, "parts", Net())
    with pytest.raises(SpikeattnError, match="train step made no call of Holds, or of a part .* with one tensor"):
        trainer_of(package, tmp_path, sa.SpikeMonitor()).fit(module, loader(4))
    with pytest.raises(SpikeattnError, match="made no call of net with one tensor"):
        trainer_of(package, tmp_path, sa.SpikeMonitor("net")).fit(module, loader(4))
    with pytest.raises(SpikeattnError, match="unknown part of Holds 'nett': did you mean 'net'"):
        trainer_of(package, tmp_path, sa.SpikeMonitor("nett")).fit(module, loader(4))
    with pytest.raises(SpikeattnError, match="unknown stage 'validate'"):
        sa.SpikeMonitor(stages=("train", "validate"))
    with pytest.raises(SpikeattnError, match="unknown stage that was followed 'test'"):
        sa.SpikeMonitor().epoch("test")
    assert not module.net._forward_hooks


@needs_lightning
def test_stages_that_are_not_asked_for_are_not_followed(tmp_path: Path) -> None:
    package = next(name for name in PACKAGES if issubclass(LIGHTNING, import_module(name).Callback))
    monitor = sa.SpikeMonitor("net", stages="val")
    trainer = trainer_of(package, tmp_path, monitor, epochs=1)
    trainer.fit(module_of(package, "holds", Net()), loader(4), loader(4, seed=1))
    logged = set(trainer.callback_metrics)
    assert "val/mean_rate" in logged and not any(name.startswith("train/") for name in logged)


@pytest.mark.skipif(LIGHTNING is not None, reason="Lightning is installed")
def test_without_lightning_the_error_says_what_to_do() -> None:
    with pytest.raises(SpikeattnError, match=r"pip install 'spikeattn\[training\]'"):
        sa.SpikeMonitor()

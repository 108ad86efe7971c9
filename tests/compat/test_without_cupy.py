"""Neurons that ask for CuPy where there is none: they take torch, and the record says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import spikeattn as sa
from spikeattn.compat import without_cupy
from spikeattn.compat.replacements import Replacements
from spikeattn.compat.spikingjelly_version import is_current, spikingjelly_version

old = pytest.mark.skipif(
    spikingjelly_version() is None or is_current() or without_cupy.has_cupy(),
    reason="needs SpikingJelly before version 2, and no CuPy",
)


class Neuron:
    def __init__(self, tau: float, backend: str = "torch", **others: float) -> None:
        self.tau, self.backend, self.others = tau, backend, others


@pytest.mark.parametrize("args", [(2.0, "cupy"), (2.0,)])
def test_constructors_take_torch(args: tuple) -> None:
    replaced, made = Replacements(), Neuron.__new__(Neuron)
    kwargs = {} if len(args) == 2 else {"backend": "cupy"}
    without_cupy._on_torch(Neuron.__init__, replaced)(made, *args, **kwargs, detach=1.0)
    assert (made.tau, made.backend, made.others) == (2.0, "torch", {"detach": 1.0})
    assert len(list(replaced)) == 1 and "backend='torch' stands for it" in next(iter(replaced))


def test_other_backends_are_left_alone() -> None:
    replaced, made = Replacements(), Neuron.__new__(Neuron)
    without_cupy._on_torch(Neuron.__init__, replaced)(made, 2.0, "lava")
    assert made.backend == "lava" and not list(replaced)


def test_a_backend_that_is_switched_later() -> None:
    class Switched:
        @property
        def backend(self) -> str:
            return self._backend

        @backend.setter
        def backend(self, value: str) -> None:
            self._backend = value

    replaced = Replacements()
    Switched.backend = without_cupy._switch(Switched.backend, replaced)  # type: ignore[method-assign]
    neuron = Switched()
    neuron.backend = "cupy"
    assert neuron.backend == "torch" and len(list(replaced)) == 1


@old
@pytest.mark.parametrize("home", ["clock_driven", "activation_based"])
def test_a_network_of_its_time_loads_and_counts(tmp_path: Path, home: str) -> None:
    pytest.importorskip(f"spikingjelly.{home}")
    lif = {
        "clock_driven": 'neuron.MultiStepLIFNode(tau=2.0, backend="cupy")',
        "activation_based": 'neuron.LIFNode(tau=2.0, step_mode="m", backend="cupy")',
    }[home]
    (tmp_path / "model.py").write_text(
        f"from torch import nn\nfrom spikingjelly.{home} import neuron\n"
        f"class Net(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n"
        f"        self.fc1, self.lif, self.fc2 = nn.Linear(4, 6), {lif}, nn.Linear(6, 3)\n"
        f"    def forward(self, x):\n"
        f"        return self.fc2(self.lif(self.fc1(x.unsqueeze(0).repeat(4, 1, 1)).mul(4))).mean(0)\n"
    )
    model = sa.load_model(f"{tmp_path / 'model.py'}:Net")
    assert any("backend='torch' stands for it" in each for each in model.provenance["code"]["replaced"])
    with torch.no_grad():
        model.fc1.weight.fill_(1.0)
    profile = sa.profile(model, [torch.ones(2, 4)])
    assert profile.time_steps == 4 and profile.operations()["sops"].sum() > 0

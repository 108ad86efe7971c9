"""The choice of SpikingJelly's neuron implementation, and its name in results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spikeattn.errors import SpikeattnError
from spikeattn.models import implementation_in_use, neuron_backend, select_implementation

LOADED = "spikingjelly._ops.lif"


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process whose neurons have not run yet; environment and modules are restored afterwards."""
    for package in neuron_backend.NEURONS:
        monkeypatch.delitem(sys.modules, f"spikingjelly._ops.{package}", raising=False)
        monkeypatch.setenv(neuron_backend._variable(package), "auto")
    return monkeypatch


def test_the_choice_reaches_spikingjelly() -> None:
    program = (
        "import torch\n"
        "from spikeattn.models import neuron_backend, select_implementation, SpikeDrivenTransformer as S\n"
        "select_implementation('torch')\n"
        "S(img_size=8, embed_dim=8, depth=1)(torch.zeros(1, 3, 8, 8))\n"
        "import spikingjelly._ops.lif as lif\n"
        "print(lif._selection._requested, neuron_backend.requested_implementation())"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", "torch"]


def test_names_of_what_runs(untouched: pytest.MonkeyPatch) -> None:
    assert implementation_in_use("cpu") == implementation_in_use(torch.device("cpu")) == "torch (cpu)"
    assert neuron_backend.requested_implementation() == "auto"
    untouched.setenv("SJ_LIF_CUDA_IMPLEMENTATION", "cuda")
    assert neuron_backend.requested_implementation() == "native", "SpikingJelly's word for it is cuda"
    with pytest.raises(SpikeattnError, match="cannot run on mps"):
        implementation_in_use("mps")


def test_a_choice_after_the_first_forward_pass_is_too_late(untouched: pytest.MonkeyPatch) -> None:
    untouched.setitem(sys.modules, LOADED, SimpleNamespace(_selection=SimpleNamespace(_requested="auto")))
    select_implementation("auto")
    with pytest.raises(SpikeattnError, match="'torch' comes too late: .* with 'auto'"):
        select_implementation("torch")


def test_choices_that_cannot_work_here_are_refused(untouched: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpikeattnError, match="unknown neuron implementation 'cupy': valid are auto, native"):
        select_implementation("cupy")
    untouched.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpikeattnError, match="'triton' cannot work here: it needs a CUDA device"):
        select_implementation("triton")
    untouched.setattr(torch.cuda, "is_available", lambda: True)
    untouched.setattr(neuron_backend, "_native_operators", lambda: False)
    with pytest.raises(SpikeattnError, match="'native' cannot work here: SpikingJelly was installed without"):
        select_implementation("native")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_implementation_on_cuda_has_a_name() -> None:
    assert implementation_in_use("cuda") in {"native (cuda)", "triton (cuda)", "torch (cuda)"}

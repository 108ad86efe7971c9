"""Weights with a training's arguments beside them, as timm saves them, in every version of torch and both formats."""

import argparse
import pickle

import pytest
import torch

from spikeattn.compat.safe_pickles import load_by_stand_in, load_weights


class Strange:
    """A type that no weights need."""


@pytest.mark.parametrize("load", [load_by_stand_in, load_weights])
@pytest.mark.parametrize("zipped", [True, False])
def test_namespaces_are_read_and_strangers_are_not(tmp_path, load, zipped):
    model, path = torch.nn.Linear(3, 2), tmp_path / "net.pth.tar"
    given = argparse.Namespace(lr=0.1, opt="adamw", resume=None, betas=(0.9, 0.95))
    content = {"epoch": 3, "state_dict": model.state_dict(), "args": given, "again": given, "other": [1, 2]}
    content["args_too"] = argparse.Namespace(seed=7)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = load(path)
    assert {key: value for key, value in read.items() if key != "state_dict"} == {
        key: value for key, value in content.items() if key != "state_dict"
    }
    assert torch.equal(read["state_dict"]["weight"], model.weight) and list(read) == list(content)
    torch.save({"args": given, "state": Strange()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        load(path)

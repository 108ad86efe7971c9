"""Modes of a model come back module by module."""

from __future__ import annotations

import pytest
from torch import nn

from spikeattn.tracing.modes import in_eval


def test_every_module_gets_its_own_mode_back_also_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model[1][0].eval()  # a frozen batch norm in a network that trains
    before = [module.training for module in model.modules()]
    assert before == [True, True, True, False, True]
    with in_eval(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ZeroDivisionError), in_eval(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before

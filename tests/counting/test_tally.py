"""What a pass collects: here the predictions after each time step."""

from __future__ import annotations

import pytest
import torch

import spikeattn as sa


@pytest.mark.parametrize("arguments", [{"time_steps": 1}, {"time_steps": 1, "tet": True}, {"time_steps": 2}])
def test_the_prediction_after_the_last_step_is_that_of_the_model_itself(arguments):
    model = sa.create_model("sdt_digits", pretrained=True, **arguments)
    data = sa.open_dataset("digits", model)
    rows = sa.profile(model, sa.make_loader(data, batch_size=16, limit=16)).counts.rows
    with torch.no_grad():
        logits = model(data.images[:16])
    expected = (logits.mean(0) if logits.dim() == 3 else logits).argmax(1)
    assert rows[f"pred_{arguments['time_steps']}"].tolist() == expected.tolist()

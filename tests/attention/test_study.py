"""`Study`: what `spikeattn attend` computes, from Python, without a command line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.attention.study import Study, StudySettings, look
from spikeattn.data.dataset import Skipped
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.study.arrays import write_tables
from spikeattn.reporting.study.summary import summary_of

QUICK = StudySettings(null="pixel", replicates=5, seed=3)


class SomeUnreadable(torch.utils.data.Dataset):
    """The digits, of which image 1 cannot be read."""

    def __init__(self, digits):
        self.digits = digits

    def __getattr__(self, name):
        return getattr(self.digits, name)

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, i):
        return Skipped(self.digits.id(i), "cut short", i) if i == 1 else self.digits[i]


@pytest.fixture(scope="module")
def digits():
    model = sa.create_model("sdt_digits", pretrained=True)
    return model, SomeUnreadable(sa.open_dataset("digits", model))


def test_a_study_is_attend_image_by_image(digits, tmp_path):
    model, dataset = digits
    study, said = Study(model, dataset, QUICK), []
    assert look([study], range(3), said.append) == ([0, 2], said) and [one.id for one in said] == [dataset.id(1)]
    assert study.ids == [dataset.id(0), dataset.id(2)] and study.layers == [1] and study.all_layers == [0, 1]
    expected = sa.attend(model, dataset[2][0][None], "pixel", 5, seed=3, indices=[2])
    np.testing.assert_array_equal(study.attentions[1].p, expected.p)
    steps = sa.attention_map(model, dataset[2][0][None], layer="all", steps="each").values[0]
    np.testing.assert_array_equal(study.grids[1][:, :-1], steps)
    assert write_tables(tmp_path / "new", [study]) == ["attention.npz", "attention.csv", "layers.csv"]
    summary = summary_of([study], said)
    assert [row["image"] for row in summary["images"]] == study.ids and summary["untrained"] is False
    assert summary["skipped"] == [{"image": dataset.id(1), "reason": "cut short"}]
    assert list(study.evaluate([0]).D) == ["q", "p", "lfdr", "pi0", "soft"]
    with pytest.raises(SpikeattnError, match="no image could be read, 1 were skipped.*cut short"):
        look([study], [1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"null": "norml"}, "unknown null 'norml': did you mean 'normal'"),
        ({"memory": 0}, "memory 0: give the GiB"),
        ({"method": "soft", "threshold": 0.1}, "threshold: method soft has none"),
        ({"ties": "random", "estimator": "published"}, "ties random needs estimator standardised"),
        ({"layer": 7}, "layer 7: the model has blocks 0 to 1"),
        ({"statistic": "V_hat_S"}, "unknown statistic of sdt_digits 'V_hat_S': did you mean 'Vhat_S'"),
    ],
)
def test_wrong_settings_are_said_before_any_image(digits, settings, message):
    with pytest.raises(SpikeattnError, match=message) as error:
        Study(*digits, StudySettings(**settings))
    assert "--" not in str(error.value)


def test_a_network_of_which_nothing_is_known_is_not_called_untrained(digits):
    model = sa.create_model("sdt_digits", pretrained=True)
    del model.provenance
    study = Study(model, digits[1], QUICK)
    assert (study.name, study.untrained) == ("SpikeDrivenTransformer", False)


def test_neither_a_command_line_nor_a_figure_is_needed():
    code = (
        "import sys, spikeattn.attention.study as s; "
        "print([m for m in ('typer', 'matplotlib', 'spikeattn.cli', 'spikeattn.reporting') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The page of the energy models says what their records say."""

from __future__ import annotations

from scripts.energy_models_page import PAGE, page
from spikeattn.energy import get_energy_model, list_energy_models


def test_the_page_is_that_of_the_records():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/energy_models_page.py"


def test_every_model_and_every_constant_has_its_place():
    text = page()
    for name in list_energy_models(own=False):
        assert f"\n## {name}\n" in text
        for constant in get_energy_model(name).record.constants:
            assert f"| {constant.name} | " in text and constant.source in text

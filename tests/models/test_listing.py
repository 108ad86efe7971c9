"""The list of models that `spikeattn models` prints from a file is what the models are."""

from __future__ import annotations

import json
from importlib import resources

from spikeattn.models import listing


def test_the_file_says_of_every_model_what_it_is():
    file = resources.files("spikeattn") / "models" / "listing.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored == list(listing.rows()), "run scripts/list_models.py"

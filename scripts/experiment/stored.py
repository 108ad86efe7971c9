"""Tables that are made once: an experiment that was interrupted reads them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from spikeattn.storage import csv_text


def table(file: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of `file`, or, where it is not there, the one that `make` gives, which is written to it whole."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        csv_text.save(make(), file, "%.9g")
    return csv_text.read(file)

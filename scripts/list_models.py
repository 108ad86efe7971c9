"""Write the list of models that `spikeattn models` prints, from the models themselves: python scripts/list_models.py"""

from __future__ import annotations

import json
from pathlib import Path

from spikeattn.models.listing import rows

FILE = Path(__file__).resolve().parents[1] / "spikeattn" / "models" / "listing.json"


def main() -> None:
    """One model a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The sections of a page, in their order: for its table of contents, and for what an alert leads to."""

from __future__ import annotations

from typing import Any

# of an alert by its code; what has none here is about the run as a whole
_ALERTS = {
    "uncounted": "operations",
    "unpriced": "energy",
    "few-images": "energy",
    "classes": "images",
    "labels": "time",
    "structure": "structure",
    **dict.fromkeys(("all-silent", "silent", "saturated", "real", "idle"), "rates"),
}
_RUN = "provenance"


def sections(page: dict[str, Any]) -> list[tuple[str, str]]:
    """Id and title of every section that the page has.

    Args:
        page: of `facts.page`, with the names of the figures.
    """
    missing = page["missing"]
    there = {
        "structure": "structure" in page["sheets"],
        "conventions": bool(page["falls"]),
        "models": "models" in page["sheets"] or bool(missing.get("models")),
        "sweep": "sweep" in page["figures"] or bool(missing.get("sweep")),
    }
    titles = {
        "rates": "Firing rates",
        "structure": "Structure",
        "blocks": "Blocks",
        "energy": "Energy",
        "images": "Image by image",
        "ann": "Beside the ANN",
        "conventions": "Conventions",
        "models": "Energy models",
        "sweep": "What if",
        "attention": "Attention",
        "time": "Over time",
        "operations": "Operations",
        "limits": "What the numbers are not",
        "provenance": "Provenance",
        "glossary": "Words",
    }
    return [(name, title) for name, title in titles.items() if there.get(name, True)]


def leads_to(code: str) -> str:
    """The section that an alert is about, by its code."""
    return _ALERTS.get(code, _RUN)

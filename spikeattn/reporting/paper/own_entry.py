"""The BibTeX entry of spikeattn itself, at the version that counted."""

from __future__ import annotations

KEY = "spikeattn"
YEAR = 2026  # of the last release: scripts/release.py sets it, with CITATION.cff and docs/cite.md


def own_entry(version: str | None) -> str:
    """The entry as on the page "How to cite"; without a version, where a run does not say which one counted."""
    note = f"\n  note   = {{Version {version}}}," if version else ""
    return f"""@misc{{{KEY},
  author = {{{{The spikeattn authors}}}},
  title  = {{spikeattn: firing rates, operations and energy of spiking vision transformers}},
  year   = {{{YEAR}}},{note}
}}"""

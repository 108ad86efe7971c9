"""Families whose papers have names of their own: one file with one record each, recognised by their structure."""

from spikeattn.structure.families.family import Family, recognise

__all__ = ["Family", "recognise"]

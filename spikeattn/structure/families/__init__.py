"""Families whose papers have names of their own: one file with one record each, recognised by their structure."""

from spikeattn.structure.families.catalogue import recognise
from spikeattn.structure.families.family import Family

__all__ = ["Family", "recognise"]

"""The command line: `spikeattn profile | energy | rates | report | models | costs | conventions`."""

from spikeattn.cli.app import main

__all__ = ["main"]

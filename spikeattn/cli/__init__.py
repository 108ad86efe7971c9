"""The command line: `spikeattn profile | energy | rates | report | models | costs | conventions`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see `spikeattn.cli.app.main`.

    The commands are imported here, so that Ctrl-C while they are is no traceback.
    """
    from spikeattn.cli.streams import open_standard_streams

    open_standard_streams()
    try:
        from spikeattn.cli import app
    except KeyboardInterrupt:
        import sys

        sys.stderr.write("interrupted\n")
        return 130
    return app.main(arguments)

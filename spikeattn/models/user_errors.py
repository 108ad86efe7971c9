"""What a user's own file raises, as one sentence with the line of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from spikeattn.compat.absent import what_to_do
from spikeattn.compat.extras import EXTRAS
from spikeattn.errors import SpikeattnError
from spikeattn.models.repository import Repository

_LONGEST = 300  # characters of a user's message; the cause keeps the whole


@contextmanager
def explained(what: str, repository: Repository) -> Iterator[None]:
    """Whatever a user's file raises, as one sentence with the line of it."""
    try:
        yield
    except SystemExit as error:
        where = _where(error.__traceback__, repository)
        raise SpikeattnError(
            f"{what}: it ends the program (exit {error.code}){where}; a file must not read the command line when it is "
            'imported: put that under if __name__ == "__main__"'
        ) from error
    except Exception as error:  # a user's file can raise anything
        reason = str(error) if isinstance(error, SpikeattnError) else _reason(error)
        where = _where(error.__traceback__, repository)
        raise SpikeattnError(f"{what}: {repository.plain(reason)}{where}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRAS:
        text = f"{text}; {what_to_do(str(error.name))}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _where(traceback: TracebackType | None, repository: Repository) -> str:
    """The last line of the user's own code in a traceback."""
    found = ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file in repository.sources or file == str(repository.file):
            found = f" ({repository.relative(file)}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return found

"""Where a run lies, and the names of its files."""

import os
from pathlib import Path

from jaxcram import hub
from jaxcram.errors import UserError

LOCK, SETTINGS, PLAN, LOG, SUMMARY = "run.lock", "settings.json", "plan.json", "log.jsonl", "summary.json"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path made absolute, without its ~; so that no later step depends on the working directory.

    Raises:
        UserError: it is a URL, holds a null character, or is relative to a directory that is gone.
    """
    whole = os.path.expanduser(path)  # not `Path.expanduser`, which raises errors at users that do not exist
    if "\0" in whole:
        raise UserError(f"{whole!r}: no path has a null character in it; check it")
    hub.refuse_uri("the run directory", whole)
    try:
        return Path(whole).absolute()
    except FileNotFoundError as error:
        raise UserError(f"{whole}: the working directory is gone; give an absolute path") from error


def recorded(name: str) -> str:
    """A name as a run records it: the absolute path where it is one of this machine, else as it is."""
    path = os.path.expanduser(name)
    return str(expanded(path)) if "\0" not in path and os.path.exists(path) else name

"""Whether this process may work on a directory: a run of these settings that no other process works on."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.results import disk
from jaxcram.results.identity import LANES, RunKind
from jaxcram.results.paths import LOCK, SETTINGS
from jaxcram.results.reading import load_settings


def refuse_foreign(path: Path) -> None:
    """Only an empty directory, a run, and what a start killed at once leaves behind are ours."""
    if (path / SETTINGS).exists():
        return
    ours = {LOCK, f".{SETTINGS}{disk.TEMPORARY}"}
    if foreign := {file.name for file in path.iterdir()} - ours:
        raise UserError(
            f"{path}: neither empty nor a run (it holds {min(foreign)}); choose another directory"
        )


def take_lock(path: Path) -> IO[str]:
    """The lock of a run directory, held until the file is closed.

    Raises:
        UserError: another process holds it.
    """
    descriptor = disk.own(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    lock = os.fdopen(descriptor, "a+", encoding="utf-8", errors="replace")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read(20) or "unknown"
        lock.close()
        raise UserError(
            f"{path}: process {owner} is working on this run; wait for it or choose another directory"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def agree(
    path: Path, settings: dict[str, Any], defaults: Mapping[str, Any], kind: RunKind, *, record: bool
) -> None:
    """Refuses a run of other settings; where asked, writes those of a new run, or what extends an old one."""
    was = load_settings(path) if (path / SETTINGS).exists() else None
    if kind != LANES:
        settings = {"program": kind.program, **settings}
    if was is not None:
        if was.get("program", LANES.program) != kind.program:
            raise UserError(
                f"{path}: no run of {kind.program} that this version can continue; choose another directory"
            )
        settings = kind.agreed(path, was, settings, defaults)
    if record and settings != was:
        disk.replace(path / SETTINGS, documents.json_bytes(settings))

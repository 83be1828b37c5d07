"""A run's log.jsonl, opened and read; malformed lines are skipped: a killed process may leave half a one."""

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from jaxcram import documents
from jaxcram.results import disk

_MOST_BYTES = 1 << 26  # read of a log
_LAST_BYTES = 1 << 16  # read from its end to find the last line


def open_log(path: Path) -> IO[bytes]:
    """The log for appending, without a last line that a killed process left half written."""
    log = os.fdopen(disk.own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab+", buffering=0)
    try:
        documents.require_file(path)
        log.seek(0)
        log.truncate(log.read().rfind(b"\n") + 1)
        return log
    except OSError:
        log.close()
        raise


def load_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log file; none if it does not exist."""
    try:
        with path.open("rb") as log:
            return list(_events(log.read(_MOST_BYTES)))
    except OSError:
        return []


def elapsed_s(log: IO[bytes]) -> float:
    """The time spent in earlier starts, in seconds, from the last line of an open log."""
    if not log.readable():
        return 0.0
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
    elapsed = [event.get("elapsed_s") for event in _events(log.read(_LAST_BYTES))]
    known = [seconds for seconds in elapsed if isinstance(seconds, int | float) and 0 <= seconds < 1e12]
    return float(known[-1]) if known else 0.0


def clock() -> str:
    """The current time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _events(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        with suppress(ValueError, RecursionError):
            if isinstance(event := json.loads(line), dict):
                yield event

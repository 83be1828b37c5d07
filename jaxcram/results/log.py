"""The events of a run's log.jsonl, as far as they can be read: a killed process leaves half a line."""

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_MOST_BYTES = 1 << 26  # of a log
_LAST_BYTES = 1 << 16  # of the log, in which its last line is


def load_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log file; one that is not there has none."""
    try:
        with path.open("rb") as log:
            return list(_events(log.read(_MOST_BYTES)))
    except OSError:
        return []


def elapsed_s(log: IO[bytes]) -> float:
    """The seconds of the starts before, as the last line of an open log says."""
    if not log.readable():
        return 0.0
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
    elapsed = [event.get("elapsed_s") for event in _events(log.read(_LAST_BYTES))]
    known = [seconds for seconds in elapsed if isinstance(seconds, int | float) and 0 <= seconds < 1e12]
    return float(known[-1]) if known else 0.0


def clock() -> str:
    """The time now, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _events(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        with suppress(ValueError, RecursionError):
            if isinstance(event := json.loads(line), dict):
                yield event

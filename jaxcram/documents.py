"""JSON files that others wrote: a bound on their size and depth, and only two kinds of errors."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 24  # parsed JSON takes up to thirty times its file; the largest weight maps have 10 MB
MOST_DEPTH = 100


def read_object(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: there is no such file, or it cannot be read; `strerror` says why.
        ValueError: it is too large, or holds no JSON object.
    """
    require_file(file)
    size = os.stat(file).st_size
    if size > most_bytes:
        raise ValueError(f"{size} bytes, more than the {most_bytes} that are read of such a file")
    value = parse(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, not {type(value).__name__}")
    return value


def parse(content: bytes | str) -> Any:
    """What JSON says. Raises ValueError: it is malformed, too deep, or an object has a key twice."""
    try:
        value = json.loads(content, object_pairs_hook=_unambiguous)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:  # far below what would exhaust Python's stack when the value is shown
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in containers for child in (item.values() if type(item) is dict else item)]
    return value


def require_file(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless there is a regular file: opening a pipe would wait, a device never ends."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "neither a file nor a directory", os.fspath(path))


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return values

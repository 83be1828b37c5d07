"""JSON: untrusted files, limited in size and depth, with OSError or ValueError only; our values as bytes."""

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 24  # parsed JSON takes up to 30 times the size of its file; the largest weight maps: 10 MB
MOST_DEPTH = 100
_SPACE = re.compile(r"\s*")


def read_object(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file does not exist or cannot be read; `strerror` says why.
        ValueError: it is too large, or is not a JSON object.
    """
    require_file(file)
    size = os.stat(file).st_size
    if size > most_bytes:
        raise ValueError(f"{size} bytes; at most {most_bytes} are read of such a file")
    value = parse(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, not {type(value).__name__}")
    return value


def parse(content: bytes | str) -> Any:
    """Parses JSON. Raises ValueError if it is malformed or too deep, or an object has a duplicate key."""
    try:
        value = json.loads(content, object_pairs_hook=_unambiguous)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    return _shallow(value)


def rows(pieces: Iterable[str], most_characters: int) -> Iterator[Any]:
    """Yields the values of a JSON document: the elements of an array, or any other value as it is.

    Several values may follow each other, as in JSON lines. Only one row is in memory at a time.

    Args:
        pieces: the document in pieces of any size.
        most_characters: limit for one row.

    Raises:
        ValueError: as `parse`, or a row is longer than `most_characters`.
    """
    document = _Document(pieces, most_characters)
    while start := document.peek():
        if start != "[":
            yield document.value()
            continue
        document.take()
        separator = "," if document.peek() != "]" else document.take()
        while separator == ",":
            yield document.value()
            document.peek()
            separator = document.take()
        if separator != "]":
            raise ValueError(
                "expecting ',' or ']' after an element" if separator else "the array is not closed"
            )


class _Document:
    """A JSON document, read piece by piece."""

    def __init__(self, pieces: Iterable[str], most_characters: int):
        self._pieces = iter(pieces)
        self._most = most_characters
        self._text, self._at = "", 0
        self._decoder = json.JSONDecoder(object_pairs_hook=_unambiguous)

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """The next character."""
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                return _shallow(value)
            except RecursionError:
                raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > self._most:
                    raise ValueError(f"{error.msg}, or more than {self._most} characters") from None
                if not self._more():
                    raise ValueError(error.msg) from None

    def _more(self) -> bool:
        """Reads as much again as is in memory, so that a long row is parsed only a few times."""
        left = [self._text[self._at :]]
        missing = max(1, len(left[0]))
        for piece in self._pieces:
            left.append(piece)
            missing -= len(piece)
            if missing <= 0:
                break
        self._text, self._at = "".join(left), 0
        return len(left) > 1


def require_file(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless the path is a regular file: a pipe would block, a device might never end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "neither a file nor a directory", os.fspath(path))


def _shallow(value: Any) -> Any:
    """Returns the value. Raises ValueError if it is nested too deeply."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:  # far below the depth at which repr() would exhaust Python's stack
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in containers for child in (item.values() if type(item) is dict else item)]
    return value


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return values


def json_bytes(value: Any, indent: int | None = 1) -> bytes:
    """JSON as UTF-8; names of files that are no UTF-8 are escaped, so that they come back as they were."""
    content = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        return content.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n"


def plain(value: Any) -> Any:
    """`value` in the types of JSON, as it would come back from a file."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if hasattr(value, "tolist"):  # of NumPy, which is not imported here: command lines start without it
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

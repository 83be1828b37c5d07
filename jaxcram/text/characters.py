"""Reads the characters of untrusted files: decompressed, decoded, and in pieces."""

import codecs
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jaxcram import documents
from jaxcram.errors import UserError

MOST_BYTES = 1 << 24  # of one line
_PIECE = 1 << 16  # bytes


def lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, with \\n as line ends; only one is in memory at a time."""
    position = 0
    with _opened(path) as file:
        while line := file.readline(MOST_BYTES + 1):
            size = len(line)
            if size > MOST_BYTES:
                raise UserError(f"{path}: a line has more than {MOST_BYTES} bytes; split it")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, position + error.start) from error
            del line  # or a long line would be in memory three times
            text = text.replace("\r\n", "\n")
            yield text.removeprefix("\ufeff") if position == 0 else text
            position += size


def pieces(path: Path) -> Iterator[str]:
    """Yields the characters of a UTF-8 file in pieces, regardless of lines."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with _opened(path) as file:
        while True:
            piece, started = file.read(_PIECE), position - len(decoder.getstate()[0])
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, started + error.start) from error
            yield text.removeprefix("\ufeff") if position == 0 else text
            position += len(piece)
            if not piece:
                return


def valid(text: str, where: str) -> str:
    """Returns the text. Raises UserError if it is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: unpaired surrogate (character {error.start}); correct it") from error
    return text


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _not_utf8(path: Path, position: int) -> UserError:
    return UserError(f"{path}: not UTF-8 (byte {position}); convert it, for example with iconv -t UTF-8")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed according to its name; any error is raised as a UserError."""
    try:
        documents.require_file(path)
        with path.open("rb") as stored, COMPRESSIONS.get(path.suffix.lower(), _plain)(stored) as stream:
            yield stream
    except _damage() as error:
        raise UserError(f"{path}: damaged or truncated ({first_line(error)}); compress it again") from error
    except OSError as error:
        if error.strerror is None:  # from the decompressor, not from the system
            raise UserError(
                f"{path}: damaged, or not compressed as its name says ({first_line(error)}); "
                "compress or rename it"
            ) from error
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _damage() -> tuple[type[Exception], ...]:
    """The errors of decompressors; lzma is not imported here, since some builds of Python lack it."""
    lzma = sys.modules.get("lzma")
    return (EOFError, zlib.error, *([lzma.LZMAError] if lzma else []))


def _plain(stored: BinaryIO) -> BinaryIO:
    return stored


def _gzip(stored: BinaryIO) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=stored)


def _bzip2(stored: BinaryIO) -> Any:
    import bz2

    return bz2.BZ2File(stored)


def _xz(stored: BinaryIO) -> Any:
    import lzma

    return lzma.LZMAFile(stored)


def _zstandard(stored: BinaryIO) -> Any:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(stored, "zstd"))


COMPRESSIONS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".xz": _xz,
    ".zst": _zstandard,
}

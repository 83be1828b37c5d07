"""Makes the standard streams reliable: always open, every character can be written, errors take one line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from jaxcram.errors import StoppedError


class OutputError(StoppedError):
    """Stdout could not be written."""


@contextmanager
def reliable() -> Iterator[None]:
    """While the context is open, `sys.stdout` and `sys.stderr` can be written to.

    A closed stream discards its output. Characters that the encoding lacks are written as escape sequences. A
    write error on stdout raises `OutputError`, or `BrokenPipeError` if the reader has closed it. Errors on
    stderr, which only has progress and messages, are ignored.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout = _wrapped(sys.stdout, _Output, 1)
    sys.stderr = _wrapped(sys.stderr, _Messages, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, OutputError):
                stream.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def work_is_kept() -> Iterator[None]:
    """For printing the results of finished work that is saved in files: an `OutputError` is only reported."""
    try:
        yield
        sys.stdout.flush()
    except OutputError as error:
        print(f"the work is done and saved, but {error}", file=sys.stderr)


def discard_output() -> None:
    """Redirects stdout to /dev/null, so that the final flush cannot fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _open_closed() -> None:
    """Opens /dev/null for closed descriptors 0 to 2: the next files would get them, and be printed into."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor


# Errors are handled in the text layer: in the raw layer an interrupt between a write and its return would
# make the buffered layer write the same text again.
class _Output(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with _output_errors():
            return super().write(text)

    def flush(self) -> None:
        with _output_errors():
            super().flush()


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise OutputError(
            f"stdout cannot be written ({error.strerror}); free disk space or redirect it, then start the "
            "same command again"
        ) from error


class _Messages(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _wrapped(stream: TextIO | None, kind: type[io.TextIOWrapper], descriptor: int) -> TextIO:
    """A text stream over the same descriptor; a stream without a descriptor is returned as it is."""
    try:
        number = descriptor if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):  # in a notebook or a test
        assert stream is not None
        return stream
    if stream is not None:
        stream.flush()
    unbuffered = getattr(stream, "write_through", False)
    return kind(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=descriptor == 2 or unbuffered or os.isatty(number),
        write_through=unbuffered,
    )

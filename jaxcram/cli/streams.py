"""The standard streams as programs can rely on: open, taking every character, and telling a full disk."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from jaxcram.errors import StoppedError


class OutputError(StoppedError):
    """Stdout did not take what a program had to say."""


@contextmanager
def reliable() -> Iterator[None]:
    """While the context is open, `sys.stdout` and `sys.stderr` can be written to.

    A stream that is closed leads nowhere. Characters that an encoding lacks are spelt out as escape
    sequences. An error of stdout is an `OutputError`, and a reader that has left still a `BrokenPipeError`;
    whatever befalls stderr, which has progress and messages, stops nobody.
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
    """For what is printed at the end of work that lies in files: it is done, whether or not that is shown."""
    try:
        yield
        sys.stdout.flush()
    except OutputError as error:
        print(f"the work is done and kept, but {error}", file=sys.stderr)


def discard_output() -> None:
    """Stdout leads nowhere from now on, so that the last flush cannot fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _open_closed() -> None:
    """Descriptors 0 to 2, if closed, would go to the next files that are opened, and prints into these."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


# Not the raw layer: an interrupt there would come between writing and knowing of it, and the text come twice.
class _Output(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with _told():
            return super().write(text)

    def flush(self) -> None:
        with _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise OutputError(
            f"stdout cannot be written ({error.strerror}); make room or send it elsewhere, then start "
            "the same command again"
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
    """A text stream over the same descriptor; a stream that is none of the system's stays as it is."""
    try:
        number = descriptor if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):  # of a notebook or a test
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

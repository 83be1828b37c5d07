"""Writes files atomically, and reports disk errors in one line.

A file is written under a temporary name, flushed to disk and renamed, and then the directory is flushed too.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jaxcram.errors import StoppedError, UserError

TEMPORARY = ".tmp"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN}


def replace(path: Path, content: bytes) -> None:
    """Replaces a file atomically and durably.

    Raises:
        StoppedError: the disk is full, or the directory has disappeared.
        UserError: the directory cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to; it replaces `path` atomically and durably, unless the block raises an error.

    Raises:
        StoppedError, UserError: as `replace`.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with writing(path):
        try:
            with open(temporary, "wb", opener=own) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _rename(temporary, path)
        except BaseException:
            with suppress(OSError):  # report the first error
                temporary.unlink(missing_ok=True)
            raise


def remove(paths: Iterable[Path]) -> None:
    """Removes files durably; those that are gone already are no error.

    Raises:
        StoppedError, UserError: as `replace`.
    """
    paths = list(paths)
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        with writing(folder):
            _flush(folder)


def adopt(temporary: Path, path: Path) -> None:
    """As `replace`, with a file that has been written already, on the same disk.

    Raises:
        StoppedError, UserError: as `replace`.
    """
    with writing(path):
        _flush(temporary)
        _rename(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _flush(path.parent)  # or a power failure may undo the rename


def _flush(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own(path: str | Path, flags: int) -> int:
    """Opens a file as `os.open`, without following symbolic links or blocking on pipes."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process left in a folder."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Converts an `OSError` of the block into an error about `path`; see `failure`."""
    try:
        yield
    except OSError as error:
        raise failure(path, error) from error


def failure(path: Path, error: OSError) -> UserError:
    """The error to raise when `path` could not be written.

    Returns:
        `StoppedError` if the same command can resume once the disk is fixed, else a plain `UserError`.
    """
    what = f"{path}: cannot be written ({error.strerror or error})"
    if error.errno in _FULL:
        return StoppedError(
            f"{what}; free disk space, then start the same command again: finished results are kept"
        )
    if error.errno in _GONE:
        return StoppedError(
            f"{what}; restore the disk or directory, then start the same command again: "
            "finished results are kept"
        )
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return UserError(f"{what}; choose another directory{', or allow writing there' if denied else ''}")


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """As `writing`, at the start of a run: a read-only directory is then a user error, not a disk failure."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EROFS:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); choose another directory, or mount it for "
                "writing"
            ) from error
        raise failure(path, error) from error


@contextmanager
def folder(path: Path) -> Iterator[None]:
    """Makes a folder for what the block computes, or checks that one can be written that is there.

    If the block raises an error, folders that were made and are empty are removed.

    Raises:
        StoppedError, UserError: as `opening`, before the block.
    """
    made = [one for one in (path, *path.parents) if not one.exists()]
    with opening(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    try:
        yield
    except BaseException:
        for one in made:
            with suppress(OSError):  # not empty
                one.rmdir()
        raise


@contextmanager
def writing_through(path: Path) -> Iterator[None]:
    """As `writing`, for libraries that wrap an `OSError` in errors of their own (Orbax, safetensors)."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if cause := os_error(error):
            raise failure(path, cause) from error
        raise


def os_error(error: BaseException | None) -> OSError | None:
    """The `OSError` that an error wraps or derives from, if any."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        if number := re.search(r"os_error_code='(\d+)'|\(os error (\d+)\)", str(error)):
            code = int(number[1] or number[2])
            return OSError(code, os.strerror(code))
        error = error.__cause__ or error.__context__
    return None


def reserve(path: Path, size: int) -> None:
    """Checks that the disk has `size` bytes free, before a library starts writing.

    Raises:
        OSError: it has not.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # not supported everywhere
            raise
    finally:
        path.unlink(missing_ok=True)

"""Files that are whole or absent, whatever happens to the process, and disks that fail told in one line.

A file is written under a temporary name, flushed to the disk and renamed, and the rename is flushed too.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxcram.errors import StoppedError, UserError

TEMPORARY = ".tmp"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN}


def replace(path: Path, content: bytes) -> None:
    """Puts a file in place whole and on the disk, or leaves what was there.

    Raises:
        StoppedError: the disk is full, or the directory gone.
        UserError: the place cannot be written at all.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with writing(path):
        try:
            with open(temporary, "wb", opener=own) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):  # the first error is the one to be told
                temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # or the rename itself may be lost with the power
        finally:
            os.close(directory)


def own(path: str | Path, flags: int) -> int:
    """Opens a file (as `os.open`) and follows no link, waits for no pipe: a run's files are its own."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process left in a folder."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells an `OSError` of the block as what it means for `path`: see `failure`."""
    try:
        yield
    except OSError as error:
        raise failure(path, error) from error


def failure(path: Path, error: OSError) -> UserError:
    """What the person should hear when `path` could not be written.

    Returns:
        `StoppedError` where the same command can go on once the disk is mended, else a plain `UserError`.
    """
    what = f"{path}: cannot be written ({error.strerror or error})"
    if error.errno in _FULL:
        return StoppedError(f"{what}; make room, then start the same command again: what is whole was kept")
    if error.errno in _GONE:
        return StoppedError(
            f"{what}; bring the disk or directory back, then start the same command again: "
            "what is whole was kept"
        )
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return UserError(f"{what}; choose another directory{', or allow writing there' if denied else ''}")


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """As `writing`, at the start: that a place is read-only is then a mistake, and no disk that failed."""
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
def writing_through(path: Path) -> Iterator[None]:
    """As `writing`, for libraries that wrap the disk's errors in their own (Orbax and TensorStore)."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if cause := os_error(error):
            raise failure(path, cause) from error
        raise


def os_error(error: BaseException | None) -> OSError | None:
    """The disk's error within an error, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        if number := re.search(r"os_error_code='(\d+)'", str(error)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        error = error.__cause__ or error.__context__
    return None


def reserve(path: Path, size: int) -> None:
    """Makes sure that the disk has room for `size` bytes, so that a library need not find out half-way.

    Raises:
        OSError: it has not.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # not every disk can tell
            raise
    finally:
        path.unlink(missing_ok=True)

"""Checkpoints of unfinished work, saved asynchronously and restored bit by bit.

    checkpoints/state/STEP/          arrays and a JSON document, written by Orbax
    checkpoints/TABLE/STEP.parquet   new rows of a table since the previous checkpoint
    checkpoints/damaged-STEP/        a damaged checkpoint, moved aside

Every checkpoint names the row files that it needs, and has a digest of its contents, since Orbax does not
detect flipped bits.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import jax
import numpy as np

from jaxcram.devices import processes
from jaxcram.results import disk
from jaxcram.results.directory import RunDirectory
from jaxcram.results.row_files import RowFiles
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import Row

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

T = TypeVar("T")
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL}  # a file is missing or truncated
_MOST_BYTES = 1 << 26  # allowance for arrays of zeros, which take no space on disk
_TEN_YEARS = 10 * 365 * 86_400
_LOGGER = logging.getLogger("jaxcram")


@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """The contents of a checkpoint.

    Attributes:
        document: JSON; under the name of each table it has the number of rows by key.
        arrays: by name.
        rows: rows by table and key: those since the previous checkpoint; after reading from disk, all.
    """

    document: dict[str, Any]
    arrays: dict[str, np.ndarray]
    rows: dict[str, dict[str, list[Row]]]


@dataclasses.dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of checkpoint: how a T is converted to `Saved` and back.

    Attributes:
        tables: the tables whose rows are saved, by the name of their counts in the document.
        pack, unpack: T to `Saved`, and back.
    """

    tables: Mapping[str, ShardFormat]
    pack: Callable[[T], Saved]
    unpack: Callable[[Saved], T]


class Checkpoints(Generic[T]):
    """The checkpoints of a run directory; a context manager. Process 0 writes them, all processes read them.

    Args:
        directory: of the run.
        minutes: between two checkpoints; 0 turns them off.
        kind: of the checkpoints.
    """

    def __init__(self, directory: RunDirectory, minutes: float, kind: Kind[T]) -> None:
        self._directory = directory
        self._kind = kind
        self._folder = directory.path / "checkpoints"
        self._states = self._folder / "state"
        self._tables = {name: RowFiles(self._folder / x.name, x) for name, x in kind.tables.items()}
        self._seconds = minutes * 60
        self._last = time.monotonic()
        self._next_step = 1
        self._manager: CheckpointManager | None = None
        self._found: T | None = None
        self._orbax_level = logging.NOTSET

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
        else:
            with suppress(Exception):  # report the first error
                self.close()

    def close(self) -> None:
        """Waits until the last checkpoint is on disk.

        Raises:
            StoppedError: it could not be written.
        """
        if self._manager is not None:
            manager, self._manager = self._manager, None
            try:
                with disk.writing_through(self._folder):
                    manager.wait_until_finished()
                    manager.close()
            finally:
                logging.getLogger("absl").setLevel(self._orbax_level)

    @property
    def wanted(self) -> bool:
        """Whether checkpoints are turned on."""
        return self._seconds > 0

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self.wanted and time.monotonic() - self._last >= self._seconds

    def newest(self) -> T | None:
        """The newest intact checkpoint; damaged ones are reported and moved aside.

        Raises:
            UserError: the directory cannot be read or written.
        """
        step = processes.from_first(self._settle)
        found, self._found = self._found, None
        return found or (self._read(step) if step else None)

    def _settle(self) -> int | None:
        """The step of the newest intact checkpoint; removes everything newer."""
        if not self._folder.is_dir():
            return None
        with disk.writing_through(self._folder):
            manager = self._open()
            steps = sorted(manager.all_steps(), reverse=True)
            damaged: list[tuple[int, str]] = []
            for step in steps:
                try:
                    self._found = self._read(step)
                    break
                except MemoryError:
                    raise
                except Exception as error:  # damage can raise any type of error
                    if (cause := disk.os_error(error)) and cause.errno not in _ABSENT:
                        raise  # the disk fails; the checkpoint may be intact
                    damaged.append((step, (str(error) or repr(error)).splitlines()[0]))
            good = steps[len(damaged)] if len(damaged) < len(steps) else None
            for step, why in damaged:
                instead = f"using checkpoint {good} instead" if good else "what it held starts again"
                _LOGGER.warning(
                    "%s: checkpoint %d is damaged (%s); %s", self._folder, step, why[:200], instead
                )
                self._directory.log({"event": "damaged_checkpoint", "checkpoint": step, "error": why})
                self._set_aside(step)
            if damaged:
                manager.reload()
            for files in self._tables.values():
                files.settle(good or 0)
        self._next_step = (good or 0) + 1
        return good

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint aside, where Orbax does not find it, until the run is finished."""
        aside = self._folder / f"damaged-{step}"
        if aside.exists():
            shutil.rmtree(aside)
        (self._states / str(step)).rename(aside)

    def _read(self, step: int) -> T:
        """Reads one checkpoint.

        Raises:
            Exception: of any type, if it is damaged.
        """
        import orbax.checkpoint as ocp

        manager = self._open()
        _check_files(self._states / str(step))
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        document = manager.restore(step, args=args).meta
        arrays = {}
        if (self._states / str(step) / "state").is_dir():
            args = ocp.args.Composite(state=ocp.args.StandardRestore())
            arrays = dict(manager.restore(step, args=args).state)
        if document.pop("digest") != _digest(document, arrays):
            raise ValueError("wrong digest")
        rows = {}
        for name, files in self._tables.items():  # earlier versions had fewer tables
            rows[name] = files.read(document.pop(files.name, {}), document.setdefault(name, {}))
        return self._kind.unpack(Saved(document, arrays, rows))

    def save(self, what: T) -> None:
        """Saves a checkpoint; returns while its arrays are still being written.

        With several processes, call it in process 0 only; all have the same values.

        Raises:
            StoppedError: this or the previous checkpoint could not be written.
        """
        import orbax.checkpoint as ocp

        self._last = time.monotonic()
        saved = self._kind.pack(what)
        with disk.writing_through(self._folder):
            self._open().wait_until_finished()
            for name, files in self._tables.items():
                files.write(self._next_step, saved.rows[name])
            document = saved.document | {files.name: files.digests for files in self._tables.values()}
            document["digest"] = _digest(document, saved.arrays)
            items: dict[str, Any] = {"meta": ocp.args.JsonSave(document)}
            if saved.arrays:  # Orbax cannot save an empty tree
                items["state"] = ocp.args.StandardSave(saved.arrays)
            room = 2 * sum(array.nbytes for array in saved.arrays.values()) + 2**18
            disk.reserve(self._folder / f".room{disk.TEMPORARY}", room)
            self._open().save(self._next_step, args=ocp.args.Composite(**items))
        self._next_step += 1

    def remove(self) -> None:
        """Removes all checkpoints: the run is finished."""
        self.close()
        with disk.writing_through(self._folder):
            if processes.number() == 0 and self._folder.exists():
                shutil.rmtree(self._folder)

    def _open(self) -> CheckpointManager:
        """Orbax's manager, created on first use, since most runs end before their first checkpoint."""
        if self._manager is None:
            import orbax.checkpoint as ocp

            self._orbax_level = logging.getLogger("absl").level
            # Damage and full disks are reported in one line by this package.
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            me = processes.number()
            if me == 0:
                tables = (files.folder for files in self._tables.values())
                for folder in (self._folder, self._states, *tables):
                    folder.mkdir(exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.preservation_policy.LatestN(2),
                cleanup_tmp_directories=me == 0,
                create=False,
                # Orbax's timeouts use the wall clock, which may jump: so practically no timeout.
                async_options=ocp.options.AsyncOptions(
                    timeout_secs=_TEN_YEARS, create_directories_asynchronously=False
                ),
                # Every process has all values, so the managers need not communicate.
                multiprocessing_options=ocp.options.MultiprocessingOptions()
                if processes.count() == 1
                else ocp.options.MultiprocessingOptions(me, {me}, f"process{me}"),
            )
            self._manager = ocp.CheckpointManager(
                self._states.absolute(), options=options, item_names=("state", "meta")
            )
        return self._manager


def _check_files(step: Path) -> None:
    """Refuses links and pipes, and arrays whose shapes imply far more bytes than are on disk."""
    import orbax.checkpoint as ocp

    size = 0
    for folder, _, names in os.walk(step):
        for name in names:
            status = os.lstat(Path(folder, name))
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{name} is not a regular file")
            size += status.st_size
    if (step / "state").is_dir():
        with ocp.StandardCheckpointer() as reader:
            arrays = jax.tree.leaves(reader.metadata(step / "state").item_metadata.tree)
        claimed = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
        if claimed > _MOST_BYTES + 4 * size:
            raise ValueError(f"its arrays need {claimed} bytes, but its files have {size}")


def _digest(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(document).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

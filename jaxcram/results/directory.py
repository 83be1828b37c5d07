"""A run on disk: tables of Parquet shards, the settings, a log, a summary.

    settings.json       the resolved settings; another start with other settings is refused
    plan.json           the shapes of passes, chosen at the first start (`jaxcram.cram.fit`)
    run.lock            locked (flock) while a process works on the run, so a killed run leaves no stale lock
    rows/KEY.parquet    the rows of one finished job, one a stage
    curves/KEY.parquet  its curve, one point every few steps, where asked for; there before its rows
    TABLE/group-NUMBER.parquet  several lanes of a table, after `compact` or `write_group`
    log.jsonl           events, each with the time of day and the seconds of all starts so far
    summary.json        written at the end
    checkpoints/        of what is under way (`jaxcram.results.checkpoint`); gone when the summary is written

Every file but the log appears whole or not at all (`results.disk`). What is there after a crash or on a full
disk is whole, and the next start does the rest. The log is a comfort: a run goes on without it.
"""

import errno
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.results import compaction, disk
from jaxcram.results.curves import CURVES
from jaxcram.results.disk import writing
from jaxcram.results.identity import LANES, RunKind
from jaxcram.results.log import clock, elapsed_s, open_log
from jaxcram.results.opening import agree, refuse_foreign, take_lock
from jaxcram.results.paths import LOG, PLAN, SETTINGS, SUMMARY, expanded
from jaxcram.results.rows import ROWS
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import Job

_LOGGER = logging.getLogger("jaxcram")


class RunDirectory:
    """A run directory that this process works on; made by `RunDirectory.open`, a context manager.

    Attributes:
        path: where it is.
        constants: columns that are the same in every row that this process measures.
    """

    def __init__(self, path: Path, lock: IO[str], log: IO[bytes], constants: dict[str, Any]):
        self.path = path
        self.constants = constants
        self._lock = lock
        self._start = time.monotonic() - elapsed_s(log)
        self._log = log
        self._log_works = True

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        constants: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        kind: RunKind = LANES,
    ) -> Self:
        """Makes the directory, or takes up the run that is in it.

        Args:
            path: the directory; its parents are made too.
            settings: everything that the rows depend on, as JSON can say it (arrays, paths and tuples are
                converted); a later `open` must bring the same, or what extends them (`results.identity`).
            constants: columns of `results.rows.COLUMNS` that are the same in every row; they are filled in.
            defaults: what settings are that an earlier version did not record.
            kind: of the run.

        Raises:
            UserError: the directory cannot be written, holds something else, belongs to other settings, or
                another process works on it.
            ValueError: a constant is no column.
        """
        path, constants = expanded(path), dict(constants or {})
        if unknown := constants.keys() - ROWS.columns.keys():
            raise ValueError(f"constants that are no columns: {sorted(unknown)}")
        with disk.opening(path):
            path.mkdir(parents=True, exist_ok=True)
            refuse_foreign(path)
            lock = take_lock(path)
        try:
            agree(path, documents.plain(settings), documents.plain(defaults or {}), kind, record=True)
            with writing(path):
                for table in kind.tables:
                    (path / table).mkdir(exist_ok=True)
                for folder in ("", *kind.tables, CURVES.name):
                    disk.remove_leftovers(path / folder)
                return cls(path, lock, open_log(path / LOG), constants)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def join(
        cls,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        constants: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        kind: RunKind = LANES,
    ) -> Self:
        """The run that another process has opened, for the rows of this one's lanes; it keeps no log.

        Raises:
            UserError: this process does not see that run.
        """
        path = expanded(path)
        if not (path / SETTINGS).exists():
            raise UserError(
                f"{path}: process 0 has a run here that this one does not see; choose a place both see"
            )
        agree(path, documents.plain(settings), documents.plain(defaults or {}), kind, record=False)
        return cls(path, open(os.devnull), open(os.devnull, "ab"), dict(constants or {}))

    def close(self) -> None:
        """Releases the directory for other processes."""
        self._log.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def finished_jobs(self) -> set[str]:
        """Keys of the jobs that have whole rows (see `jobs_of`)."""
        return {job.key for job in self.jobs_of(ROWS)}

    def jobs_of(self, format: ShardFormat) -> set[Job]:
        """The jobs that have whole rows in a table.

        A shard that cannot be read is renamed to NAME.unreadable and reported; its jobs count as not done.
        """

        def set_aside(shard: Path, error: ValueError) -> None:
            aside = shard.with_suffix(".unreadable")
            with writing(aside):
                shard.replace(aside)
            _LOGGER.warning("%s; set aside as %s, what it held is done again", error, aside.name)
            self.log({"event": "unreadable_shard", "shard": shard.name, "error": str(error)})

        return set(format.find_lanes(self.path / format.name, set_aside))

    def write_lane(
        self, job: Job, rows: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Writes the points of a finished job's curve, if there are any, and then all its rows, at once.

        Args:
            job: its columns need not be in the rows and points.
            rows: one mapping a stage, in order, with the columns of `results.rows.COLUMNS`; the constants of
                the run are filled in. Embeddings are arrays [K, D].
            curve: one mapping a point, in order, with the columns of `jaxcram.results.curves.COLUMNS`.

        Raises:
            ValueError: the rows do not fit the columns.
            UserError: the disk does not take them; the shards before are whole.
        """
        table = ROWS.lane_table(job, [{**self.constants, **row} for row in rows])
        if curve:
            points = CURVES.lane_table(job, curve)
            with writing(self.path):
                (self.path / CURVES.name).mkdir(exist_ok=True)
            disk.replace(self.path / CURVES.name / f"{job.key}.parquet", CURVES.shard_bytes(points))
        disk.replace(self.path / ROWS.name / f"{job.key}.parquet", ROWS.shard_bytes(table))

    def write_group(self, format: ShardFormat, lanes: Mapping[Job, Sequence[Mapping[str, Any]]]) -> None:
        """Writes all rows of several jobs to one new shard, at once; for the process that opened the run.

        Args:
            format: of a table of the run's kind.
            lanes: rows of each job, in order, with the columns of the table but its job's.

        Raises:
            ValueError: the rows do not fit the columns.
            UserError: the disk does not take them; the shards before are whole.
        """
        tables = [format.lane_table(job, lanes[job]) for job in sorted(lanes)]
        if tables:
            format.write_group(self.path / format.name, tables)

    def compact(self, format: ShardFormat, most_bytes: int = compaction.MOST_BYTES) -> None:
        """Gathers the lanes of a table in few shards; for the process that opened the run.

        Raises:
            UserError: a shard is damaged, or the disk does not take the new ones; all rows are kept.
        """
        compaction.compact(format, self.path / format.name, most_bytes)

    def await_lanes(self, keys: Iterable[str]) -> None:
        """Waits until other processes have written the rows of these lanes.

        Raises:
            StoppedError: the directory has gone meanwhile.
        """
        missing, rows = {f"{key}.parquet" for key in keys}, self.path / ROWS.name
        while missing:
            # A listing, not a look at each: network file systems remember for a while that a file was absent.
            with writing(rows):
                missing -= set(os.listdir(rows))
            if missing:
                time.sleep(0.01)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Writes plan.json."""
        disk.replace(self.path / PLAN, documents.json_bytes(documents.plain(plan)))

    def remove_summary(self) -> None:
        """Removes summary.json: lanes were added, of which it does not tell."""
        with writing(self.path):
            (self.path / SUMMARY).unlink(missing_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json; numbers that JSON cannot say (NaN, infinity) become null."""
        disk.replace(self.path / SUMMARY, documents.json_bytes(documents.plain(summary)))

    def log(self, event: Mapping[str, Any]) -> None:
        """Adds a line to log.jsonl, with `time` (UTC, ISO 8601) and `elapsed_s`, the seconds of all starts.

        A log that cannot be written is told once and left; what stops a run are its rows.
        """
        elapsed = round(time.monotonic() - self._start, 3)
        times = {"time": clock(), "elapsed_s": elapsed}
        content, end = documents.json_bytes(documents.plain({**times, **event}), indent=None), None
        try:
            end = self._log.seek(0, os.SEEK_END)
            if self._log.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if end is not None:
                with suppress(OSError):
                    self._log.truncate(end)  # half a line would spoil the next one
            if self._log_works:
                _LOGGER.warning("%s: cannot be written (%s); going on", self.path / LOG, error.strerror)
            self._log_works = False


def stored_plan(path: Path) -> dict[str, Any] | None:
    """What plan.json of a run says; None if there is none, or if it is damaged, which is reported."""
    file = path / PLAN
    try:
        return documents.read_object(file) if file.exists() else None
    except (OSError, ValueError) as error:
        _LOGGER.warning("%s: %s; the shapes of passes are chosen again", file, error)
        return None


def finished_lanes(
    path: str | os.PathLike[str], settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> int:
    """How many lanes `RunDirectory.open` would find finished; writes nothing.

    Raises:
        UserError: it would refuse the directory.
    """
    path = expanded(path)
    if not path.exists():
        return 0
    with writing(path):
        refuse_foreign(path)
    if not (path / SETTINGS).exists():
        return 0
    agree(path, documents.plain(settings), documents.plain(defaults), LANES, record=False)
    return len(ROWS.find_lanes(path / ROWS.name, damaged=lambda *_: None))

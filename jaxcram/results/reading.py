"""What a run directory holds, finished or not: rows, curves, settings, summary and log."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.results.curves import CURVES
from jaxcram.results.log import load_events
from jaxcram.results.paths import LOG, SETTINGS, SUMMARY, expanded
from jaxcram.results.rows import ROWS
from jaxcram.results.schema import check_lane
from jaxcram.results.table import Job

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = 1 << 26  # of settings and summary; a lane takes half a kilobyte


def load_rows(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> "pa.Table":
    """The rows of a run, also of one that is not finished, by sample, learning rate, seed and stage.

    Args:
        path: the run directory.
        columns: the columns to read; None reads all. Without the embeddings even a long run is small.

    Raises:
        UserError: the path is no run, a column does not exist, or a shard is damaged.
    """
    load_settings(path)
    return ROWS.read_shards(expanded(path) / ROWS.name, columns)


def load_curves(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> "pa.Table":
    """The curves of a run, also of one that is not finished, by sample, learning rate, seed and step.

    Args:
        path: the run directory.
        columns: the columns of `jaxcram.results.curves.COLUMNS` to read; None reads all.

    Raises:
        UserError: the path is no run, it keeps no curves, a column does not exist, or a shard is damaged.
    """
    load_settings(path)
    table = CURVES.read_shards(expanded(path) / CURVES.name, columns)
    if not table.num_rows:
        raise UserError(f"{path}: no finished lane of this run has a curve; cram with log_every, such as 10")
    return table


def has_curves(path: str | os.PathLike[str]) -> bool:
    """Whether any finished lane of a run has a curve."""
    return any((expanded(path) / CURVES.name).glob("*.parquet"))


def load_lanes(path: str | os.PathLike[str]) -> Iterator[tuple[Job, "pa.Table"]]:
    """Every lane of a run and its rows, one by one: the embeddings of a large run need not fit memory.

    Raises:
        UserError: the path is no run, or a shard is damaged or holds what no run writes.
    """
    load_settings(path)
    folder = expanded(path) / ROWS.name
    targets = ROWS.read_shards(folder, ["num_input_tokens"])["num_input_tokens"].to_pylist()
    longest = max((count for count in targets if count), default=1)
    for job, table in ROWS.each_lane(folder):
        check_lane(folder, table, longest)
        yield job, table


def load_lane(path: str | os.PathLike[str], job: Job) -> "pa.Table":
    """The rows of one lane of a run.

    Raises:
        UserError: the path is no run, the lane has no rows in it, or a shard is damaged.
    """
    load_settings(path)
    folder = expanded(path) / ROWS.name
    found = ROWS.find_lanes(folder)
    if job not in found:
        raise UserError(f"{folder}: no rows of {job.key}; start the run's command again")
    return ROWS.read_lane(found[job])


def load_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        UserError: the path is no run.
    """
    return _load(path, SETTINGS, "it is not a run of jaxcram; give the directory of one")


def program_of(path: str | os.PathLike[str]) -> str:
    """The program that made a run, such as "cram".

    Raises:
        UserError: the path is no run.
    """
    return str(load_settings(path).get("program", "cram"))


def load_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        UserError: the path is no run, or the run is not finished.
    """
    load_settings(path)
    return _load(path, SUMMARY, "the run is not finished; start its command again to finish it")


def load_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events of a run's log; a run without a log has none."""
    return load_events(expanded(path) / LOG)


def _load(path: str | os.PathLike[str], name: str, without: str) -> dict[str, Any]:
    file = expanded(path) / name
    try:
        return documents.read_object(file, _MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: no {name} in it; {without}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); restore it or take another run") from error

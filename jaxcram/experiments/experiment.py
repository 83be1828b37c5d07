"""What experiments share: a finished one as a Python value, and measuring items group by group."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

from jaxcram import report
from jaxcram.devices import processes
from jaxcram.errors import UserError
from jaxcram.results.directory import RunDirectory
from jaxcram.results.identity import RunKind
from jaxcram.results.paths import expanded
from jaxcram.results.reading import load_settings, load_summary, program_of
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import Job, Row


class Experiment:
    """A finished experiment on disk.

    Attributes:
        path: its directory.
        settings: as settings.json has them.
        summary: as summary.json has it.
    """

    kind: ClassVar[RunKind]
    noun: ClassVar[str]  # as messages call one

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        self.settings = load_settings(path)
        self.summary = load_summary(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The experiment in a directory.

        Raises:
            UserError: there is none of this kind, or it is not finished.
        """
        if (program := program_of(path)) != cls.kind.program:
            raise UserError(f"{path}: a run of {program!r}, not {cls.noun}; give the directory of one")
        return cls(path)


Rows = Mapping[Job, Sequence[Row]]


class Grouping(NamedTuple):
    """How items are measured.

    Attributes:
        tables: an item that has rows in all of them is done.
        size: how many items are measured together, and share a file of each table until all are done.
        done: what the items are then, such as "scored"; names the event in the log.
    """

    tables: tuple[ShardFormat, ...]
    size: int
    done: str


def by_group(
    directory: RunDirectory,
    ids: Sequence[int],
    grouping: Grouping,
    measure: Callable[[list[int]], Mapping[ShardFormat, Rows]],
    tell: Callable[[str], None],
) -> None:
    """Measures the items that have no rows yet, group by group, and writes their rows, at last to few files.

    Args:
        directory: of the experiment.
        ids: of the items.
        grouping: how they are measured.
        measure: the rows of some items, by their positions in `ids`, for each table.
        tell: prints a line of progress.
    """
    tables, size, done = grouping

    def finished() -> list[int]:
        return sorted(set.intersection(*({job.sample_id for job in directory.jobs_of(x)} for x in tables)))

    before = set(processes.from_first(finished))
    left, start, count = groups(ids, before, size), time.monotonic(), 0
    for members in left:
        rows = measure(members)

        def write(rows: Mapping[ShardFormat, Rows] = rows) -> None:
            for table, of_table in rows.items():
                directory.write_group(table, of_table)

        processes.from_first(write)
        count += len(members)
        number = len(ids) - sum(map(len, left)) + count
        seconds = (time.monotonic() - start) / count * (len(ids) - number)
        directory.log({"event": done, "items": number, "left_s": seconds})
        tell(f"{number}/{len(ids)} items {done}, {report.duration(seconds)} left")
    for table in tables:
        processes.from_first(functools.partial(directory.compact, table))


def groups(ids: Sequence[int], done: set[int], size: int) -> list[list[int]]:
    """Positions of the items that are not done, `size` of them together."""
    left = [position for position, i in enumerate(ids) if i not in done]
    return [left[start : start + size] for start in range(0, len(left), size)]

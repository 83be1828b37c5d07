"""Rows of unfinished lanes, in files that checkpoints share: each file holds the rows new since the last."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from jaxcram import documents
from jaxcram.results import disk
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import Job, Row


@dataclasses.dataclass(frozen=True)
class _File:
    """A file of rows: its digest, and the keys of its lanes."""

    digest: str
    lanes: frozenset[str]

    @classmethod
    def of(cls, content: bytes, rows: list[Row]) -> _File:
        return cls(_digest(content), frozenset(map(_key, rows)))


class RowFiles:
    """The row files of one table, named STEP.parquet after the checkpoint with which they were written.

    Args:
        folder: of the files.
        shards: the format of the table.
    """

    def __init__(self, folder: Path, shards: ShardFormat) -> None:
        self.folder = folder
        self._shards = shards
        self._files: dict[str, _File] = {}  # files that the newest checkpoint needs, by name
        self._needed: list[set[str]] = []  # files that each checkpoint of this start needs, in order

    @property
    def name(self) -> str:
        """Name of the table."""
        return self._shards.name

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 digests, by name and in order, of the files that the newest checkpoint needs."""
        return {name: file.digest for name, file in self._files.items()}

    def write(self, step: int, rows: Mapping[str, list[Row]]) -> None:
        """Write the new rows of the unfinished lanes, and remove files that no checkpoint needs any more.

        Args:
            step: of the checkpoint that will be written next.
            rows: rows since the previous checkpoint, by key of every unfinished lane.

        Raises:
            OSError, UserError: the file could not be written.
        """
        if len(self._needed) > 1:  # Orbax keeps the last two checkpoints
            self._remove_but(self._needed[-1] | self._needed[-2])
        self._files = {name: file for name, file in self._files.items() if file.lanes & rows.keys()}
        if new := [row for of_lane in rows.values() for row in of_lane]:
            name, content = f"{step:08d}.parquet", self._shards.shard_bytes(self._shards.table(new))
            disk.replace(self.folder / name, content)
            self._files[name] = _File.of(content, new)
        self._needed.append(set(self._files))

    def read(self, digests: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, list[Row]]:
        """All rows of the unfinished lanes of a checkpoint, by key.

        Args:
            digests: of the files that it needs, in order.
            counts: number of rows of each lane, by key.

        Raises:
            Exception: of any type, if a file is missing or damaged, or rows are missing.
        """
        rows: dict[str, dict[int, Row]] = {key: {} for key in counts}
        files = {}
        for name, digest in digests.items():
            content = self._content(Path(name).name, digest)
            of_file = self._shards.rows(self._shards.read_shard(self.folder / Path(name).name))
            files[name] = _File.of(content, of_file)
            for row in of_file:
                key, index = _key(row), row[self._shards.index]
                # Skip rows beyond the lane's count: they are from before the lane was started again.
                if index < counts.get(key, 0):
                    rows[key][index] = row
        if any(len(rows[key]) != count for key, count in counts.items()):
            raise ValueError(f"missing {self._shards.name}")
        self._files = files
        return {key: [of_lane[i] for i in sorted(of_lane)] for key, of_lane in rows.items()}

    def settle(self, step: int) -> None:
        """Resume from checkpoint `step`, the last one read (0: from none), and remove newer files."""
        if not step:
            self._files = {}
        self._remove_but({file.name for file in self.folder.iterdir() if _is_of(file, step)})
        self._needed = [set(self._files)]

    def _content(self, name: str, digest: str) -> bytes:
        documents.require_file(self.folder / name)
        content = (self.folder / name).read_bytes()
        if _digest(content) != digest:
            raise ValueError(f"wrong digest of {name}")
        return content

    def _remove_but(self, names: set[str]) -> None:
        for file in self.folder.iterdir():
            if file.name not in names:
                file.unlink()


def _is_of(file: Path, step: int) -> bool:
    """Whether a file was written with checkpoint `step` or an earlier one."""
    return file.stem.isdecimal() and int(file.stem) <= step


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _key(row: Row) -> str:
    return Job.of_row(row).key

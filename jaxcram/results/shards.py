"""The files of a run's tables: Parquet shards, each of one lane or of several.

    KEY.parquet           the rows of one lane, named by its job
    group-NUMBER.parquet  the rows of several lanes, by sample, learning rate and seed; a row group a lane

A lane that is in several files counts once: its own file comes first, then the group with the largest number.
That is so after a compaction that was killed (`jaxcram.results.compaction`), or where a lane was done again.

A table is described by a `ShardFormat`: `results.rows.ROWS` and `results.curves.CURVES`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxcram import documents
from jaxcram.errors import StoppedError, UserError
from jaxcram.results import disk
from jaxcram.results.table import JOB_COLUMNS, Job, TableFormat, embedding_shape

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_GROUP = re.compile(r"group-([0-9]+)")


class Lane(NamedTuple):
    """Where the rows of a lane are.

    Attributes:
        job: of the lane.
        path: of its shard.
        row_group: its place in a shard of several lanes; None in a file of its own.
        footer: of a shard of several lanes, so that it is parsed once for all of them.
    """

    job: Job
    path: Path
    row_group: int | None = None
    footer: "pq.FileMetaData | None" = None


@dataclass(frozen=True, eq=False)
class ShardFormat(TableFormat):
    """The format of one table's shards.

    Attributes:
        remedy: for a damaged shard, as error messages say it.
    """

    remedy: str

    @property
    def _options(self) -> dict[str, Any]:
        repetitive = self.names_of("string", "int64")
        return {"compression": "zstd", "use_dictionary": repetitive, "write_page_checksum": True}

    def shard_bytes(self, table: "pa.Table") -> bytes:
        """A table as a Parquet file with page checksums."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **self._options)
        return sink.getvalue().to_pybytes()

    def write_group(self, folder: Path, tables: Iterable["pa.Table"]) -> None:
        """Writes lanes, in order of their jobs, to a new shard of several; one is in memory at a time.

        Raises:
            StoppedError, UserError: the disk does not take it.
        """
        import pyarrow.parquet as pq

        with disk.writing(folder):  # damaged ones that were set aside count too
            last = max((_group_number(path) or 0 for path in folder.iterdir()), default=0)
        path = folder / f"group-{last + 1:05d}.parquet"
        with disk.replacing(path) as file, pq.ParquetWriter(file, self.schema, **self._options) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=table.num_rows)

    def shards(self, folder: Path) -> list[Path]:
        """The shards of a folder: groups by number, then files of one lane."""
        found = {path: _group_number(path) for path in folder.glob("*.parquet")}
        return sorted(found, key=lambda path: (found[path] is None, found[path] or 0, path.name))

    def read_shard(self, path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
        """The table of a shard, or some columns of it.

        Raises:
            ValueError: the file is truncated, damaged or not a shard.
            StoppedError: the file has disappeared, with its directory or disk.
        """
        with self._open(path) as file:
            return self._with_sound_embeddings(file.read(columns=columns))

    def tables(self, path: Path, columns: Sequence[str] | None = None) -> Iterator["pa.Table"]:
        """Yields the rows of every lane of a shard; only one is in memory at a time.

        Raises:
            ValueError, StoppedError: as `read_shard`. That the rows are of lanes is not checked.
        """
        with self._open(path) as file:
            yield from self._tables(path, file, columns)

    def is_current(self, path: Path) -> bool:
        """Whether a shard has the columns that this version writes.

        Raises:
            ValueError, StoppedError: as `read_shard`.
        """
        with self._open(path) as file:
            return file.schema_arrow.equals(self.schema)

    def lanes(self, path: Path) -> list[Lane]:
        """The lanes of a shard, after checking everything in it but the embeddings.

        Raises:
            ValueError: the file is truncated or damaged, or has other lanes than its name says.
        """
        columns = [name for name in self.columns if name not in self.names_of("embedding")]
        with self._open(path) as file:
            jobs = [self._job(path, table) for table in self._tables(path, file, columns)]
            footer = file.metadata
        if _group_number(path) is not None:
            if not jobs or jobs != sorted(set(jobs)):
                raise ValueError(f"{path}: no rows, or lanes that are there twice or not in order")
            return [Lane(job, path, i, footer) for i, job in enumerate(jobs)]
        if jobs[0].key != path.stem:
            raise ValueError(f"{path}: has the rows of {jobs[0].key}")
        return [Lane(jobs[0], path)]

    def find_lanes(
        self, folder: Path, damaged: Callable[[Path, ValueError], None] | None = None
    ) -> dict[Job, Lane]:
        """The lanes of a folder, by sample, learning rate and seed.

        Args:
            folder: with the shards.
            damaged: called for a damaged shard, which is then left out; None raises an error.

        Raises:
            UserError: a shard is damaged.
        """
        found: dict[Job, Lane] = {}
        for path in self.shards(folder):
            try:
                found |= {lane.job: lane for lane in self.lanes(path)}
            except ValueError as error:
                if damaged is None:
                    raise self._damage(error) from error
                damaged(path, error)
        return dict(sorted(found.items()))

    def read_lane(self, lane: Lane, columns: Sequence[str] | None = None) -> "pa.Table":
        """The rows of a lane, or some columns of them.

        Raises:
            UserError: the shard is damaged.
        """
        try:
            with self._open(lane.path, lane.footer) as file:
                if lane.row_group is None:
                    return self._with_sound_embeddings(file.read(columns=columns))
                return self._with_sound_embeddings(file.read_row_group(lane.row_group, columns=columns))
        except ValueError as error:
            raise self._damage(error) from error

    def each_lane(
        self, folder: Path, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[Job, "pa.Table"]]:
        """Yields the lanes of a folder, by sample, learning rate and seed; only one is in memory at a time.

        Raises:
            UserError: a shard is damaged.
        """
        for job, lane in self.find_lanes(folder).items():
            yield job, self.read_lane(lane, columns)

    def read_shards(self, folder: Path, columns: Sequence[str] | None) -> "pa.Table":
        """All lanes of a folder as one table, by sample, learning rate, seed and index.

        Raises:
            UserError: a column does not exist, or a shard is damaged.
        """
        import pyarrow as pa

        names = list(self.columns) if columns is None else list(columns)
        if unknown := [name for name in names if name not in self.columns]:
            known = ", ".join(self.columns)
            raise UserError(f"no column {unknown[0]!r} in the {self.name}; choose from {known}")
        schema = pa.schema(self.schema.field(name) for name in names)
        # Concatenating ordered lanes does not copy the embeddings; sorting the table would.
        tables = [table for _, table in self.each_lane(folder, columns)]
        return pa.concat_tables([schema.empty_table(), *tables], promote_options="default").select(names)

    @contextmanager
    def _open(self, path: Path, footer: "pq.FileMetaData | None" = None) -> Iterator["pq.ParquetFile"]:
        """An open shard with the right types; converts what Arrow raises in the block to `ValueError`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            documents.require_file(path)
            # An open file, since Arrow may take a path for a URI, and refuses paths that are not UTF-8.
            with (
                path.open("rb") as stored,
                pq.ParquetFile(stored, metadata=footer, page_checksum_verification=True) as file,
            ):
                self._check_types(path, file.schema_arrow)
                yield file
        except (pa.ArrowException, OSError, UnicodeDecodeError, UserError) as error:
            if not path.exists():
                raise StoppedError(
                    f"{path}: has disappeared; restore the disk or directory, then start the command again"
                ) from error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path}: not a readable shard ({reason})") from error

    def _check_types(self, path: Path, schema: "pa.Schema") -> None:
        if len(set(schema.names)) < len(schema.names):
            raise ValueError(f"{path}: two columns have the same name")
        for field in self.schema:
            if field.name in schema.names and schema.field(field.name).type != field.type:
                raise ValueError(
                    f"{path}: column {field.name} holds {schema.field(field.name).type}, not {field.type}"
                )
            if field.name not in schema.names and not field.nullable:
                raise ValueError(f"{path}: no column {field.name}")

    def _tables(
        self, path: Path, file: "pq.ParquetFile", columns: Sequence[str] | None
    ) -> Iterator["pa.Table"]:
        if _group_number(path) is None:
            yield self._with_sound_embeddings(file.read(columns=columns))
        else:
            for i in range(file.num_row_groups):
                yield self._with_sound_embeddings(file.read_row_group(i, columns=columns))

    def _with_sound_embeddings(self, table: "pa.Table") -> "pa.Table":
        for name in self.names_of("embedding"):
            if name in table.column_names:
                embedding_shape(table[name])
        return table

    def _job(self, path: Path, table: "pa.Table") -> Job:
        """The job of the one lane whose rows these are; without embeddings."""
        empty = [name for name, (_, always, _) in self.columns.items() if always and table[name].null_count]
        if not table.num_rows or empty:
            raise ValueError(f"{path}: no rows, or rows without {', '.join(empty)}")
        jobs = {Job.of_row(row) for row in table.select(list(JOB_COLUMNS)).to_pylist()}
        if len(jobs) > 1 or table[self.index].to_pylist() != list(range(table.num_rows)):
            raise ValueError(f"{path}: rows of several lanes, or not all rows of one")
        return jobs.pop()

    def _damage(self, error: ValueError) -> UserError:
        return UserError(f"{error}; {self.remedy}")


def _group_number(path: Path) -> int | None:
    """The number of a shard of several lanes; None for a file of one."""
    found = _GROUP.fullmatch(path.stem)
    return int(found[1]) if found else None

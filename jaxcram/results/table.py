"""The columns and values of a run's tables. Their files are `jaxcram.results.shards`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcram.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

Columns = Mapping[str, tuple[str, bool, str]]  # name -> (type, whether every row must have it, meaning)

# The lane of a row; in every table.
JOB_COLUMNS: dict[str, tuple[str, bool, str]] = {
    "sample_id": ("int64", True, "index of the text in its source"),
    "learning_rate": ("float64", True, "peak learning rate of the lane"),
    "seed": ("int64", True, "seed of the initial embedding"),
}


Row = dict[str, Any]  # values by column; embeddings are arrays [K, D]


@dataclass(frozen=True, order=True)
class Job:
    """The job of one lane. `key` names its files: it is unique, and safe in a file name."""

    sample_id: int
    learning_rate: float
    seed: int

    @property
    def key(self) -> str:
        """For example `sample00003-lr0.1-seed0`; the learning rate as its shortest exact decimal."""
        return f"sample{self.sample_id:05d}-lr{float(self.learning_rate)!r}-seed{self.seed}"

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Job":
        """The job of a row."""
        return cls(*(row[name] for name in JOB_COLUMNS))


@dataclass(frozen=True, eq=False)
class TableFormat:
    """The format of one table.

    Attributes:
        name: of the table, and of its folder in the run directory.
        columns: of the table, including `JOB_COLUMNS`.
        index: the column that numbers the rows of a lane 0, 1, 2, ...
    """

    name: str
    columns: Columns
    index: str

    def names_of(self, *kinds: str) -> list[str]:
        """The columns of these types."""
        return [name for name, (kind, _, _) in self.columns.items() if kind in kinds]

    @cached_property
    def schema(self) -> "pa.Schema":
        """The Arrow schema of the table; each field's metadata has its meaning under `doc`."""
        import pyarrow as pa

        types = {
            "bool": pa.bool_(),
            "embedding": pa.list_(pa.list_(pa.float32())),
            "float64": pa.float64(),
            "floats": pa.list_(pa.float32()),
            "ids": pa.list_(pa.int32()),
            "int64": pa.int64(),
            "numbers": pa.list_(pa.float64()),
            "string": pa.string(),
        }
        return pa.schema(
            pa.field(name, types[kind], nullable=not always, metadata={"doc": doc})
            for name, (kind, always, doc) in self.columns.items()
        )

    def lane_table(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
        """The rows of one lane as a table, with the columns of its job.

        Raises:
            ValueError: there are no rows, a column is unknown, a required value is missing, or the rows are
                not numbered 0, 1, 2, ...
        """
        if [row.get(self.index) for row in rows] != list(range(len(rows))) or not rows:
            raise ValueError(f"{job.key}: {self.index} of a lane's {self.name} must be 0, 1, 2, ...")
        of_job = {name: getattr(job, name) for name in JOB_COLUMNS}
        return self.table([{**row, **of_job} for row in rows])

    def table(self, rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
        """Rows of any lanes as a table; embeddings are arrays [K, D].

        Raises:
            ValueError: a column is unknown, or a required value is missing.
        """
        import pyarrow as pa

        if unknown := {name for row in rows for name in row} - self.columns.keys():
            raise ValueError(f"unknown columns {sorted(unknown)}")
        arrays = []
        for field in self.schema:
            values = [row.get(field.name) for row in rows]
            if not field.nullable and any(value is None for value in values):
                raise ValueError(f"a row without {field.name}")
            is_embedding = self.columns[field.name][0] == "embedding"
            arrays.append(_embedding_array(values) if is_embedding else pa.array(values, field.type))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def rows(self, table: "pa.Table") -> list[dict[str, Any]]:
        """The rows of a table; the exact inverse of `table`."""
        embeddings = [name for name in self.names_of("embedding") if name in table.column_names]
        rows = table.drop_columns(embeddings).to_pylist()
        for name in embeddings:
            for row, value in zip(rows, table[name], strict=True):
                vectors = value.values  # K lists of D numbers, or None
                row[name] = (
                    None if vectors is None else vectors.flatten().to_numpy().reshape(len(vectors), -1).copy()
                )
        return rows


def stack_embeddings(column: "pa.ChunkedArray") -> np.ndarray:
    """The embeddings in a column, float32 [R, K, D], of the R rows that have one.

    Raises:
        UserError: no row has one, or they have different shapes.
    """
    shape = embedding_shape(column)
    if shape is None:
        raise UserError("these rows have no embeddings; cram with trajectory=all or trajectory=horizon")
    return np.concatenate(
        [chunk.drop_null().flatten().flatten().to_numpy().reshape(-1, *shape) for chunk in column.chunks]
    )


def embedding_shape(column: "pa.ChunkedArray") -> tuple[int, int] | None:
    """[K, D] of a column of embeddings; None if all are null. Raises UserError if they differ."""
    shapes = set()
    for chunk in column.chunks:
        present = chunk.drop_null()
        vectors = present.flatten()
        if vectors.null_count or vectors.flatten().null_count:
            raise UserError("these rows have embeddings with null values; they are not from a run")
        shapes |= {
            (num_memory, width)
            for num_memory in present.value_lengths().unique().to_pylist()
            for width in vectors.value_lengths().unique().to_pylist() or [None]
        }
    if len(shapes) > 1 or any(not width for _, width in shapes):
        raise UserError("these rows have embeddings of different shapes; they are not from one run")
    return next(iter(shapes), None)


def _embedding_array(values: Sequence[np.ndarray | None]) -> "pa.Array":
    """list<list<float>> of arrays [K, D], without creating a Python object for every number."""
    import pyarrow as pa

    present = [np.asarray(value, dtype=np.float32) for value in values if value is not None]
    if any(value.ndim != 2 or value.shape != present[0].shape for value in present):
        raise ValueError(f"expected embeddings of one shape [K, D], not {[value.shape for value in present]}")
    num_memory, width = present[0].shape if present else (0, 0)
    numbers = pa.array(np.concatenate(present).reshape(-1) if present else np.empty(0, np.float32))
    vectors = pa.ListArray.from_arrays(
        pa.array(np.arange(len(present) * num_memory + 1, dtype=np.int32) * width), numbers
    )
    is_null = np.array([value is None for value in values])
    ends = np.cumsum(~is_null, dtype=np.int32) * num_memory
    offsets = np.concatenate([np.zeros(1, np.int32), ends.astype(np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), vectors, mask=pa.array(is_null))

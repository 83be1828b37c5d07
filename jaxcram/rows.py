"""The rows of a run: their columns, and one lane's rows as a Parquet shard.

A row is a stage. The names are those of the published trajectories
(`mrsndmn/progressive_cramming_trajectories`) wherever that data set has the column. What is constant over a
run is repeated in every row, which Parquet's dictionaries make free on disk, so that tables of several runs
can be put together; what is constant over a lane and long stands in the lane's first row only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcram import documents
from jaxcram.errors import StoppedError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

# name -> (type, whether every row must have it, meaning)
COLUMNS: dict[str, tuple[str, bool, str]] = {
    "sample_id": ("int64", True, "index of the text in its source"),
    "learning_rate": ("float64", True, "peak learning rate of the lane"),
    "seed": ("int64", True, "seed of the initial embedding"),
    "stage_index": ("int64", True, "number of the stage in its lane, from 0"),
    "stage_seq_len": ("int64", True, "n, the target tokens of this stage"),
    "steps": ("int64", True, "optimiser steps of this stage"),
    "steps_taken": ("int64", True, "optimiser steps of the lane up to the end of this stage"),
    "final_loss": ("float64", False, "loss over the n tokens at the stage's last measurement"),
    "final_convergence": ("float64", True, "teacher-forced accuracy over the n tokens then, 0 to 1"),
    "exact": ("bool", True, "whether all n tokens were right; false only where a lane was stopped"),
    "information_gain_bits": (
        "float64",
        False,
        "total cross-entropy of the n tokens without minus with it",
    ),
    "surprisal_bits": ("float64", False, "bits of the tokens that the stage added, without the embedding"),
    "exact_prefix": ("int64", False, "tokens of the longest exact prefix within the stage's n"),
    "embedding": ("embedding", False, "the measured memory embedding, [K][D]; null where not kept"),
    "stop_reason": ("string", False, "why the lane ended; last row of a lane only"),
    "bucket_tokens": ("int64", False, "padded positions T of the passes that measured this stage"),
    "bucket_lanes": ("int64", False, "lanes B of the passes that measured this stage"),
    "initialization_embedding": (
        "embedding",
        False,
        "embedding at step 0, [K][D]; first row of a lane only",
    ),
    "text": ("string", False, "the target's text; first row of a lane only"),
    "target_ids": ("ids", False, "the target's tokens; first row of a lane only"),
    "num_input_tokens": ("int64", False, "tokens of the whole target"),
    "num_compression_tokens": ("int64", False, "K, the memory embeddings"),
    "hidden_size": ("int64", False, "D, the width of the model"),
    "loss_type": ("string", False, "the objective"),
    "dtype": ("string", False, "precision of the model's weights and of its arithmetic"),
    "model_checkpoint": ("string", False, "directory or Hub name of the model"),
    "weights_digest": ("string", False, "of the model's weights, however they are stored"),
    "max_optimization_steps_per_sample": ("int64", False, "cap on a lane's steps"),
    "convergence_threshold": ("float64", False, "accuracy at which a stage counts as converged"),
    "platform": ("string", False, "cpu, gpu or tpu"),
    "device_kind": ("string", False, "the device as its vendor names it"),
    "mesh": ("string", False, "devices along each axis of the mesh"),
}


@dataclass(frozen=True, order=True)
class Job:
    """What one lane works on. `key` names its shard: safe in a file name, and no two jobs share one."""

    sample_id: int
    learning_rate: float
    seed: int

    @property
    def key(self) -> str:
        """For example `sample00003-lr0.1-seed0`; the learning rate as its shortest exact decimal."""
        return f"sample{self.sample_id:05d}-lr{float(self.learning_rate)!r}-seed{self.seed}"


@cache
def row_schema() -> "pa.Schema":
    """The Arrow schema of the rows; each field's metadata `doc` says what it means."""
    import pyarrow as pa

    types = {
        "bool": pa.bool_(),
        "embedding": pa.list_(pa.list_(pa.float32())),
        "float64": pa.float64(),
        "ids": pa.list_(pa.int32()),
        "int64": pa.int64(),
        "string": pa.string(),
    }
    return pa.schema(
        pa.field(name, types[kind], nullable=not always, metadata={"doc": doc})
        for name, (kind, always, doc) in COLUMNS.items()
    )


def lane_table(job: Job, rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    """The rows of one lane as a table; the columns of the job are filled in.

    Raises:
        ValueError: no row, an unknown column, a required value missing, or stages not numbered 0, 1, 2, ...
    """
    if [row.get("stage_index") for row in rows] != list(range(len(rows))) or not rows:
        raise ValueError(f"{job.key}: the stages of a lane are numbered 0, 1, 2, ...")
    of_job = {"sample_id": job.sample_id, "learning_rate": job.learning_rate, "seed": job.seed}
    return rows_table([{**row, **of_job} for row in rows])


def rows_table(rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    """Rows of any lanes as a table; embeddings are arrays [K, D].

    Raises:
        ValueError: an unknown column, or a required value is missing.
    """
    import pyarrow as pa

    if unknown := {name for row in rows for name in row} - COLUMNS.keys():
        raise ValueError(f"unknown columns {sorted(unknown)}")
    arrays = []
    for field in row_schema():
        values = [row.get(field.name) for row in rows]
        if not field.nullable and any(value is None for value in values):
            raise ValueError(f"a row without {field.name}")
        is_embedding = COLUMNS[field.name][0] == "embedding"
        arrays.append(_embedding_array(values) if is_embedding else pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=row_schema())


def table_rows(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows from which `rows_table` makes the table, to the bit."""
    embeddings = [name for name in table.column_names if COLUMNS[name][0] == "embedding"]
    rows = table.drop_columns(embeddings).to_pylist()
    for name in embeddings:
        for row, value in zip(rows, table[name], strict=True):
            vectors = value.values  # an array of its K lists of D numbers, or None
            row[name] = (
                None if vectors is None else vectors.flatten().to_numpy().reshape(len(vectors), -1).copy()
            )
    return rows


def shard_bytes(table: "pa.Table") -> bytes:
    """A table as a Parquet file, its pages checksummed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    repetitive = [name for name, (kind, _, _) in COLUMNS.items() if kind in ("string", "int64")]
    pq.write_table(table, sink, compression="zstd", use_dictionary=repetitive, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def read_shard(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """The table of a shard, or some columns of it.

    Raises:
        ValueError: the file is truncated, damaged or no shard.
        StoppedError: the file has gone, with its directory or disk: no sign of damage.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        documents.require_file(path)
        # An open file, as Arrow may take a path for a URI, and takes none that is no UTF-8.
        with path.open("rb") as stored, pq.ParquetFile(stored, page_checksum_verification=True) as file:
            _check_types(path, file.schema_arrow)
            table = file.read(columns=None if columns is None else list(columns))
        for name in table.column_names:
            if COLUMNS.get(name, [None])[0] == "embedding":
                _shape(table[name])
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError, UserError) as error:
        if not path.exists():
            raise StoppedError(
                f"{path}: has gone; bring the disk or directory back, then start the same command again"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable shard ({reason})") from error


def _check_types(path: Path, schema: "pa.Schema") -> None:
    if len(set(schema.names)) < len(schema.names):
        raise ValueError(f"{path}: two columns of one name")
    for field in row_schema():
        if field.name in schema.names and schema.field(field.name).type != field.type:
            raise ValueError(
                f"{path}: column {field.name} holds {schema.field(field.name).type}, not {field.type}"
            )
        if field.name not in schema.names and not field.nullable:
            raise ValueError(f"{path}: no column {field.name}")


def shard_job(path: Path) -> Job:
    """The job of a shard, after reading all of it but the embeddings.

    Raises:
        ValueError: the file is truncated, damaged, or holds another job than its name says.
    """
    table = read_shard(path, [name for name, (kind, _, _) in COLUMNS.items() if kind != "embedding"])
    empty = [name for name, (_, always, _) in COLUMNS.items() if always and table[name].null_count]
    if not table.num_rows or empty:
        raise ValueError(f"{path}: no rows of a lane, or some without {', '.join(empty)}")
    jobs = {Job(*row.values()) for row in table.select(["sample_id", "learning_rate", "seed"]).to_pylist()}
    if len(jobs) > 1 or table["stage_index"].to_pylist() != list(range(table.num_rows)):
        raise ValueError(f"{path}: the rows of several lanes, or not all of one")
    (job,) = jobs
    if job.key != path.stem:
        raise ValueError(f"{path}: the rows of {job.key}")
    return job


def read_shards(folder: Path, columns: Sequence[str] | None) -> "pa.Table":
    """All shards of a folder as one table, by sample, learning rate, seed and stage.

    Raises:
        UserError: a column does not exist, or a shard is damaged.
    """
    import pyarrow as pa

    names = list(COLUMNS) if columns is None else list(columns)
    if unknown := [name for name in names if name not in COLUMNS]:
        raise UserError(f"no column {unknown[0]!r} in the rows; there are {', '.join(COLUMNS)}")
    schema = pa.schema(row_schema().field(name) for name in names)
    # Ordering whole shards leaves the embeddings where they are; sorting the table would copy them.
    tables = [table for _, table in each_shard(folder, columns)]
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default").select(names)


def each_shard(folder: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[Job, "pa.Table"]]:
    """The lanes of a folder one by one, by sample, learning rate and seed; one at a time is in memory.

    Raises:
        UserError: a shard is damaged.
    """
    try:
        for job, shard in sorted((shard_job(shard), shard) for shard in folder.glob("*.parquet")):
            yield job, read_shard(shard, columns)
    except ValueError as error:
        raise UserError(f"{error}; remove it and start the run's command again") from error


def stack_embeddings(column: "pa.ChunkedArray") -> np.ndarray:
    """The embeddings of a table's column, float32 [R, K, D], over its R rows that have one.

    Raises:
        UserError: no row has one, or they are of several shapes.
    """
    shape = _shape(column)
    if shape is None:
        raise UserError("these rows keep no embedding; cram with trajectory=all or trajectory=horizon")
    return np.concatenate(
        [chunk.drop_null().flatten().flatten().to_numpy().reshape(-1, *shape) for chunk in column.chunks]
    )


def _shape(column: "pa.ChunkedArray") -> tuple[int, int] | None:
    """[K, D] of a column of embeddings, None where all are null; UserError where they differ."""
    shapes = set()
    for chunk in column.chunks:
        present = chunk.drop_null()
        vectors = present.flatten()
        if vectors.null_count or vectors.flatten().null_count:
            raise UserError("these rows keep embeddings without numbers; they are of no run")
        shapes |= {
            (num_memory, width)
            for num_memory in present.value_lengths().unique().to_pylist()
            for width in vectors.value_lengths().unique().to_pylist() or [None]
        }
    if len(shapes) > 1 or any(not width for _, width in shapes):
        raise UserError("these rows keep embeddings of several shapes; they are of no run, or of several")
    return next(iter(shapes), None)


def _embedding_array(values: Sequence[np.ndarray | None]) -> "pa.Array":
    """list<list<float>> of [K, D] arrays without a Python object for every number."""
    import pyarrow as pa

    present = [np.asarray(value, dtype=np.float32) for value in values if value is not None]
    if any(value.ndim != 2 or value.shape != present[0].shape for value in present):
        raise ValueError(
            f"embeddings of one shape [K, D] are expected, not {[value.shape for value in present]}"
        )
    num_memory, width = present[0].shape if present else (0, 0)
    numbers = pa.array(np.concatenate(present).reshape(-1) if present else np.empty(0, np.float32))
    vectors = pa.ListArray.from_arrays(
        pa.array(np.arange(len(present) * num_memory + 1, dtype=np.int32) * width), numbers
    )
    is_null = np.array([value is None for value in values])
    ends = np.cumsum(~is_null, dtype=np.int32) * num_memory
    offsets = np.concatenate([np.zeros(1, np.int32), ends.astype(np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), vectors, mask=pa.array(is_null))

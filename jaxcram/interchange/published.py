"""Rows as the published data set has them (`mrsndmn/progressive_cramming_trajectories`), and back.

Both have a row a stage, the failed one included, and most columns. The published `text` and
`num_input_tokens` are of the stage's prefix, not of the whole target, every row repeats the initial
embedding, embeddings are float64 (of float32 values), and no column tells learning rate and seed.

Rows written here have the published columns first and as published. Behind them stand the columns that only
jaxcram has, and the whole target's text and number of tokens as `target_text` and `target_tokens`, so that
nothing is lost: `to_lane(from_lane(rows, texts))` is `rows`, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jaxcram.errors import UserError
from jaxcram.results.rows import ROWS
from jaxcram.results.table import JOB_COLUMNS

_EMBEDDING = pa.list_(pa.list_(pa.float64()))
PUBLISHED = pa.schema(
    {
        "sample_id": pa.int64(),
        "stage_index": pa.int64(),
        "stage_seq_len": pa.int64(),
        "text": pa.string(),
        "embedding": _EMBEDDING,
        "initialization_embedding": _EMBEDDING,
        "final_loss": pa.float64(),
        "final_convergence": pa.float64(),
        "num_input_tokens": pa.int64(),
        "num_compression_tokens": pa.int64(),
        "hidden_size": pa.int64(),
        "loss_type": pa.string(),
        "dtype": pa.string(),
        "model_checkpoint": pa.string(),
        "max_optimization_steps_per_sample": pa.int64(),
        "convergence_threshold": pa.float64(),
        "steps_taken": pa.int64(),
        "information_gain_bits": pa.float64(),
    }
)
_OF_TARGET = {"text": "target_text", "num_input_tokens": "target_tokens"}
SAME = [name for name in PUBLISHED.names if name not in (*JOB_COLUMNS, *_OF_TARGET)]  # of one meaning in both
_OWN = [name for name in ROWS.columns if name not in PUBLISHED.names]
EXPORTED = pa.schema(
    [
        *PUBLISHED,
        *(pa.field(name, ROWS.schema.field(name).type) for name in _OWN),
        *(pa.field(own, ROWS.schema.field(name).type) for name, own in _OF_TARGET.items()),
    ]
)


def require_columns(where: str, names: Sequence[str]) -> None:
    """Raises UserError unless rows have the published columns."""
    if missing := [name for name in PUBLISHED.names if name not in names]:
        raise UserError(
            f"{where}: no column {missing[0]!r}, which published trajectories have; give a data set of them"
        )


def conformed(where: str, table: pa.Table) -> pa.Table:
    """Rows with the types of `EXPORTED`, whatever layout or precision they are stored in.

    Raises:
        UserError: a column holds something else.
    """
    fields = [EXPORTED.field(name) for name in table.column_names]
    try:
        return table.cast(pa.schema(fields))
    except (pa.ArrowException, ValueError) as error:
        wrong = next(
            (field for field in fields if table.schema.field(field.name).type != field.type), fields[0]
        )
        raise UserError(
            f"{where}: column {wrong.name} holds {table.schema.field(wrong.name).type}, not {wrong.type}; "
            "give a data set of published trajectories"
        ) from error


def is_exported(names: Sequence[str]) -> bool:
    """Whether rows with these columns were exported by jaxcram, so that `to_lane` restores them."""
    return set(_OF_TARGET.values()) | set(_OWN) <= set(names)


def job_columns(names: Sequence[str]) -> list[str]:
    """The columns that tell the lane of a row: published rows have no learning rate and no seed."""
    return [name for name in JOB_COLUMNS if name in names]


def from_lane(table: pa.Table, texts: Sequence[str]) -> pa.Table:
    """The rows of a lane as published, `EXPORTED`.

    Args:
        table: the rows of one lane, by stage, with every embedding.
        texts: the text of each stage's prefix.
    """
    columns = {field.name: _column(table, field) for field in ROWS.schema}
    for name, own in _OF_TARGET.items():
        columns[own] = columns[name]
    first = pa.array(np.zeros(table.num_rows, np.int64))
    columns |= {
        "text": pa.chunked_array([pa.array(texts, pa.string())]),
        "num_input_tokens": columns["stage_seq_len"],
        "initialization_embedding": columns["initialization_embedding"].take(first),
    }
    return pa.table([columns[field.name].cast(field.type) for field in EXPORTED], schema=EXPORTED)


def to_lane(table: pa.Table) -> pa.Table:
    """The rows of a lane from rows that `from_lane` made, in order of their stages."""
    columns = {name: table[_OF_TARGET.get(name, name)] for name in ROWS.columns}
    columns["initialization_embedding"] = _first_only(columns["initialization_embedding"])
    return pa.table([columns[field.name].cast(field.type) for field in ROWS.schema], schema=ROWS.schema)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column of a lane; rows of earlier versions lack some."""
    if field.name in table.column_names:
        return table[field.name]
    return pa.chunked_array([pa.nulls(table.num_rows, field.type)])


def _first_only(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose value is in the first row only."""
    return pa.chunked_array([*column.slice(0, 1).chunks, pa.nulls(len(column) - 1, column.type)])

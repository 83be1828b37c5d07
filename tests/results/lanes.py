"""Runs with a few small lanes of known rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from jaxcram.results.directory import RunDirectory
from jaxcram.results.identity import RunKind
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Job

SCORES = ShardFormat(
    "scores",
    {
        **JOB_COLUMNS,
        "score_index": ("int64", True, "number of the score in its lane, from 0"),
        "ending": ("string", True, "what is scored"),
        "log_prob": ("float64", False, "nats"),
    },
    index="score_index",
    remedy="remove it and start the command again",
)


def evaluated(path, was, now, defaults):
    return now


EVALUATION = RunKind("evaluate", (SCORES.name,), evaluated)


def stage_rows(job: Job, width: int = 3) -> list[dict[str, Any]]:
    """One to three rows, whose embeddings nobody else has."""
    draw = np.random.default_rng([job.sample_id, job.seed])
    return [
        {
            "stage_index": index,
            "stage_seq_len": index + 1,
            "steps": 1,
            "steps_taken": index + 1,
            "final_convergence": 1.0,
            "exact": True,
            "embedding": draw.standard_normal((2, width)).astype(np.float32),
            "text": f"text {job.sample_id}" if index == 0 else None,
        }
        for index in range(1 + job.sample_id % 3)
    ]


def curve(job: Job, count: int) -> list[dict[str, Any]]:
    numbers = {"prefix": 2, "horizon": 1, "accuracy": 0.75, "step_learning_rate": job.learning_rate}
    return [{"point_index": index, "step": 10 * index, **numbers} for index in range(count)]


def scores(job: Job, count: int = 2) -> list[dict[str, Any]]:
    return [
        {"score_index": index, "ending": "é" * index, "log_prob": -job.sample_id - index / 4}
        for index in range(count)
    ]


def write(path: Path, jobs: list[Job], width: int = 3) -> None:
    """Writes lanes to a run as a run of cram does, each to a file of its own."""
    with RunDirectory.open(path, {"k": 1}) as run:
        for job in jobs:
            run.write_lane(job, stage_rows(job, width))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def flip(shard: Path, name: str, row_group: int) -> None:
    """Changes the last byte of a column in a row group, which nothing but its page's checksum can tell."""
    columns = pq.ParquetFile(shard).metadata.row_group(row_group)
    place = next(
        column.data_page_offset + column.total_compressed_size - 1
        for column in map(columns.column, range(columns.num_columns))
        if column.path_in_schema.split(".")[0] == name
    )
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x01
    shard.write_bytes(content)

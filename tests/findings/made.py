"""Runs on disk with known rows, which no model crammed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxcram.cram.rows import with_trajectory
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job

SETTINGS = {"model": "models/tiny", "dtype": "float32", "mode": "progressive", "max_steps": 2000}
SHAPE = (2, 5)  # of an embedding [K, D]


def make_run(
    path: Path,
    jobs: Sequence[tuple[int, float, int]],
    shape: tuple[int, int] = SHAPE,
    contents: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> Path:
    """A run of some (sample, learning rate, seed), unfinished, as it has no summary; each lane ends failing.

    Texts have 6 + 3 x sample exact tokens. Surprisal is the text's; steps follow it, and a third of the
    stages took none. Embeddings [K, D] walk at random from an initial one that the learning rates share.
    `contents` is what the run records of its model.
    """
    (path / "rows").mkdir(parents=True)
    texts = {str(sample): {"digest": f"digest{sample}", "begins": ""} for sample, _, _ in jobs}
    recorded = {**SETTINGS, **settings, "contents": {"texts": texts, "model": dict(contents)}}
    (path / "settings.json").write_text(json.dumps(recorded))
    for job in jobs:
        write_lane(path, job, lane(*job, shape))
    return path


def write_lane(path: Path, job: tuple[int, float, int], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows of a lane of a run, instead of those that it has."""
    shard = ROWS.shard_bytes(ROWS.lane_table(Job(*job), rows))
    (path / "rows" / f"{Job(*job).key}.parquet").write_bytes(shard)


def lane(sample: int, rate: float, seed: int, shape: tuple[int, int] = SHAPE) -> list[dict[str, Any]]:
    """The rows of one lane."""
    of_text, own = np.random.default_rng(sample), np.random.default_rng([sample, round(1000 * rate), seed])
    exact = 6 + 3 * sample
    surprisal = np.concatenate([[0.0], of_text.exponential(4.0, exact)])
    steps = np.where(own.random(exact + 1) < 1 / 3, 0, own.poisson(3 * surprisal) + 1)
    start = np.random.default_rng([sample, seed]).random(shape, np.float32)
    points = start + np.cumsum(own.standard_normal((exact + 1, *shape)) * rate, axis=0).astype(np.float32)
    rows = [
        {
            "stage_index": n - 1,
            "stage_seq_len": n,
            "num_input_tokens": exact + 4,
            "exact": n <= exact,
            "exact_prefix": min(n, exact),
            "steps": int(steps[n - 1]),
            "steps_taken": int(steps[:n].sum()),
            "final_convergence": 1.0 if n <= exact else exact / n,
            "information_gain_bits": float(0.8 * surprisal[:n].sum()),
            "surprisal_bits": float(surprisal[n - 1]),
            "embedding": points[n - 1],
            "initialization_embedding": start if n == 1 else None,
            "target_ids": list(range(exact + 4)) if n == 1 else None,
            "bucket_tokens": exact + 4,
            "bucket_lanes": 1,
            "stop_reason": "stage_cap" if n > exact else None,
        }
        for n in range(1, exact + 2)
    ]
    return with_trajectory(rows, points)

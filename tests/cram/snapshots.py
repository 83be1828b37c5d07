"""Snapshots of two lanes, made by hand; and what reading them back must give."""

import dataclasses

import numpy as np

from jaxcram.cram.snapshot import Snapshot
from jaxcram.results.table import Job

LANE = Job(3, 0.1, 0)
OTHER = Job(4, 0.5, 1)


def stage(job: Job, index: int, rng: np.random.Generator) -> dict:
    return {
        "sample_id": job.sample_id,
        "learning_rate": job.learning_rate,
        "seed": job.seed,
        "stage_index": index,
        "stage_seq_len": index + 1,
        "exact": True,
        "steps": 1,
        "steps_taken": index,
        "final_loss": float("nan") if index else rng.random(),
        "final_convergence": 1.0,
        "embedding": rng.random((2, 300)).astype(np.float32),
        "initialization_embedding": None if index else rng.random((2, 300)).astype(np.float32),
        "stop_reason": None,
    }


def snapshot(stages: dict[Job, list[int]], seed: int) -> Snapshot:
    """A snapshot of these lanes, whose new rows have these indices."""
    rng = np.random.default_rng(seed)
    mem = rng.random((len(stages), 2, 300)).astype(np.float32)
    return Snapshot(
        lanes={job.key: indices[-1] + 1 if indices else 0 for job, indices in stages.items()},
        state={"['mem']": mem, "['progress'].prefix": np.arange(len(stages), dtype=np.int32) + seed},
        rows={job.key: [stage(job, i, rng) for i in indices] for job, indices in stages.items()},
        totals={"wall_s": 1.25, "passes": 7},
    )


def plain(rows: list[dict]) -> list[dict]:
    """Rows that `==` can compare: bytes for arrays, a name for NaN; without columns that say nothing."""
    values = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [
        {
            name: value.tobytes() if isinstance(value, np.ndarray) else "NaN" if value != value else value
            for name, value in row.items()
        }
        for row in values
    ]


def assert_same(one: Snapshot, two: Snapshot) -> None:
    assert list(one.lanes.items()) == list(two.lanes.items())
    assert one.totals == two.totals
    assert {name: (x.dtype, x.shape, x.tobytes()) for name, x in one.state.items()} == {
        name: (x.dtype, x.shape, x.tobytes()) for name, x in two.state.items()
    }
    assert {key: plain(rows) for key, rows in one.rows.items()} == {
        key: plain(rows) for key, rows in two.rows.items()
    }


def accumulated(*snapshots: Snapshot) -> Snapshot:
    """What reading the last one must give: its lanes with all their rows, which know their device."""
    last = snapshots[-1]
    rows = {key: [row for one in snapshots for row in one.rows.get(key, [])] for key in last.lanes}
    of_device = {key: [{**row, "device_kind": "abacus"} for row in of_lane] for key, of_lane in rows.items()}
    return dataclasses.replace(last, rows=of_device)


FIRST = snapshot({LANE: [0, 1], OTHER: [0]}, 1)
SECOND = snapshot({OTHER: [1, 2], LANE: []}, 2)
SECOND.lanes[LANE.key] = 2

"""Run directories: rows come back as written, and nothing half written is ever taken for a result."""

import numpy as np

from jaxcram.results import Job, RunDirectory, load_rows, stack_embeddings


def stage_rows(count: int, *, num_memory: int = 2, width: int = 3) -> list[dict]:
    rows = [
        {
            "stage_index": index,
            "stage_seq_len": index + 1,
            "steps": index,
            "steps_taken": index * (index + 1) // 2,
            "final_loss": np.float32(0.1) * index,
            "final_convergence": 1.0,
            "exact": True,
            "embedding": np.full((num_memory, width), index, np.float32),
        }
        for index in range(count)
    ]
    rows[0] |= {"text": "é", "target_ids": np.arange(count, dtype=np.int32)}
    return rows


def test_rows_come_back_as_written_and_in_order(tmp_path):
    with RunDirectory.open(tmp_path / "new" / "run", {"k": 2}, {"dtype": "float32"}) as run:
        for job in (Job(10, 0.1, 0), Job(2, 0.5, 1), Job(2, 0.5, 0), Job(2, 0.1, 7)):
            run.write_lane(job, stage_rows(3))
    table = load_rows(tmp_path / "new" / "run")
    jobs = list(
        zip(*(table[name].to_pylist() for name in ("sample_id", "learning_rate", "seed")), strict=True)
    )
    assert jobs[::3] == [(2, 0.1, 7), (2, 0.5, 0), (2, 0.5, 1), (10, 0.1, 0)]
    assert table["stage_index"].to_pylist() == [0, 1, 2] * 4
    assert table["final_loss"].to_pylist() == [float(np.float32(0.1) * index) for index in range(3)] * 4
    assert table["text"].to_pylist() == ["é", None, None] * 4
    assert table["target_ids"].to_pylist() == [[0, 1, 2], None, None] * 4
    assert table["dtype"].to_pylist() == ["float32"] * 12
    expected = np.tile(np.arange(3, dtype=np.float32), 4)[:, None, None] * np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(stack_embeddings(table["embedding"]), expected)

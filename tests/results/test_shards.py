"""Shards of several lanes: read in order beside those of one, each lane once, and checked as they are."""

import os
import resource

import pyarrow as pa
import pytest

from jaxcram.errors import StoppedError, UserError
from jaxcram.results.directory import RunDirectory, finished_lanes
from jaxcram.results.reading import load_log, load_rows
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job
from tests.results.lanes import EVALUATION, SCORES, flip, names, scores, stage_rows, write

A, B, C, D = Job(2, 0.1, 0), Job(2, 0.1, 3), Job(2, 10.0, 0), Job(100_000, 0.1, 0)


def opened(path):
    return RunDirectory.open(path, {"k": 1}, kind=EVALUATION)


def read(path):
    """Job and log-probability of all rows, as they come."""
    rows = SCORES.read_shards(path / "scores", None).to_pylist()
    return [(Job.of_row(row), row["score_index"], row["log_prob"]) for row in rows]


def expected(*jobs):
    return [(job, row["score_index"], row["log_prob"]) for job in jobs for row in scores(job)]


# Groups


def test_groups_of_jobs_come_back_as_written_and_in_order(tmp_path):
    with opened(tmp_path) as run:
        assert run.jobs_of(SCORES) == set()
        run.write_group(SCORES, {D: scores(D), A: scores(A)})
        run.write_group(SCORES, {})
        run.write_group(SCORES, {C: scores(C), B: scores(B)})
        assert run.jobs_of(SCORES) == {A, B, C, D}
        assert names(tmp_path / "scores") == ["group-00001.parquet", "group-00002.parquet"]
    assert read(tmp_path) == expected(A, B, C, D)
    assert SCORES.read_shards(tmp_path / "scores", ["ending", "seed"]).to_pydict() == {
        "ending": ["", "é"] * 4,
        "seed": [0, 0, 3, 3, 0, 0, 0, 0],
    }
    assert [(job, table.num_rows) for job, table in SCORES.each_lane(tmp_path / "scores")] == [
        (job, 2) for job in (A, B, C, D)
    ]
    with opened(tmp_path) as run:
        assert run.jobs_of(SCORES) == {A, B, C, D}


def test_an_invalid_group_leaves_no_shard(tmp_path):
    with opened(tmp_path) as run:
        for rows, message in (
            ([], "score_index of a lane's scores must be 0, 1, 2"),
            (scores(B)[1:], "score_index of a lane's scores must be 0, 1, 2"),
            ([{**scores(B)[0], "lr": 1}], r"unknown columns \['lr'\]"),
            ([{**scores(B)[0], "ending": None}], "a row without ending"),
        ):
            with pytest.raises(ValueError, match=message):
                run.write_group(SCORES, {A: scores(A), B: rows})
        assert names(tmp_path / "scores") == []


def test_a_lane_of_several_shards_counts_once_and_the_newest_first(tmp_path):
    """Groups are numbered by age, and a lane that is done again has a file of its own."""
    write(tmp_path, [A, C])
    folder = tmp_path / "rows"
    other = ROWS.lane_table(A, [{**row, "steps": 7} for row in stage_rows(A)])
    ROWS.write_group(folder, [other, ROWS.lane_table(B, stage_rows(B))])
    ROWS.write_group(folder, [ROWS.lane_table(B, [{**row, "steps": 8} for row in stage_rows(B)])])
    (folder / "group-00002.parquet").rename(folder / "group-100000.parquet")  # after group-00001, as a number
    columns = ["sample_id", "learning_rate", "seed", "steps"]
    assert [tuple(row.values()) for row in load_rows(tmp_path, columns).to_pylist()] == [
        *[(2, 0.1, 0, 1)] * 3,
        *[(2, 0.1, 3, 8)] * 3,
        *[(2, 10.0, 0, 1)] * 3,
    ]
    assert finished_lanes(tmp_path, {"k": 1}, {}) == 3
    with RunDirectory.open(tmp_path, {"k": 1}) as run:
        assert run.finished_jobs() == {A.key, B.key, C.key}


# Damage


def truncated(folder):
    file = folder / "group-00001.parquet"
    os.truncate(file, file.stat().st_size // 2)
    return r"not a readable shard \("


def flipped(folder):
    flip(folder / "group-00001.parquet", "log_prob", row_group=1)
    return r"not a readable shard \("


def emptied(folder):
    (folder / "group-00001.parquet").write_bytes(b"")
    return r"not a readable shard \("


def without_lanes(folder):
    (folder / "group-00001.parquet").unlink()
    SCORES.write_group(folder, [])
    (folder / "group-00003.parquet").rename(folder / "group-00001.parquet")
    return "no rows, or lanes that are there twice or not in order"


def out_of_order(folder):
    (folder / "group-00001.parquet").unlink()
    SCORES.write_group(folder, [SCORES.lane_table(job, scores(job)) for job in (B, A)])
    (folder / "group-00003.parquet").rename(folder / "group-00001.parquet")
    return "no rows, or lanes that are there twice or not in order"


def of_mixed_lanes(folder):
    (folder / "group-00001.parquet").unlink()
    both = pa.concat_tables(SCORES.lane_table(job, scores(job)) for job in (A, B))
    SCORES.write_group(folder, [both])
    (folder / "group-00003.parquet").rename(folder / "group-00001.parquet")
    return "rows of several lanes, or not all rows of one"


def named_as_one_lane(folder):
    (folder / "group-00001.parquet").rename(folder / f"{A.key}.parquet")
    return "rows of several lanes, or not all rows of one"


@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, emptied, without_lanes, out_of_order, of_mixed_lanes, named_as_one_lane],
)
def test_a_damaged_group_is_reported_set_aside_and_redone(tmp_path, caplog, damage):
    with opened(tmp_path) as run:
        run.write_group(SCORES, {A: scores(A), B: scores(B)})
        run.write_group(SCORES, {C: scores(C)})
    reason = damage(tmp_path / "scores")
    with pytest.raises(UserError, match=f"{reason}.*; remove it and start the command again$"):
        read(tmp_path)
    with opened(tmp_path) as run:
        assert run.jobs_of(SCORES) == {C}
        (aside,) = (tmp_path / "scores").glob("*.unreadable")
        assert f"; set aside as {aside.name}, what it held is done again" in caplog.text
        run.write_group(SCORES, {B: scores(B), A: scores(A)})
        assert run.jobs_of(SCORES) == {A, B, C}
    assert [event["event"] for event in load_log(tmp_path)] == ["unreadable_shard"]
    assert names(tmp_path / "scores") == sorted([aside.name, "group-00002.parquet", "group-00003.parquet"])
    assert read(tmp_path) == expected(A, B, C)


def test_a_full_disk_keeps_the_groups_before(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path) as run:
        run.write_group(SCORES, {A: scores(A)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))  # a write past it fails midway
        try:
            with pytest.raises(
                StoppedError,
                match=r"group-00002.parquet: cannot be written \(File too large\); free disk space",
            ):
                run.write_group(SCORES, {job: scores(job) for job in (B, C, D)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert names(tmp_path / "scores") == ["group-00001.parquet"]
        run.write_group(SCORES, {B: scores(B)})
    assert read(tmp_path) == expected(A, B)


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    with opened(tmp_path) as run:
        run.write_group(SCORES, {A: scores(A)})
    (tmp_path / "scores" / ".group-00002.parquet.tmp").write_bytes(b"PAR1")
    assert read(tmp_path) == expected(A)
    with opened(tmp_path) as run:
        assert names(tmp_path / "scores") == ["group-00001.parquet"]
        assert run.jobs_of(SCORES) == {A}


def test_a_damaged_embedding_in_a_group_is_reported_when_it_is_read(tmp_path):
    write(tmp_path, [])
    folder = tmp_path / "rows"
    ROWS.write_group(folder, [ROWS.lane_table(job, stage_rows(job)) for job in (A, C)])
    flip(folder / "group-00001.parquet", "embedding", row_group=1)
    assert load_rows(tmp_path, ["sample_id"]).num_rows == 6
    lanes = ROWS.each_lane(folder)
    assert next(lanes)[0] == A
    with pytest.raises(
        UserError, match=r"group-00001.parquet: not a readable shard \(.*; remove it and start"
    ):
        next(lanes)

"""Compaction: few files, the same rows to the bit, whenever it is killed, and in bounded memory."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxcram.errors import StoppedError, UserError
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import RunDirectory, finished_lanes
from jaxcram.results.reading import load_curves, load_lanes, load_rows
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job
from tests.results.lanes import EVALUATION, SCORES, curve, flip, names, scores, stage_rows, write

HERE = {"check": True, "env": {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}}
GROUP = ["group-00001.parquet"]


def jobs(samples, *seeds):
    return [Job(sample, 0.1, seed) for sample in samples for seed in seeds or (0,)]


def compact(path, **options):
    with RunDirectory.open(path, {"k": 1}) as run:
        run.compact(ROWS, **options)


def keys(*of):
    return sorted(f"{job.key}.parquet" for job in of)


def test_lanes_lie_in_one_file_with_the_same_rows(tmp_path):
    write(tmp_path, jobs(range(9), 0, 1))
    before, lanes = load_rows(tmp_path), dict(ROWS.each_lane(tmp_path / "rows"))
    compact(tmp_path)
    assert names(tmp_path / "rows") == GROUP
    assert load_rows(tmp_path).equals(before)
    assert dict(ROWS.each_lane(tmp_path / "rows")) == lanes
    assert load_rows(tmp_path, ["seed", "steps"]).equals(before.select(["seed", "steps"]))
    assert finished_lanes(tmp_path, {"k": 1}, {}) == 18
    content = (tmp_path / "rows" / GROUP[0]).read_bytes()
    compact(tmp_path)
    assert names(tmp_path / "rows") == GROUP
    assert (tmp_path / "rows" / GROUP[0]).read_bytes() == content


def test_a_compacted_run_is_extended_and_compacted_again(tmp_path):
    write(tmp_path, jobs(range(6)))
    compact(tmp_path)
    write(tmp_path, jobs(range(3, 8), 1))
    every = sorted(jobs(range(6)) + jobs(range(3, 8), 1))
    assert names(tmp_path / "rows") == GROUP + keys(*jobs(range(3, 8), 1))
    with RunDirectory.open(tmp_path, {"k": 1}) as run:
        assert run.jobs_of(ROWS) == set(every)
    before = load_rows(tmp_path)
    assert [job for job, _ in ROWS.each_lane(tmp_path / "rows")] == every
    compact(tmp_path)
    assert names(tmp_path / "rows") == ["group-00002.parquet"]
    assert load_rows(tmp_path).equals(before)


def test_a_single_lane_or_none_is_left_as_it_is(tmp_path):
    for expected in ([], keys(*jobs([4]))):
        write(tmp_path, jobs([4]) if expected else [])
        compact(tmp_path)
        assert names(tmp_path / "rows") == expected


def test_files_are_bounded_and_large_ones_stay(tmp_path):
    """Twelve lanes of one size, five of which fit a file; one that is more than half a file stays alone."""
    write(tmp_path, jobs(range(0, 36, 3)))
    write(tmp_path, jobs([36]), width=20_000)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "rows").iterdir()}
    (large,) = keys(*jobs([36]))
    most = 5 * max(size for name, size in sizes.items() if name != large)
    assert sizes[large] > most / 2
    before = load_rows(tmp_path)
    compact(tmp_path, most_bytes=most)
    assert names(tmp_path / "rows") == [*(f"group-0000{number}.parquet" for number in (1, 2, 3)), large]
    assert [len(ROWS.lanes(path)) for path in ROWS.shards(tmp_path / "rows")] == [5, 5, 2, 1]
    assert all(path.stat().st_size <= most for path in ROWS.shards(tmp_path / "rows")[:-1])
    assert load_rows(tmp_path).equals(before)


MEASURED = """
import sys
from pathlib import Path
import pyarrow as pa
from jaxcram.results.directory import RunDirectory
from jaxcram.results.rows import ROWS
path = Path(sys.argv[1])
with RunDirectory.open(path, {"k": 1}) as run:
    run.compact(ROWS)
print(sum(table.num_rows for _, table in ROWS.each_lane(path / "rows")))
print(pa.default_memory_pool().max_memory())
"""


def test_memory_does_not_grow_with_lanes(tmp_path):
    """All that Arrow ever allocates for 40 lanes of 0.8 MB, compacted and read, is less than 13 of them."""
    write(tmp_path, jobs(range(0, 120, 3)), width=100_000)
    found = subprocess.run([sys.executable, "-c", MEASURED, tmp_path], stdout=subprocess.PIPE, **HERE)
    rows, peak = map(int, found.stdout.split())
    assert (rows, names(tmp_path / "rows")) == (40, GROUP)
    assert peak < 13 * 800_000


def test_curves_and_scores_are_compacted_too(tmp_path):
    with RunDirectory.open(tmp_path / "run", {"k": 1}) as run:
        for job in jobs(range(4)):
            run.write_lane(job, stage_rows(job), curve(job, job.sample_id))
        before = load_curves(tmp_path / "run")
        run.compact(CURVES)
    assert names(tmp_path / "run" / "curves") == GROUP
    assert load_curves(tmp_path / "run").equals(before)
    assert names(tmp_path / "run" / "rows") == keys(*jobs(range(4)))
    with RunDirectory.open(tmp_path / "scores", {"k": 1}, kind=EVALUATION) as run:
        for sample in (0, 4, 2):
            run.write_group(SCORES, {job: scores(job) for job in jobs(range(sample, sample + 2))})
        table = SCORES.read_shards(tmp_path / "scores" / "scores", None)
        run.compact(SCORES)
        assert run.jobs_of(SCORES) == set(jobs(range(6)))
    assert names(tmp_path / "scores" / "scores") == ["group-00004.parquet"]
    assert SCORES.read_shards(tmp_path / "scores" / "scores", None).equals(table)


def test_a_lane_that_was_done_again_replaces_the_one_in_a_group(tmp_path):
    """A curve of other points, for instance, since log_every may change; the group keeps the others."""
    job, other = jobs([2, 4])
    with RunDirectory.open(tmp_path, {"k": 1}) as run:
        for one in (job, other):
            run.write_lane(one, stage_rows(one), curve(one, 3))
        run.compact(CURVES)
        run.write_lane(job, stage_rows(job), curve(job, 5))
        run.write_lane(jobs([9])[0], stage_rows(jobs([9])[0]), curve(job, 1))
        for expected in ([*GROUP, *keys(job, *jobs([9]))], ["group-00002.parquet"]):
            assert names(tmp_path / "curves") == expected
            steps = load_curves(tmp_path, ["sample_id", "step"]).to_pydict()
            assert steps["step"] == [0, 10, 20, 30, 40, 0, 10, 20, 0]
            assert steps["sample_id"] == [2] * 5 + [4] * 3 + [9]
            run.compact(CURVES)


def test_files_of_another_version_stay_as_they_are(tmp_path):
    """A missing column says which version wrote it, and one that is unknown here would be lost."""
    write(tmp_path, jobs(range(4)))
    folder = tmp_path / "rows"
    older, newer = (folder / name for name in keys(*jobs([1, 3])))
    table = ROWS.read_shard(older).drop_columns(["trajectory_length"])
    older.write_bytes(ROWS.shard_bytes(table))
    table = ROWS.read_shard(newer)
    newer.write_bytes(ROWS.shard_bytes(table.append_column("more", table["steps"])))
    before = dict(ROWS.each_lane(folder))
    compact(tmp_path)
    assert names(folder) == sorted([*GROUP, older.name, newer.name])
    assert dict(ROWS.each_lane(folder)) == before


# Damage and kills


def test_copies_that_a_killed_compaction_leaves_are_read_once_and_removed(tmp_path):
    write(tmp_path / "whole", jobs(range(5)))
    before = load_rows(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    compact(tmp_path / "run")
    for name in keys(*jobs([1, 3])):
        shutil.copy(tmp_path / "whole" / "rows" / name, tmp_path / "run" / "rows")
    assert load_rows(tmp_path / "run").equals(before)
    assert finished_lanes(tmp_path / "run", {"k": 1}, {}) == 5
    for name in keys(*jobs([0, 2, 4])):
        shutil.copy(tmp_path / "whole" / "rows" / name, tmp_path / "run" / "rows")
    compact(tmp_path / "run")
    assert names(tmp_path / "run" / "rows") == ["group-00002.parquet"]
    assert load_rows(tmp_path / "run").equals(before)


def test_damage_that_a_compaction_meets_removes_nothing(tmp_path):
    write(tmp_path, jobs(range(4)))
    before = {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    shard = tmp_path / "rows" / keys(*jobs([2]))[0]
    flip(shard, "embedding", row_group=0)
    with pytest.raises(UserError, match=f"{shard}: not a readable shard .*; remove it and start the run's"):
        compact(tmp_path)
    assert names(tmp_path / "rows") == keys(*jobs(range(4)))
    shard.write_bytes(before[shard])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limit[1]))
    try:
        with pytest.raises(StoppedError, match=r"group-00001.parquet: cannot be written \(File too large\)"):
            compact(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()} == before


KILLED = """
import os, shutil, signal, sys
import pyarrow.parquet
from pathlib import Path
from jaxcram.results.directory import RunDirectory
from jaxcram.results.rows import ROWS
from tests.faults import child
whole, out, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for number in range(1, 1000):
    shutil.copytree(whole, out / str(number))
    if not (pid := os.fork()):
        child.at_operation(out / str(number) / "rows", number, child.kill)
        with RunDirectory.open(out / str(number), {"k": 1}) as run:
            run.compact(ROWS, most)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


@pytest.mark.slow
def test_no_kill_loses_or_doubles_a_row(tmp_path):
    """Before every single operation on a file, of a compaction of two lanes and a group to two groups."""
    whole, runs = tmp_path / "whole", tmp_path / "runs"
    write(whole, jobs([0, 3]))
    compact(whole)
    write(whole, jobs([0, 3], 1))
    single = keys(*jobs([0, 3], 1))
    most = 3 * (whole / "rows" / single[0]).stat().st_size
    before, every = load_rows(whole), jobs([0, 3], 0, 1)
    subprocess.run([sys.executable, "-c", KILLED, whole, runs, str(most)], **HERE)
    left = {tuple(names(run / "rows")): run for run in runs.iterdir()}
    for run in left.values():
        assert load_rows(run).equals(before)
        assert [job for job, _ in ROWS.each_lane(run / "rows")] == every
        with RunDirectory.open(run, {"k": 1}) as directory:
            assert directory.jobs_of(ROWS) == set(every)
            directory.compact(ROWS, most)
        assert load_rows(run).equals(before)
        assert len(names(run / "rows")) == 2
    second, third = "group-00002.parquet", "group-00003.parquet"
    whole_files = {tuple(name for name in found if not name.startswith(".")) for found in left}
    assert whole_files == {
        (*GROUP, *single),
        (*GROUP, second, *single),
        (*GROUP, second, third, *single),
        (second, third, *single),
        (second, third, single[1]),
        (second, third),
    }


def test_compacted_lanes_are_checked_as_before(tmp_path):
    write(tmp_path, jobs(range(3)))
    messages = []
    for _ in range(2):
        with pytest.raises(UserError) as error:
            list(load_lanes(tmp_path))
        messages.append(str(error.value))
        compact(tmp_path)
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{tmp_path}/rows: sample 0, learning rate 0.1: ")

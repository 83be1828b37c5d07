"""Run directories under real processes: two at once, and killed ones, whenever the kill comes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from jaxcram.errors import UserError
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reading import load_rows
from jaxcram.results.table import Job

HOLD = """
import sys
from jaxcram.results.directory import RunDirectory
with RunDirectory.open(sys.argv[1], {"k": 1}):
    print("open", flush=True)
    sys.stdin.read()
"""

WRITE = """
import itertools, sys
import numpy as np
from jaxcram.results.directory import RunDirectory
from jaxcram.results.table import Job
embedding = np.random.default_rng(0).random((1, 200_000))
rows = [
    dict(stage_index=i, stage_seq_len=i + 1, steps=1, steps_taken=i + 1, final_convergence=1.0,
         exact=True, embedding=embedding) for i in range(10)
]
with RunDirectory.open(sys.argv[1], {"k": 1}) as run:
    for number in itertools.count(int(sys.argv[2])):
        run.log({"event": "writing"})
        run.write_lane(Job(number, 0.1, 0), rows)
        print(number, flush=True)
"""


def subprocess_of(body: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", body, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_two_processes_do_not_share_a_run_and_a_killed_one_leaves_no_lock(tmp_path):
    with subprocess_of(HOLD, tmp_path) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(UserError) as refusal:
            RunDirectory.open(tmp_path, {"k": 1})
        assert str(refusal.value) == (
            f"{tmp_path}: process {holder.pid} is working on this run; "
            "wait for it or choose another directory"
        )
        assert load_rows(tmp_path).num_rows == 0  # reading is free to all
        holder.kill()
    with RunDirectory.open(tmp_path, {"k": 1}), pytest.raises(UserError, match=f"process {os.getpid()} is"):
        RunDirectory.open(tmp_path, {"k": 1})
    RunDirectory.open(tmp_path, {"k": 1}).close()


def test_a_run_killed_while_writing_has_complete_shards_and_resumes(tmp_path):
    written, delays = 0, random.Random(0)
    for _ in range(3):
        with subprocess_of(WRITE, tmp_path, written) as writer:
            first = writer.stdout.readline()
            time.sleep(delays.uniform(0.0, 0.2))
            os.kill(writer.pid, signal.SIGKILL)
            printed = [int(line) for line in [first, *writer.stdout.read().splitlines()]]
        with RunDirectory.open(tmp_path, {"k": 1}) as run:
            assert list(tmp_path.rglob("*.tmp")) == []
            finished = run.finished_jobs()
        assert list(tmp_path.rglob("*.unreadable")) == []
        acknowledged = printed[-1] + 1  # the next one may have been finished and not yet announced
        assert len(finished) in (acknowledged, acknowledged + 1)
        written = len(finished)
        assert finished == {Job(number, 0.1, 0).key for number in range(written)}
    lengths = load_rows(tmp_path, ["sample_id"])["sample_id"].value_counts()
    assert {entry["counts"].as_py() for entry in lengths} == {10}
    assert all(json.loads(line)["event"] == "writing" for line in (tmp_path / "log.jsonl").open())


def test_a_process_that_dies_in_the_middle_of_a_write_leaves_no_half_shard(tmp_path):
    """The kernel ends the writer after 50,000 bytes of its second shard: no matter of luck."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n" + WRITE.replace(
        "        print(number, flush=True)",
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)",
    )
    with subprocess_of(limit, tmp_path, 0) as writer:
        assert writer.wait() == -signal.SIGXFSZ
    (leftover,) = (tmp_path / "rows").glob(".*")
    assert (leftover.name, leftover.stat().st_size) == (f".{Job(1, 0.1, 0).key}.parquet.tmp", 50_000)
    assert set(load_rows(tmp_path, ["sample_id"])["sample_id"].to_pylist()) == {0}
    with RunDirectory.open(tmp_path, {"k": 1}) as run:
        assert run.finished_jobs() == {Job(0, 0.1, 0).key}
    assert not leftover.exists()

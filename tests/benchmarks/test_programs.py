"""The benchmark programs on a tiny model: their counts, and the exact keys of their records."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import schedule
import startup
import steps_per_second
from common import passes, program
from common.program import Workload
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "benchmarks"
PAGES = ("README.md", "launch/README.md", ".github/CONTRIBUTING.md", "benchmarks/NOTES.md")
SETTINGS = CramSettings(
    learning_rates=(0.1,),
    stages=StageSettings(max_steps=40, max_steps_per_token=12),
    trajectory="none",
    chunk_passes=8,
)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page):
    named = set(re.findall(r"benchmarks/[\w./]*\w", (ROOT / page).read_text()))
    if page.endswith("NOTES.md"):
        named |= {
            f"benchmarks/{path}" for path in re.findall(r"`(results/[\w.]+)`", (ROOT / page).read_text())
        }
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_records_say_where_and_with_what_they_were_measured():
    lines = [line for file in PROGRAMS.glob("results/*.jsonl") for line in file.read_text().splitlines()]
    for record in map(json.loads, lines):
        assert (PROGRAMS / f"{record['benchmark']}.py").is_file()
        assert {"cpu", "cores", "load", "devices", "jax", "commit"} <= set(record["machine"])
        assert re.fullmatch("[0-9a-f]{12}", record["machine"]["commit"])


@pytest.mark.slow
def test_records_of_steps_per_second(llama, samples):
    records = steps_per_second.measured(llama(), samples, SETTINGS, repeats=1)
    buckets = (len(records) - 1) // 2
    assert [one["scope"] for one in records] == ["run"] + ["run_bucket"] * buckets + ["bucket"] * buckets
    keys = [
        *("scope", "tokens", "lanes", "passes", "wall_s", "lane_steps", "lane_steps_per_s", "tokens_per_s"),
        *("useful_share", "model_flops_per_s", "matmul_flops_per_s", "matmul_share", "first_run_s"),
    ]
    assert all(list(one) == keys for one in records)
    assert set(steps_per_second.COLUMNS) <= set(keys)
    assert records[0]["lanes"] == 4
    assert [one["useful_share"] for one in records[1 + buckets :]] == [1.0] * buckets


@pytest.mark.slow
def test_records_of_passes_by_shape(llama):
    buckets = [Bucket(tokens=4, lanes=1), Bucket(tokens=8, lanes=3)]
    records = steps_per_second.timed_passes(llama(), buckets, repeats=2)
    keys = {"pass_s", "floor_s", "read_bytes_per_s", "compile_s"} | set(steps_per_second.COLUMNS)
    assert all(keys | {"lane_steps", "matmul_flops_per_s"} == set(one) for one in records)
    assert set(steps_per_second.PASS_COLUMNS) <= keys
    assert [(one["scope"], one["tokens"], one["lanes"]) for one in records] == [
        ("pass", 4, 1),
        ("pass", 8, 3),
    ]
    for one, bucket in zip(records, buckets, strict=True):
        assert one["pass_s"] == one["wall_s"] / steps_per_second.PASSES
        flops_s = passes.pass_flops(llama(), bucket) / one["matmul_flops_per_s"]
        bytes_s = passes.weight_bytes(llama()) / one["read_bytes_per_s"]
        assert one["floor_s"] == max(flops_s, bytes_s)


@pytest.mark.parametrize(
    ("file", "flag", "complaint"),
    [
        ("steps_per_second.py", "--repeats=0", "error: --repeats=0: at least 1 is needed\n"),
        ("steps_per_second.py", "--passes=8x0", "error: --passes=8x0: write shapes like 8x64,25x32\n"),
        (
            "against_harness.py",
            "--limit=4",
            "error: no items: give --hellaswag, --arc_easy or --mmlu, the path of a .jsonl file\n",
        ),
        ("startup.py", "--repeats=0", "error: --repeats=0: at least 1 is needed\n"),
        pytest.param(
            "against_torch.py",
            "--passes=8by8",
            "error: --passes=8by8: write shapes like 8x64,25x32\n",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "against_torch.py",
            "--scopes=equal",
            "error: --scopes=equal: give to_caps, or to_caps,equal, or nothing\n",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_is_one_line(file, flag, complaint):
    if file == "against_torch.py":
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, PROGRAMS / file, flag], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (2, complaint, "")


@pytest.mark.slow
def test_records_of_runs_in_this_process(llama, samples):
    command = schedule.Command(Workload(max_steps=30, max_steps_per_token=10), learning_rates=(0.1, 1.0))
    with mock.patch.object(Workload, "samples", return_value=samples):
        both, *alone = schedule.compared(schedule.loops(llama(), command))
        (only,) = schedule.compared(schedule.loops(llama(), dataclasses.replace(command, alone=False)))
    assert (only["over_one"], only["passes"]) == (None, both["passes"])
    assert [one["rates"] for one in (both, *alone)] == ["0.1,1", "0.1", "1"]
    assert [one["lanes"] for one in (both, *alone)] == [8, 4, 4]
    assert both["lane_steps"] == sum(one["lane_steps"] for one in alone)
    assert both["over_one"] == pytest.approx(2 * both["wall_s"] / sum(one["wall_s"] for one in alone))
    assert set(schedule.COLUMNS) <= set(both)
    whole = passes.whole_run(llama(), samples, command.workload.settings(0.1, 1.0)).total
    assert (both["passes"], both["lane_steps"]) == (whole.passes, whole.lane_steps)
    assert both["useful_share"] == whole.useful_tokens / whole.paid_tokens
    assert 2 * both["mean_horizon"] == pytest.approx(sum(one["mean_horizon"] for one in alone))


@pytest.mark.slow
def test_records_of_whole_commands():
    work = Workload(texts="stories", num_samples=2, max_tokens=3, max_steps=2)
    both, *alone = schedule.whole_commands(schedule.Command(work, learning_rates=(0.1, 1.0), commands=True))
    assert [one["rates"] for one in (both, *alone)] == ["0.1,1", "0.1", "1"]
    assert [one["lanes"] for one in (both, *alone)] == [4, 2, 2]
    assert both["lane_steps"] == sum(one["lane_steps"] for one in alone)


@pytest.mark.slow
def test_a_mistake_in_the_flags_of_commands_is_theirs_to_tell():
    command = schedule.Command(Workload(texts="absent.txt"), commands=True)
    with pytest.raises(UserError, match=r"^texts='absent.txt': no such file"):
        schedule.whole_commands(command)


@pytest.mark.parametrize(
    ("benchmark", "timing", "command"),
    [
        (schedule, "whole_commands", schedule.Command(commands=True)),
        (startup, "measured", startup.Command()),
    ],
)
def test_jax_starts_after_the_processes_that_are_timed(benchmark, timing, command):
    """On a GPU they would find its memory taken."""
    calls = mock.Mock()
    calls.timed.return_value = []
    calls.machine.return_value = {}
    with (
        mock.patch.object(benchmark, timing, calls.timed),
        mock.patch.object(program, "machine", calls.machine),
    ):
        benchmark.main(command)
    assert [name for name, *_ in calls.mock_calls] == ["timed", "machine"]


@pytest.mark.slow
def test_records_of_the_start_up(monkeypatch):
    """Which start is which shows in the cache: how long each takes is the machine's business."""
    time_command, kept, taken = program.time_command, [], []

    def watched(arguments, directory, cache):
        before = {file.name for file in cache.rglob("*-cache")}
        seconds = time_command(arguments, directory, cache)
        kept.append((before, {file.name for file in cache.rglob("*-cache")}))
        taken.append(seconds)
        return seconds

    monkeypatch.setattr(program, "time_command", watched)
    # Quick programs too, or a slow moment has one kept at a later start that was not at the first.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    records = startup.measured(repeats=1)
    (nothing, programs), *later = kept
    assert (nothing, programs != set(), later) == (set(), True, [(programs, programs)] * 2)
    starts = ["first pass, nothing compiled", "first pass, from the cache", "cram --help"]
    assert records == [{"start": start, "wall_s": s} for start, s in zip(starts, taken, strict=True)]

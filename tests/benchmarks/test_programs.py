"""The benchmark programs on a tiny model: what they count, and the exact keys of their records."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import engine
import passages
import pytest
import schedule
import startup
import steps_per_second
from workload import Workload

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.errors import UserError

PROGRAMS = Path(__file__).resolve().parents[2] / "benchmarks"
SETTINGS = CramSettings(
    learning_rates=(0.1,),
    stages=StageSettings(max_steps=40, max_steps_per_token=12),
    trajectory="none",
    chunk_passes=8,
)


@pytest.fixture(scope="module")
def model(llama):
    return llama()


def test_a_full_bucket_steps_every_lane_in_every_pass(model):
    tally = engine.full_bucket(model, Bucket(tokens=16, lanes=3), chunk_passes=5)()
    assert (tally.passes, tally.lane_steps) == (5, 15)
    assert tally.useful_tokens == tally.paid_tokens == 5 * 3 * 16


@pytest.mark.slow
def test_a_run_is_booked_by_bucket_without_loss(model, samples):
    result = engine.whole_run(model, samples, SETTINGS)
    assert [outcome.job.sample_id for outcome in result.outcomes] == [0, 1, 2, 3]
    assert result.total.lane_steps == sum(outcome.steps for outcome in result.outcomes)
    assert result.total.passes == sum(tally.passes for tally in result.buckets.values())
    for bucket, tally in result.buckets.items():
        assert tally.paid_tokens == tally.passes * bucket.lanes * bucket.tokens
    assert sum(tally.wall_s for tally in result.buckets.values()) <= result.total.wall_s


@pytest.mark.slow
def test_records_of_steps_per_second(model, samples):
    records = steps_per_second.measured(model, samples, SETTINGS, repeats=1)
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


@pytest.mark.parametrize(
    ("program", "flag", "complaint"),
    [
        ("steps_per_second.py", "--repeats=0", "error: --repeats=0: at least 1 is needed\n"),
        (
            "passages.py",
            "--novels=absent",
            "error: --novels=absent: no directory; give one with .txt files\n",
        ),
        pytest.param(
            "against_torch.py",
            "--passes=8by8",
            "error: --passes=8by8: write shapes like 8x64,25x32\n",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_is_one_line(program, flag, complaint):
    if program == "against_torch.py":
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, flag], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (2, complaint, "")


@pytest.mark.slow
def test_records_of_the_schedule(model, samples):
    command = schedule.Command(Workload(max_steps=30, max_steps_per_token=10), learning_rates=(0.1, 1.0))
    with mock.patch.object(Workload, "samples", return_value=samples):
        both, *alone = schedule.compared(schedule.loops(model, command))
    assert [one["rates"] for one in (both, *alone)] == ["0.1,1", "0.1", "1"]
    assert [one["lanes"] for one in (both, *alone)] == [8, 4, 4]
    assert both["lane_steps"] == sum(one["lane_steps"] for one in alone)
    assert both["over_one"] == pytest.approx(2 * both["wall_s"] / sum(one["wall_s"] for one in alone))
    assert set(schedule.COLUMNS) <= set(both)
    # A run by itself does the same as one that takes turns.
    whole = engine.whole_run(model, samples, command.workload.settings(0.1, 1.0)).total
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
    ("program", "timing", "command"),
    [
        (schedule, "whole_commands", schedule.Command(commands=True)),
        (startup, "measured", startup.Command()),
    ],
)
def test_jax_starts_after_the_processes_that_are_timed(program, timing, command):
    """On a GPU they would find its memory taken."""
    calls = mock.Mock()
    calls.timed.return_value = []
    calls.machine.return_value = {}
    with mock.patch.object(program, timing, calls.timed), mock.patch("measure.machine", calls.machine):
        program.main(command)
    assert [name for name, *_ in calls.mock_calls] == ["timed", "machine"]


def test_passages_are_drawn_without_repetition_and_again_the_same(tmp_path):
    long = [f"{word} " * 3 for word in ("one", "two", "six")]
    (tmp_path / "a.txt").write_text("\n".join(["short", *long, long[0]]))
    (tmp_path / "b.txt").write_text("of seven letters\n" + "far too long " * 3)
    of_folder = {"novels": str(tmp_path), "min_characters": 12, "max_characters": 20, "json": "unwritten"}
    all_four = passages.drawn(passages.Command(**of_folder, count=4))
    expected = [*(("a", text) for text in long), ("b", "of seven letters")]
    assert sorted((one["novel"], one["text"]) for one in all_four) == sorted(expected)
    assert passages.drawn(passages.Command(**of_folder, count=2)) == all_four[:2]
    with pytest.raises(UserError, match=r"--count=5: .* has fewer lines that long"):
        passages.drawn(passages.Command(**of_folder, count=5))


@pytest.mark.slow
@pytest.mark.optimised  # compiled as users have it, so that the cache saves more than noise
def test_records_of_the_start_up(monkeypatch):
    timed, kept = startup.timed, []

    def watched(arguments, folder, cache):
        before = {file.name for file in cache.rglob("*-cache")}
        seconds = timed(arguments, folder, cache)
        kept.append((before, {file.name for file in cache.rglob("*-cache")}))
        return seconds

    monkeypatch.setattr(startup, "timed", watched)
    records = startup.measured(repeats=1)
    (nothing, programs), *later = kept
    assert (nothing, programs != set(), later) == (set(), True, [(programs, programs)] * 2)
    starts = ["cram --help", "first pass, nothing compiled", "first pass, from the cache"]
    assert [one["start"] for one in records] == starts
    help_s, cold_s, warm_s = (one["wall_s"] for one in records)
    assert help_s < warm_s < cold_s

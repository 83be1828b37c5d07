"""Interrupted runs resume from a checkpoint and end with the same rows."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxcram import api, report
from jaxcram.cram.snapshot import Snapshot, lane_checkpoints
from jaxcram.errors import Interrupted, UserError
from jaxcram.results.directory import RunDirectory
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample
from tests.cram.engines import engine
from tests.cram.snapshots import FIRST, LANE, accumulated
from tests.faults.files import events
from tests.test_api import SETTINGS, model, rows_by_lane, run, texts, tiny  # noqa: F401


def interrupted(monkeypatch, number: signal.Signals, chunks: int, *arguments, **options) -> Interrupted:
    """A run that gets a signal during a chunk."""
    show, seen = report.Bar.__call__, []

    def showing(bar, progress, directory):
        seen.append(progress)
        if len(seen) == chunks:
            os.kill(os.getpid(), number)
        show(bar, progress, directory)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(report.Bar, "__call__", showing)
        with pytest.raises(KeyboardInterrupt) as stop:
            api.cram(*arguments, **options)
    assert len(seen) == chunks, "it went on after the chunk"
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    return stop.value


def newest(out: Path) -> Snapshot:
    """The newest checkpoint of a run."""
    settings = json.loads((out / "settings.json").read_text())
    with RunDirectory.open(out, settings) as directory, lane_checkpoints(directory, 1.0) as checkpoints:
        return checkpoints.newest()


def assert_equal_runs(one, two) -> None:
    assert rows_by_lane(one) == rows_by_lane(two)
    assert one.summary["lanes"] == two.summary["lanes"]


def test_a_run_stopped_by_a_signal_resumes_to_the_same_rows(
    model,  # noqa: F811
    texts,  # noqa: F811
    run,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    out = tmp_path / "out"
    options = {"out": out, "settings": SETTINGS, "verbose": False}
    steps = 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        stop = interrupted(monkeypatch, number, 2, model, texts, **options)
        assert (type(stop), stop.directory, stop.exit_code) == (Interrupted, out, 128 + number)
        found = newest(out)
        shards = {path.stem for path in (out / "rows").iterdir()}
        assert len(found.lanes) + len(shards) == 4
        assert not shards & found.lanes.keys()
        assert found.totals["lane_steps"] > steps, "it began anew"
        steps = found.totals["lane_steps"]
    finished = api.cram(model, texts, **options)
    assert_equal_runs(finished, run)
    assert finished.summary["lane_steps"] == run.summary["lane_steps"]
    assert not (out / "checkpoints").exists()


def test_a_removed_shard_is_restored_from_the_checkpoint_of_its_lane(
    model,  # noqa: F811
    texts,  # noqa: F811
    run,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    out = tmp_path / "out"
    options = {"out": out, "settings": SETTINGS, "verbose": False}
    interrupted(monkeypatch, signal.SIGTERM, 2, model, texts, **options)
    saved = newest(out).totals["lane_steps"]
    shutil.copytree(out / "checkpoints", tmp_path / "kept")
    api.cram(model, texts, **options)
    shutil.copytree(tmp_path / "kept", out / "checkpoints")
    removed = out / "rows" / f"{Job(1, 1.0, 0).key}.parquet"
    removed.unlink()
    again = api.cram(model, texts, **options)
    lane = next(x for x in again.summary["lanes"] if (x["sample_id"], x["learning_rate"]) == (1, 1.0))
    assert saved < again.summary["lane_steps"] < saved + lane["steps"], "it started from nothing"
    assert_equal_runs(again, run)


@pytest.mark.parametrize("trajectory", ["horizon", "none"])
def test_runs_that_store_few_embeddings_resume_too(model, texts, tmp_path, monkeypatch, trajectory):  # noqa: F811
    options = {"settings": SETTINGS, "verbose": False, "trajectory": trajectory}
    whole = api.cram(model, texts, out=tmp_path / "whole", **options)
    interrupted(monkeypatch, signal.SIGINT, 3, model, texts, out=tmp_path / "cut", **options)
    finished = api.cram(model, texts, out=tmp_path / "cut", **options)
    assert_equal_runs(finished, whole)


def test_without_checkpoints_only_finished_lanes_are_kept(model, texts, run, tmp_path, monkeypatch):  # noqa: F811
    options = {"out": tmp_path / "out", "settings": SETTINGS, "verbose": False, "checkpoint_minutes": 0}
    interrupted(monkeypatch, signal.SIGINT, 2, model, texts, **options)
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert_equal_runs(api.cram(model, texts, **options), run)


def test_timed_checkpoints_do_not_change_results(model, texts, run, tmp_path, caplog):  # noqa: F811
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        finished = api.cram(model, texts, out=out, settings=SETTINGS, verbose=False, checkpoint_minutes=1e-9)
    assert_equal_runs(finished, run)
    assert caplog.messages == []
    assert [event["event"] for event in events(out)].count("checkpoint") >= 5


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_minutes_out_of_range_are_refused(minutes):
    with pytest.raises(UserError, match=f"checkpoint_minutes {minutes} must be a number from 0"):
        api.cram(checkpoint_minutes=minutes)


def test_arrays_of_another_version_are_refused(model):  # noqa: F811
    jobs, sample = [LANE], Sample(LANE.sample_id, "", np.array([1, 2], np.int32))
    with pytest.raises(
        UserError, match="from another version of jaxcram; remove the run's folder checkpoints"
    ):
        engine(model.decoder, [sample], SETTINGS, jobs, saved=accumulated(FIRST))

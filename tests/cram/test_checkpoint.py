"""Checkpoints: what is read is what was saved, to the bit, or it is not taken; and runs go on from it."""

import dataclasses
import errno
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcram import api, report
from jaxcram.cram import checkpoint, lanes
from jaxcram.cram.checkpoint import Checkpoints
from jaxcram.cram.run import Run
from jaxcram.cram.scheduler import PassCost
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.snapshot import Fit, Snapshot
from jaxcram.cram.stages import Stop
from jaxcram.errors import Interrupted, StoppedError, UserError
from jaxcram.results import Job, RunDirectory
from jaxcram.text import Sample
from tests.test_api import SETTINGS, model, rows_by_lane, run, texts, tiny  # noqa: F401

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
        fit=Fit([0, None], ["cpu: cpu"], PassCost(64, 1.5), remat=True),
        totals={"wall_s": 1.25, "passes": 7},
    )


@pytest.fixture
def directory(tmp_path):
    with RunDirectory.open(tmp_path / "run", {"k": 1}, {"device_kind": "abacus"}) as directory:
        yield directory


def saved(directory: RunDirectory, *snapshots: Snapshot) -> None:
    with Checkpoints(directory, 1.0) as checkpoints:
        assert checkpoints.newest() is None
        for one in snapshots:
            checkpoints.save(one)


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
    assert (one.fit, one.totals) == (two.fit, two.totals)
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


def test_what_is_read_is_what_was_saved_to_the_bit(directory):
    saved(directory, FIRST, SECOND)
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))
        checkpoints.remove()
    assert not (directory.path / "checkpoints").exists()


def point(job: Job, index: int) -> dict:
    return {
        "sample_id": job.sample_id,
        "learning_rate": job.learning_rate,
        "seed": job.seed,
        "point_index": index,
        "step": 10 * index,
        "prefix": 2,
        "horizon": 1,
        "loss": 0.1 * index if index else None,
        "accuracy": 0.5,
        "step_learning_rate": 1e-3,
        "embedding_norm": 0.1 + index,
    }


def test_curves_are_kept_as_rows_are(directory):
    """Two new points of one lane, then one each; and of a lane that has ended since, none."""
    third = Job(5, 0.1, 0)
    first = dataclasses.replace(
        snapshot({LANE: [0, 1], OTHER: [0], third: [0]}, 1),
        points={LANE.key: 2, third.key: 1},
        curves={LANE.key: [point(LANE, 0), point(LANE, 1)], OTHER.key: [], third.key: [point(third, 0)]},
    )
    second = dataclasses.replace(
        SECOND,
        points={OTHER.key: 1, LANE.key: 3},
        curves={OTHER.key: [point(OTHER, 0)], LANE.key: [point(LANE, 2)]},
    )
    saved(directory, first, second)
    with Checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
    assert found.points == second.points
    assert found.curves == {OTHER.key: [point(OTHER, 0)], LANE.key: [point(LANE, i) for i in range(3)]}
    flip(directory.path / "checkpoints" / "curves" / "00000002.parquet")
    with Checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
    assert (found.lanes, found.points) == (first.lanes, first.points)
    assert found.curves == {key: points for key, points in first.curves.items() if points}


def test_a_checkpoint_of_a_version_without_curves_is_read(directory):
    saved(directory, FIRST)
    folder = directory.path / "checkpoints"
    file = folder / "state" / "1" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    for name in ("points", "curves", "digest"):
        del meta[name]
    meta["digest"] = checkpoint._digest(meta, FIRST.state)
    file.write_text(json.dumps(meta))
    (folder / "curves").rmdir()
    with Checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
        assert_same(found, accumulated(FIRST))
        assert (found.points, found.curves) == ({}, {})
        checkpoints.save(SECOND)
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))


def test_a_run_without_unfinished_lanes_keeps_its_totals(directory):
    none = snapshot({}, 1)
    saved(directory, FIRST, dataclasses.replace(none, state={}))
    with Checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
    assert (found.lanes, found.state, found.rows, found.totals) == ({}, {}, {}, FIRST.totals)


def files(directory: RunDirectory) -> list[str]:
    folder = directory.path / "checkpoints" / "state" / "2"
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of futures in Orbax
def test_damage_anywhere_in_the_newest_is_noticed_told_and_the_one_before_taken(directory, tmp_path, caplog):
    """A flipped bit and a cut, in every file of the checkpoint, one by one."""
    saved(directory, FIRST, SECOND)
    pristine = tmp_path / "pristine"
    folder = directory.path / "checkpoints"
    shutil.copytree(folder, pristine)
    outcomes = {"newest": 0, "before": 0}
    damaged = [folder / "state" / "2" / name for name in files(directory)]
    for file in [*damaged, folder / "rows" / "00000002.parquet"]:
        for damage in (flip, cut, os.unlink):
            damage(file)
            caplog.clear()
            with Checkpoints(directory, 1.0) as checkpoints:
                found = checkpoints.newest()
            if found.lanes == SECOND.lanes:
                assert not told(caplog)
                assert_same(found, accumulated(FIRST, SECOND))  # this file says nothing that is needed
                outcomes["newest"] += 1
            else:
                assert_same(found, accumulated(FIRST))
                (line,) = told(caplog)
                assert line.startswith(f"{folder}: checkpoint 2 is damaged (")
                assert line.endswith("); going on from checkpoint 1")
                assert not (folder / "state" / "2").exists()
                outcomes["before"] += 1
            shutil.rmtree(folder)
            shutil.copytree(pristine, folder)
    assert outcomes["before"] >= 15, outcomes


def told(caplog) -> list[str]:
    """What jaxcram said; asyncio says more when a future of Orbax, given up half-way, is collected."""
    return [record.getMessage() for record in caplog.records if record.name == "jaxcram"]


def test_a_disk_that_fails_is_no_damage(directory, monkeypatch):
    """Nothing is set aside: the checkpoints may be there again when the disk is."""
    saved(directory, FIRST, SECOND)

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, Checkpoints(directory, 1.0) as checkpoints:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StoppedError, match="Input/output error"):
            checkpoints.newest()
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))


def flip(file) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def cut(file) -> None:
    os.truncate(file, file.stat().st_size // 2)


def test_when_none_is_whole_the_lanes_start_again(directory, caplog):
    saved(directory, FIRST, SECOND)
    flip(directory.path / "checkpoints" / "rows" / "00000001.parquet")  # both need it
    with Checkpoints(directory, 1.0) as checkpoints:
        assert checkpoints.newest() is None
        assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
            "checkpoint 2 is damaged (the digest of 00000001.parquet is wrong); its lanes start again",
            "checkpoint 1 is damaged (the digest of 00000001.parquet is wrong); its lanes start again",
        ]
        assert list((directory.path / "checkpoints" / "rows").iterdir()) == []
        checkpoints.save(FIRST)
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST))


def test_two_checkpoints_are_kept_with_the_rows_they_need(directory):
    ended = snapshot({OTHER: [3]}, 3)  # the other lane of files 1 and 2 has ended
    last = snapshot({Job(5, 0.5, 1): [0]}, 4)
    saved(directory, FIRST, SECOND, ended, last, last, last, last)
    folder = directory.path / "checkpoints"
    assert sorted(path.name for path in (folder / "state").iterdir()) == ["6", "7"]
    assert sorted(path.name for path in (folder / "rows").iterdir()) == [
        f"0000000{step}.parquet" for step in (4, 5, 6, 7)
    ]


def test_a_lane_that_was_started_again_has_no_row_twice(directory):
    """Its shard was removed: older files still have rows of its first life, and of stages yet to come."""
    longer = snapshot({LANE: [0, 1, 2], OTHER: [0]}, 1)
    gone = snapshot({OTHER: [1]}, 2)
    again = snapshot({OTHER: [2], LANE: [0, 1]}, 3)
    saved(directory, longer, gone, again)
    with Checkpoints(directory, 1.0) as checkpoints:
        rows = checkpoints.newest().rows
    assert plain(rows[LANE.key]) == plain(accumulated(again).rows[LANE.key])
    assert [row["stage_index"] for row in rows[OTHER.key]] == [0, 1, 2]


def test_what_a_killed_save_leaves_is_ignored_and_removed(directory):
    saved(directory, FIRST)
    folder = directory.path / "checkpoints"
    shutil.copytree(folder / "state" / "1", folder / "state" / "2.orbax-checkpoint-tmp")
    (folder / "rows" / "00000002.parquet").write_bytes(b"of a checkpoint that was not finished")
    (folder / "rows" / ".00000003.parquet.tmp").write_bytes(b"half")
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST))
        checkpoints.save(SECOND)
    with Checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))
    assert sorted(path.name for path in folder.rglob("*.parquet")) == ["00000001.parquet", "00000002.parquet"]
    assert list(folder.rglob("*tmp*")) == []


def test_a_folder_that_has_gone_stops_with_a_line_that_names_the_file(directory):
    saved(directory, FIRST)
    folder = directory.path / "checkpoints"
    with Checkpoints(directory, 1.0) as checkpoints:
        checkpoints.newest()
        shutil.rmtree(folder)
        with pytest.raises(StoppedError) as stop:
            checkpoints.save(SECOND)
    assert str(stop.value).startswith(
        f"{folder}/rows/00000002.parquet: cannot be written (No such file or directory); bring the disk"
    )


def test_room_is_made_sure_of_before_orbax_writes(directory, monkeypatch):
    """Orbax tells of a full disk in many lines, and from another thread."""

    def no_room(*arguments):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with Checkpoints(directory, 1.0) as checkpoints, pytest.raises(StoppedError) as stop:
        checkpoints.save(FIRST)
    assert str(stop.value) == (
        f"{directory.path}/checkpoints: cannot be written (Disk quota exceeded); "
        "make room, then start the same command again: what is whole was kept"
    )
    assert list((directory.path / "checkpoints" / "state").iterdir()) == []


def test_a_full_disk_is_recognised_in_what_orbax_and_tensorstore_say(directory):
    """They wrap it, or quote it."""
    folder, checkpoints = directory.path / "checkpoints", Checkpoints(directory, 1.0)
    quoted = ValueError("RESOURCE_EXHAUSTED: Failed to write 113 bytes [os_error_code='28'] [spec={}]")
    wrapped = RuntimeError("a thread failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Manager:
        def wait_until_finished(self):
            raise self.error

    for error in (quoted, wrapped):
        Manager.error = error
        checkpoints._manager = Manager()
        with pytest.raises(StoppedError, match=f"^{folder}: cannot be written .No space left on device.;"):
            checkpoints.close()
    Manager.error = ValueError("a bug")
    checkpoints._manager = Manager()
    with pytest.raises(ValueError, match="a bug"):
        checkpoints.close()


def test_arrays_of_another_version_are_refused(model):  # noqa: F811
    jobs, sample = [LANE], Sample(LANE.sample_id, "", np.array([1, 2], np.int32))
    with pytest.raises(UserError, match="of another version of jaxcram; remove the folder checkpoints"):
        Run(model.decoder, [sample], SETTINGS, jobs, 1, accumulated(FIRST))


@pytest.mark.parametrize(
    ("asked", "devices", "budget", "remat"),
    [
        ([64, None], ["cpu: cpu"], 16, True),  # as it was: what had been halved stays halved
        ([32, None], ["cpu: cpu"], 64, False),  # a person asks for something else
        ([64, False], ["cpu: cpu"], 64, False),
        ([64, None], ["gpu: abacus"], 64, False),
    ],
)
def test_a_run_fits_its_devices_as_before_unless_asked_otherwise(model, asked, devices, budget, remat):  # noqa: F811
    sample = Sample(LANE.sample_id, "", np.array([1, 2], np.int32))
    settings = CramSettings(learning_rates=(LANE.learning_rate,), token_budget=64)
    fit = Fit(asked, devices, PassCost(16), remat=True)
    nothing = Snapshot(lanes={}, state={}, rows={}, fit=fit, totals={})
    resumed = Run(model.decoder, [sample], settings, [LANE], 1, nothing)
    assert resumed.progress.token_budget == budget
    assert resumed.snapshot({}).fit == Fit([64, None], ["cpu: cpu"], PassCost(budget), remat)


def test_when_a_checkpoint_is_due(directory, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: -1e9)  # the wall clock may jump as it likes
    with Checkpoints(directory, 0.5) as checkpoints, Checkpoints(directory, 0.0) as never:
        assert (checkpoints.due, never.due, never.wanted) == (False, False, False)
        now[0] += 29.9
        assert not checkpoints.due
        now[0] += 0.1
        assert (checkpoints.due, never.due) == (True, False)
        checkpoints.save(FIRST)
        assert not checkpoints.due


# Runs that are interrupted


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


def assert_equal_runs(one, two) -> None:
    assert rows_by_lane(one) == rows_by_lane(two)
    assert one.summary["lanes"] == two.summary["lanes"]


def test_signals_end_a_run_after_a_checkpoint_and_it_goes_on_to_the_same_rows(
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
        settings = json.loads((out / "settings.json").read_text())
        with RunDirectory.open(out, settings) as directory, Checkpoints(directory, 1.0) as checkpoints:
            found = checkpoints.newest()
        shards = {path.stem for path in (out / "rows").iterdir()}
        assert len(found.lanes) + len(shards) == 4
        assert not shards & found.lanes.keys()
        assert found.totals["lane_steps"] > steps, "it began anew"
        steps = found.totals["lane_steps"]
    finished = api.cram(model, texts, **options)
    assert_equal_runs(finished, run)
    assert finished.summary["lane_steps"] == run.summary["lane_steps"]
    assert not (out / "checkpoints").exists()


def test_a_removed_shard_goes_on_from_the_checkpoint_that_has_its_lane(
    model,  # noqa: F811
    texts,  # noqa: F811
    run,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    out = tmp_path / "out"
    options = {"out": out, "settings": SETTINGS, "verbose": False}
    interrupted(monkeypatch, signal.SIGTERM, 2, model, texts, **options)
    shutil.copytree(out / "checkpoints", tmp_path / "kept")
    api.cram(model, texts, **options)
    shutil.copytree(tmp_path / "kept", out / "checkpoints")
    removed = out / "rows" / f"{Job(1, 1.0, 0).key}.parquet"
    removed.unlink()
    original, first = lanes.run_chunk, []

    def spying(decoder, seats, *others):
        progress = seats.unpack().progress
        first.append(np.asarray(progress.total_steps)[np.asarray(progress.stop) == Stop.RUNNING])
        return original(decoder, seats, *others)

    monkeypatch.setattr(lanes, "run_chunk", spying)
    again = api.cram(model, texts, **options)
    assert [x.item() > 0 for x in first[:1]] == [True], "it started from nothing"
    assert_equal_runs(again, run)


@pytest.mark.parametrize("trajectory", ["horizon", "none"])
def test_runs_that_keep_few_embeddings_go_on_too(model, texts, tmp_path, monkeypatch, trajectory):  # noqa: F811
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


def test_checkpoints_come_by_the_clock_and_change_nothing(model, texts, run, tmp_path, monkeypatch, caplog):  # noqa: F811
    saves, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda *a: (saves.append(a[1].lanes), save(*a))[1])
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        finished = api.cram(model, texts, out=out, settings=SETTINGS, verbose=False, checkpoint_minutes=1e-9)
    assert len(saves) >= 5
    assert not any(saves[-1]), "the last one was made when all lanes had ended"
    assert_equal_runs(finished, run)
    events = [json.loads(line)["event"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert events.count("checkpoint") == len(saves)


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_minutes_out_of_range_are_refused(minutes):
    with pytest.raises(UserError, match=f"checkpoint_minutes {minutes} must be a number from 0"):
        api.cram(checkpoint_minutes=minutes)

"""Checkpoints: what is read is what was saved, to the bit, or it is not taken."""

import dataclasses
import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from jaxcram.cram.snapshot import Snapshot, lane_checkpoints
from jaxcram.errors import StoppedError
from jaxcram.results import checkpoint
from jaxcram.results.directory import RunDirectory
from jaxcram.results.table import Job
from tests.cram.snapshots import FIRST, LANE, OTHER, SECOND, accumulated, assert_same, plain, snapshot


@pytest.fixture
def directory(tmp_path):
    with RunDirectory.open(tmp_path / "run", {"k": 1}, {"device_kind": "abacus"}) as directory:
        yield directory


def saved(directory: RunDirectory, *snapshots: Snapshot) -> None:
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert checkpoints.newest() is None
        for one in snapshots:
            checkpoints.save(one)


def test_checkpoints_are_read_back_bit_by_bit(directory):
    saved(directory, FIRST, SECOND)
    with lane_checkpoints(directory, 1.0) as checkpoints:
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
    with lane_checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
    assert found.points == second.points
    assert found.curves == {OTHER.key: [point(OTHER, 0)], LANE.key: [point(LANE, i) for i in range(3)]}
    flip(directory.path / "checkpoints" / "curves" / "00000002.parquet")
    with lane_checkpoints(directory, 1.0) as checkpoints:
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
    with lane_checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
        assert_same(found, accumulated(FIRST))
        assert (found.points, found.curves) == ({}, {})
        checkpoints.save(SECOND)
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))


def test_a_run_without_unfinished_lanes_keeps_its_totals(directory):
    none = snapshot({}, 1)
    saved(directory, FIRST, dataclasses.replace(none, state={}))
    with lane_checkpoints(directory, 1.0) as checkpoints:
        found = checkpoints.newest()
    assert (found.lanes, found.state, found.rows, found.totals) == ({}, {}, {}, FIRST.totals)


def files(directory: RunDirectory) -> list[str]:
    folder = directory.path / "checkpoints" / "state" / "2"
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of futures in Orbax
def test_any_damage_to_the_newest_is_reported_and_the_previous_one_used(directory, tmp_path, caplog):
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
            with lane_checkpoints(directory, 1.0) as checkpoints:
                found = checkpoints.newest()
            if found.lanes == SECOND.lanes:
                assert not told(caplog)
                assert_same(found, accumulated(FIRST, SECOND))  # this file says nothing that is needed
                outcomes["newest"] += 1
            else:
                assert_same(found, accumulated(FIRST))
                (line,) = told(caplog)
                assert line.startswith(f"{folder}: checkpoint 2 is damaged (")
                assert line.endswith("); using checkpoint 1 instead")
                assert not (folder / "state" / "2").exists()
                outcomes["before"] += 1
            shutil.rmtree(folder)
            shutil.copytree(pristine, folder)
    assert outcomes["before"] >= 15, outcomes


def told(caplog) -> list[str]:
    """What jaxcram said; asyncio says more when a future of Orbax, given up half-way, is collected."""
    return [record.getMessage() for record in caplog.records if record.name == "jaxcram"]


def test_a_disk_failure_is_not_taken_for_damage(directory, monkeypatch):
    """Nothing is set aside: the checkpoints may be there again when the disk is."""
    saved(directory, FIRST, SECOND)

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, lane_checkpoints(directory, 1.0) as checkpoints:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StoppedError, match="Input/output error"):
            checkpoints.newest()
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))


def flip(file) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def cut(file) -> None:
    os.truncate(file, file.stat().st_size // 2)


def test_without_an_intact_checkpoint_the_lanes_start_again(directory, caplog):
    saved(directory, FIRST, SECOND)
    flip(directory.path / "checkpoints" / "rows" / "00000001.parquet")  # both need it
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert checkpoints.newest() is None
        assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
            "checkpoint 2 is damaged (wrong digest of 00000001.parquet); what it held starts again",
            "checkpoint 1 is damaged (wrong digest of 00000001.parquet); what it held starts again",
        ]
        assert list((directory.path / "checkpoints" / "rows").iterdir()) == []
        checkpoints.save(FIRST)
    with lane_checkpoints(directory, 1.0) as checkpoints:
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


def test_a_restarted_lane_has_no_duplicate_rows(directory):
    """Its shard was removed: older files still have rows of its first life, and of stages yet to come."""
    longer = snapshot({LANE: [0, 1, 2], OTHER: [0]}, 1)
    gone = snapshot({OTHER: [1]}, 2)
    again = snapshot({OTHER: [2], LANE: [0, 1]}, 3)
    saved(directory, longer, gone, again)
    with lane_checkpoints(directory, 1.0) as checkpoints:
        rows = checkpoints.newest().rows
    assert plain(rows[LANE.key]) == plain(accumulated(again).rows[LANE.key])
    assert [row["stage_index"] for row in rows[OTHER.key]] == [0, 1, 2]


def test_leftovers_of_a_killed_save_are_ignored_and_removed(directory):
    saved(directory, FIRST)
    folder = directory.path / "checkpoints"
    shutil.copytree(folder / "state" / "1", folder / "state" / "2.orbax-checkpoint-tmp")
    (folder / "rows" / "00000002.parquet").write_bytes(b"of a checkpoint that was not finished")
    (folder / "rows" / ".00000003.parquet.tmp").write_bytes(b"half")
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST))
        checkpoints.save(SECOND)
    with lane_checkpoints(directory, 1.0) as checkpoints:
        assert_same(checkpoints.newest(), accumulated(FIRST, SECOND))
    assert sorted(path.name for path in folder.rglob("*.parquet")) == ["00000001.parquet", "00000002.parquet"]
    assert list(folder.rglob("*tmp*")) == []


def test_a_missing_folder_stops_with_a_line_that_names_the_file(directory):
    saved(directory, FIRST)
    folder = directory.path / "checkpoints"
    with lane_checkpoints(directory, 1.0) as checkpoints:
        checkpoints.newest()
        shutil.rmtree(folder)
        with pytest.raises(StoppedError) as stop:
            checkpoints.save(SECOND)
    assert str(stop.value).startswith(
        f"{folder}/rows/00000002.parquet: cannot be written (No such file or directory); restore the disk"
    )


def test_disk_space_is_checked_before_orbax_writes(directory, monkeypatch):
    """Orbax tells of a full disk in many lines, and from another thread."""

    def no_room(*arguments):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with lane_checkpoints(directory, 1.0) as checkpoints, pytest.raises(StoppedError) as stop:
        checkpoints.save(FIRST)
    assert str(stop.value) == (
        f"{directory.path}/checkpoints: cannot be written (Disk quota exceeded); "
        "free disk space, then start the same command again: finished results are kept"
    )
    assert list((directory.path / "checkpoints" / "state").iterdir()) == []


def test_a_full_disk_is_recognised_in_errors_of_orbax_and_tensorstore(directory):
    """They wrap it, or quote it."""
    folder, checkpoints = directory.path / "checkpoints", lane_checkpoints(directory, 1.0)
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


def test_a_checkpoint_is_due_after_the_interval(directory, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: -1e9)  # the wall clock may jump as it likes
    with lane_checkpoints(directory, 0.5) as checkpoints, lane_checkpoints(directory, 0.0) as never:
        assert (checkpoints.due, never.due, never.wanted) == (False, False, False)
        now[0] += 29.9
        assert not checkpoints.due
        now[0] += 0.1
        assert (checkpoints.due, never.due) == (True, False)
        checkpoints.save(FIRST)
        assert not checkpoints.due

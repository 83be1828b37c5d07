"""Run directories: who may write into them, and that nothing half written is ever taken for a result."""

import datetime
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxcram.errors import StoppedError, UserError
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import Job, RunDirectory
from jaxcram.results.identity import LANES, RunKind
from jaxcram.results.reading import load_curves, load_log, load_rows, load_settings, load_summary
from jaxcram.results.rows import COLUMNS

SETTINGS = {
    "model": Path("models/x"),
    "learning_rates": (0.1, 0.5),
    "caps": {"sample": 10_000, "token": 1000},
}
JOB = Job(3, 0.1, 0)


def stage_rows(count: int, embedding: np.ndarray | None = None) -> list[dict]:
    return [
        {
            "stage_index": index,
            "stage_seq_len": index + 1,
            "steps": 1,
            "steps_taken": index + 1,
            "final_convergence": 1.0,
            "exact": True,
            "embedding": embedding,
        }
        for index in range(count)
    ]


# Rows


def test_rows_and_the_constants_of_the_run_come_back(tmp_path):
    with RunDirectory.open(tmp_path / "new" / "run", SETTINGS, {"dtype": "float32", "hidden_size": 5}) as run:
        run.write_lane(Job(4, 0.1, 0), stage_rows(1))
        run.write_lane(JOB, stage_rows(2))
    columns = ["sample_id", "steps_taken", "dtype", "hidden_size"]
    rows = [tuple(row.values()) for row in load_rows(tmp_path / "new" / "run", columns).to_pylist()]
    assert rows == [(3, 1, "float32", 5), (3, 2, "float32", 5), (4, 1, "float32", 5)]


def test_an_invalid_lane_leaves_no_shard(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        with pytest.raises(ValueError, match="unknown columns"):
            run.write_lane(JOB, [{**stage_rows(1)[0], "lr": 1}])
        assert run.finished_jobs() == set()
        assert list((tmp_path / "rows").iterdir()) == []


def test_a_run_without_a_finished_lane_has_no_rows_but_all_columns(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        assert run.finished_jobs() == set()
    table = load_rows(tmp_path)
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))


def test_constants_that_are_no_columns_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="width"):
        RunDirectory.open(tmp_path / "run", SETTINGS, {"width": 3})
    assert not (tmp_path / "run").exists()


def points(count: int) -> list[dict]:
    return [
        {
            "point_index": index,
            "step": 10 * index,
            "prefix": 2,
            "horizon": 1,
            "loss": 0.5,
            "accuracy": 0.75,
            "step_learning_rate": 0.1,
            "embedding_norm": None,
        }
        for index in range(count)
    ]


def test_curves_come_back_by_lane_and_step(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS, {"dtype": "float32"}) as run:
        run.write_lane(Job(4, 0.1, 0), stage_rows(1), points(1))
        run.write_lane(Job(4, 0.5, 0), stage_rows(1))
        run.write_lane(JOB, stage_rows(2), points(2))
        with pytest.raises(ValueError, match="unknown columns"):
            run.write_lane(Job(5, 0.1, 0), stage_rows(1), [{**points(1)[0], "lr": 1}])
        assert run.finished_jobs() == {Job(*job).key for job in ((4, 0.1, 0), (4, 0.5, 0), (3, 0.1, 0))}
    table = load_curves(tmp_path)
    assert table.column_names == list(CURVES.columns)
    assert table.select(["sample_id", "learning_rate", "step", "embedding_norm"]).to_pylist() == [
        {"sample_id": sample, "learning_rate": 0.1, "step": step, "embedding_norm": None}
        for sample, step in ((3, 0), (3, 10), (4, 0))
    ]
    assert load_curves(tmp_path, ["step"]).to_pydict() == {"step": [0, 10, 0]}
    with pytest.raises(UserError, match="no column 'steps' in the curves; choose from sample_id, "):
        load_curves(tmp_path, ["steps"])


def test_a_finished_lane_has_its_curve(tmp_path):
    """For its rows, which make it a finished one, are written after it."""
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        (tmp_path / "rows" / f"{JOB.key}.parquet").mkdir()
        with pytest.raises(UserError, match="cannot be written"):
            run.write_lane(JOB, stage_rows(1), points(3))
    assert load_curves(tmp_path, ["step"])["step"].to_pylist() == [0, 10, 20]


def test_a_damaged_curve_is_reported_with_its_remedy(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.write_lane(JOB, stage_rows(1), points(3))
        run.write_lane(Job(4, 0.1, 0), stage_rows(1), points(1))
    shard = tmp_path / "curves" / f"{JOB.key}.parquet"
    put_another_job(shard.with_name(f"{Job(4, 0.1, 0).key}.parquet"), JOB)
    with pytest.raises(UserError) as error:
        load_curves(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/curves/{Job(4, 0.1, 0).key}.parquet: has the rows of {JOB.key}; remove it, and the "
        "files of its lanes in rows, and start the run's command again"
    )


# Finished jobs


def test_finished_jobs_are_those_written_in_any_start(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.write_lane(JOB, stage_rows(1))
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.write_lane(Job(3, 0.5, 0), stage_rows(1))
        assert run.finished_jobs() == {"sample00003-lr0.1-seed0", "sample00003-lr0.5-seed0"}


def truncate(shard: Path) -> None:
    os.truncate(shard, shard.stat().st_size // 2)


def flip_a_byte(shard: Path) -> None:
    """Changes the last number of a column, which nothing but the page's checksum can tell."""
    columns = pq.ParquetFile(shard).metadata.row_group(0)
    place = next(
        column.data_page_offset + column.total_compressed_size - 1
        for column in map(columns.column, range(columns.num_columns))
        if column.path_in_schema == "final_convergence"
    )
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x01
    shard.write_bytes(content)


def put_another_job(shard: Path, job: Job = Job(9, 0.1, 0)) -> None:  # noqa: B008 (frozen)
    shard.write_bytes(shard.with_name(f"{job.key}.parquet").read_bytes())


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_byte, put_another_job, lambda shard: shard.write_bytes(b"")]
)
def test_a_damaged_shard_is_moved_aside_reported_and_redone(tmp_path, caplog, damage):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.write_lane(JOB, stage_rows(2))
        run.write_lane(Job(9, 0.1, 0), stage_rows(2))
    damage(tmp_path / "rows" / f"{JOB.key}.parquet")
    with pytest.raises(UserError, match=f"{JOB.key}.*; remove it and start the run's command again"):
        load_rows(tmp_path)
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        assert run.finished_jobs() == {Job(9, 0.1, 0).key}
        assert (tmp_path / "rows" / f"{JOB.key}.unreadable").exists()
        assert f"{JOB.key}.unreadable" in caplog.text
        run.write_lane(JOB, stage_rows(2))
        assert run.finished_jobs() == {JOB.key, Job(9, 0.1, 0).key}
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(event["event"], event["shard"]) for event in events] == [
        ("unreadable_shard", f"{JOB.key}.parquet")
    ]
    assert load_rows(tmp_path).num_rows == 4


# Whose directory it is


def test_the_same_settings_are_accepted_and_kept_exactly(tmp_path):
    settings = {**SETTINGS, "margin": 0.1 + 0.2, "seeds": np.arange(2), "max_tokens": None}
    RunDirectory.open(tmp_path, settings).close()
    RunDirectory.open(tmp_path, settings).close()
    assert load_settings(tmp_path) == {
        "model": "models/x",
        "learning_rates": [0.1, 0.5],
        "caps": {"sample": 10_000, "token": 1000},
        "margin": 0.1 + 0.2,
        "seeds": [0, 1],
        "max_tokens": None,
    }


def test_other_settings_are_refused_with_each_difference(tmp_path):
    RunDirectory.open(tmp_path, {**SETTINGS, "old": True}).close()
    before = (tmp_path / "settings.json").read_bytes()
    other = {
        "model": "models/y",
        "learning_rates": [0.1],
        "caps": {"sample": 10_000, "token": 5.5},
        "loss": "hinge",
    }
    with pytest.raises(UserError) as refusal:
        RunDirectory.open(tmp_path, other)
    assert str(refusal.value) == (
        f"{tmp_path}: the run has other settings (caps.token: was 1000, is 5.5; "
        'learning_rates: 0.5 missing; loss: was absent, is "hinge"; '
        'model: was "models/x", is "models/y"; old: was true, is absent); choose another directory or '
        "the run's own settings; only texts, learning_rates and seeds may be added"
    )
    assert (tmp_path / "settings.json").read_bytes() == before
    RunDirectory.open(tmp_path, {**SETTINGS, "old": True}).close()  # and the refusal let go of the lock


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError) as refusal:
        RunDirectory.open(tmp_path, SETTINGS)
    assert (
        str(refusal.value)
        == f"{tmp_path}: neither empty nor a run (it holds thesis.tex); choose another directory"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_killed_before_writing_its_settings_is_resumed(tmp_path):
    (tmp_path / "run.lock").write_text("1")
    (tmp_path / ".settings.json.tmp").write_text('{"mod')
    with RunDirectory.open(tmp_path, SETTINGS):
        assert not (tmp_path / ".settings.json.tmp").exists()
        assert load_settings(tmp_path)["model"] == "models/x"


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "settings.json").write_text('{"a": ')
    for use in (load_settings, load_rows, lambda path: RunDirectory.open(path, SETTINGS)):
        with pytest.raises(UserError, match=r"settings\.json: not valid JSON"):
            use(tmp_path)


def test_an_output_path_that_is_a_file_or_lies_below_one_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for path, reason in ((file, "File exists"), (file / "run", "Not a directory")):
        with pytest.raises(UserError) as refusal:
            RunDirectory.open(path, SETTINGS)
        assert str(refusal.value) == (f"{path}: cannot be written ({reason}); choose another directory")


def test_an_output_directory_without_permission_is_refused():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # permissions do not bind root
        try:
            for path in (Path(name), Path(name, "new")):
                with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
                    RunDirectory.open(path, SETTINGS)
        finally:
            if root:
                os.seteuid(0)
            os.chmod(name, 0o755)


def test_a_full_disk_keeps_complete_files(tmp_path):
    big = stage_rows(10, np.random.default_rng(0).random((10, 10_000)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.write_lane(JOB, stage_rows(2))
        run.write_summary({"lanes": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # a write past it fails midway
        try:
            for write in (
                lambda: run.write_lane(Job(4, 0.1, 0), big),
                lambda: run.write_lane(JOB, big),
                lambda: run.write_summary({"lanes": ["x" * 100_000]}),
            ):
                with pytest.raises(
                    StoppedError, match=r"cannot be written \(File too large\); free disk space"
                ):
                    write()
            run.log({"event": "too long", "text": "x" * 100_000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.rglob("*.tmp")) == []
        assert run.finished_jobs() == {JOB.key}
        run.write_lane(Job(4, 0.1, 0), big)  # room again
        run.log({"event": "short"})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "short"
    assert load_summary(tmp_path) == {"lanes": 1}
    assert load_rows(tmp_path)["stage_index"].to_pylist() == [0, 1, *range(10)]


def test_a_missing_directory_stops_the_run_and_names_the_file(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.open(path, SETTINGS) as run:
        shutil.rmtree(path)
        run.log({"event": "into the void"})
        with pytest.raises(StoppedError) as stop:
            run.write_lane(JOB, stage_rows(2))
    assert str(stop.value) == (
        f"{path}/rows/{JOB.key}.parquet: cannot be written (No such file or directory); restore the disk or "
        "directory, then start the same command again: finished results are kept"
    )
    assert stop.value.exit_code == 75


# Summary and log


def test_the_summary_is_strict_json(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        with pytest.raises(UserError, match=r"no summary\.json in it; the run is not finished"):
            load_summary(tmp_path)
        run.write_summary(
            {"lanes": [{"loss": float("nan"), "horizon": np.int64(3), "rate": np.float32(0.5)}]}
        )
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    assert load_summary(tmp_path) == {"lanes": [{"loss": None, "horizon": 3, "rate": 0.5}]}


def test_the_log_is_one_json_object_a_line_at_once_and_over_starts(tmp_path):
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.log({"event": "start", "text": "é\n"})
        (line,) = (tmp_path / "log.jsonl").read_text().splitlines()  # flushed while the run is open
        event = json.loads(line)
        assert (event["event"], event["text"]) == ("start", "é\n")
        time.sleep(0.02)
        run.log({"event": "later"})
    later = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])
    assert round(later["elapsed_s"] - event["elapsed_s"], 3) >= 0.02
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"elapsed_s": 3.1, "ev')  # as a kill leaves it
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.log({"event": "again"})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "later", "again"]
    elapsed = [json.loads(line)["elapsed_s"] for line in lines]
    assert elapsed[1] <= elapsed[2] < elapsed[1] + 3  # it goes on from the start before
    clocks = [datetime.datetime.fromisoformat(json.loads(line)["time"]) for line in lines]
    assert clocks == sorted(clocks)
    assert {clock.utcoffset() for clock in clocks} == {datetime.timedelta(0)}


def test_the_log_is_read_as_far_as_it_can_be(tmp_path):
    assert load_log(tmp_path) == []
    lines = [b'{"event": "start", "elapsed_s": 3}', b"[1]", b'{"event": "\xff"}', b"", b'{"elapsed_s": tru']
    with RunDirectory.open(tmp_path, SETTINGS):
        pass
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    assert load_log(tmp_path) == [{"event": "start", "elapsed_s": 3}]
    with RunDirectory.open(tmp_path, SETTINGS) as run:
        run.log({"event": "on"})
    assert 3 <= load_log(tmp_path)[-1]["elapsed_s"] < 6


def test_a_path_that_is_not_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        for load in (load_rows, load_settings, load_summary):
            with pytest.raises(UserError) as refusal:
                load(path)
            assert str(refusal.value) == (
                f"{path}: no settings.json in it; it is not a run of jaxcram; give the directory of one"
            )


def test_pass_settings_may_change_between_two_starts(tmp_path):
    settings = {"learning_rates": [0.1], "token_budget": 0, "remat": None}
    with RunDirectory.open(tmp_path / "run", settings):
        pass
    with RunDirectory.open(tmp_path / "run", settings | {"token_budget": 64, "remat": True}):
        pass
    assert load_settings(tmp_path / "run") == settings


def test_lanes_of_other_processes_are_awaited(tmp_path):
    with RunDirectory.open(tmp_path / "run", {}) as directory:
        shard = tmp_path / "run" / "rows" / "one.parquet"
        writer = threading.Timer(0.2, shard.touch)
        writer.start()
        directory.await_lanes([])
        assert not shard.exists()
        directory.await_lanes(["one"])
        assert shard.exists()
        writer.join()
        (tmp_path / "run").rename(tmp_path / "away")
        directory.await_lanes([])
        with pytest.raises(StoppedError, match="restore the disk or directory"):
            directory.await_lanes(["two"])
        (tmp_path / "away").rename(tmp_path / "run")


def test_a_run_of_another_kind_has_its_own_tables_and_rules(tmp_path):
    """What may change is up to its kind; a run of lanes cannot go on in it, nor it in one of lanes."""

    def grown(path, was, now, defaults):
        return {**now, "steps": max(was["steps"], now["steps"])}

    kind = RunKind("count", ("numbers",), grown)
    for steps in (3, 5, 4):
        with RunDirectory.open(tmp_path / "run", {"steps": steps}, kind=kind):
            pass
    assert load_settings(tmp_path / "run") == {"program": "count", "steps": 5}
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["numbers"]
    with RunDirectory.open(tmp_path / "lanes", SETTINGS):
        pass
    for path, settings, other in (("run", SETTINGS, LANES), ("lanes", {"steps": 3}, kind)):
        with pytest.raises(UserError) as refusal:
            RunDirectory.open(tmp_path / path, settings, kind=other)
        assert str(refusal.value) == (
            f"{tmp_path / path}: no run of {other.program} that this version can continue; "
            "choose another directory"
        )

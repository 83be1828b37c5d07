"""Runs that an earlier version made: they open, resume and extend, and their rows stay as they were."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxcram import api
from jaxcram.errors import UserError

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "older_runs" / "runs.tar.xz"
PROCEDURE = {"learning_rates": 0.5, "max_steps_per_token": 300, "warmup_steps": 10, "verbose": False}
FINISHED = {"max_tokens": 6, "max_steps": 200, **PROCEDURE}
INTERRUPTED = {"max_steps": 2000, "chunk_passes": 4, **PROCEDURE}


@pytest.fixture
def older(tmp_path, monkeypatch):
    """The runs, unpacked in the working directory, where the recorded `texts.txt` is."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_finished_one_is_shown_and_read(older):
    run = api.load_run("finished")
    assert [(lane["horizon"], lane["stop_reason"]) for lane in run.summary["lanes"]] == [
        (2, "sample_cap"),
        (6, "complete"),
    ]
    assert run.rows(["text"])["text"].drop_null().to_pylist() == ["Once upon", "The lamp"]
    assert [line.split()[:3] for line in run.table().splitlines()[1:2]] == [["text", "0.5", "2"]]
    assert len(api.decode(run)) == 2


def test_they_are_analysed(older):
    found = api.analyse("finished", "interrupted", analyses=["trajectory", "surprisal"]).document()
    assert [column["variant"] for column in found["columns"]] == ["max_steps=200", "max_steps=2000"]
    assert [lane["horizon"] for lane in found["lanes"]] == [2, 6, 7]
    assert [lane["pca99"] for lane in found["lanes"]] == [1, 3, 4]
    assert found["surprisal"]["stages"] == 1 + 5 + 6


def test_a_finished_one_is_counted_as_published_from_its_rows(older):
    run = api.load_run("finished")
    assert "trajectory_length" not in run.summary["lanes"][0]
    assert run.table().count("\n") == 1
    expected = []
    for file in sorted((older / "finished" / "rows").iterdir()):
        rows = pq.read_table(file).to_pylist()
        points = np.array([row["embedding"] for row in rows])[:, 0].astype(np.float64)
        expected.append(
            {
                **{name: rows[0][name] for name in ("sample_id", "learning_rate", "seed")},
                "tokens": len(rows),
                "information_gain_bits": rows[-1]["information_gain_bits"],
                "trajectory_length": pytest.approx(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()),
            }
        )
    published = run.as_published()
    assert [lane.pop("trajectory_components") for lane in published] == [1, 3]
    assert published == expected
    assert [lane["tokens"] for lane in published] == [3, 6]
    lines = run.table(as_published=True).partition("\n\n")[2].splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["counted", "tokens", "gain"],
        ["ours", "4.0±2.8", lines[1].split()[4]],
        ["as", "published", "4.5±2.1"],
    ]
    assert lines[1].split()[-2:] == ["-", "-"]  # norms are not in its rows
    interrupted = api.load_run("interrupted")
    assert interrupted.table().count("\n") == 1
    (lane,) = interrupted.as_published()
    assert (lane["tokens"], lane["trajectory_components"]) == (8, 5)


def test_a_finished_one_extends(older):
    before = {file.name: file.read_bytes() for file in (older / "finished" / "rows").iterdir()}
    run = api.cram(None, "texts.txt", out="finished", **FINISHED)  # nothing to do
    assert {file.name: file.read_bytes() for file in (older / "finished" / "rows").iterdir()} == before
    assert sorted(run.settings["contents"]["texts"]) == ["0", "1"]
    (older / "texts.txt").write_text("Once upon a time\n\nA cat went out.\n")
    with pytest.raises(UserError, match="texts: sample 1 was 'The lamp', is 'A cat"):
        api.cram(None, "texts.txt", out="finished", **FINISHED)


def test_a_finished_one_without_recorded_contents_is_compared_with_its_rows(older):
    (older / "texts.txt").write_text("Once upon a time\n\nA cat went out.\n")
    with pytest.raises(UserError, match=r"seed0.parquet: text was 'The lamp', is 'A cat"):
        api.cram(None, "texts.txt", out="finished", **FINISHED)


def test_an_interrupted_one_resumes_from_its_checkpoint(older):
    folder = older / "interrupted"
    done = folder / "rows" / "sample00000-lr0.5-seed0.parquet"
    finished = done.read_bytes()
    files = sorted((folder / "checkpoints" / "rows").iterdir())
    saved = pa.concat_tables(pq.read_table(file) for file in files).to_pylist()
    saved = {row["stage_index"]: row for row in saved if row["sample_id"] == 1}
    run = api.cram(None, "texts.txt", out="interrupted", log_every=10, **INTERRUPTED)
    assert done.read_bytes() == finished
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [event["resumed"] for event in events if event["event"] == "start"] == [0, 1]
    assert not [event for event in events if event["event"] == "damaged_checkpoint"]
    rows = [row for row in run.rows().to_pylist() if row["sample_id"] == 1]
    assert len(saved) == 16
    for index, row in saved.items():
        now = rows[index]
        assert {name: now[name] for name in row if name not in ("text", "target_ids")} == {
            name: value for name, value in row.items() if name not in ("text", "target_ids")
        }
    assert (len(rows), rows[-1]["stop_reason"]) == (17, "stage_cap")
    # Its checkpoint was made less than 10 steps before the first point, and has none itself.
    assert run.curves(["step"])["step"].to_pylist() == [510, 520, 530, rows[-1]["steps_taken"]]

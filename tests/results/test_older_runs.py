"""Runs that an earlier version made: they open, resume and extend, and their rows stay as they were."""

import json
import tarfile
from pathlib import Path

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

"""A run written as the published trajectories are, and read and counted without jaxcram."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.dataset
import pytest

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.interchange.exporting import FOLDER
from jaxcram.interchange.published import PUBLISHED
from jaxcram.interchange.saved import open_all

# Reads an export as the published scripts read their own rows, and counts as the published tables were: all
# stages, the failed one too; the last row's information gain; the path through all embeddings; the components
# of their singular values.
COUNTS = """
import json, sys
import numpy as np
from datasets import load_from_disk

samples = {}
for row in load_from_disk(sys.argv[1]):
    samples.setdefault(row["sample_id"], []).append(row)
for sample_id, rows in samples.items():
    rows.sort(key=lambda row: row["stage_index"])
    points = np.array([np.array(row["embedding"]).reshape(-1) for row in rows])
    variances = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) ** 2
    print(json.dumps({
        "sample_id": sample_id,
        "tokens": len(rows),
        "information_gain_bits": rows[-1]["information_gain_bits"],
        "trajectory_length": float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()),
        "trajectory_components": int(np.argmax(np.cumsum(variances) >= 0.99 * variances.sum())) + 1,
        "steps": rows[-1]["steps_taken"],
        "texts": [row["text"] for row in rows],
    }))
assert "jaxcram" not in sys.modules
"""


@pytest.mark.slow  # starts a process that imports `datasets`
def test_another_process_counts_the_same_as_published_without_jaxcram(run, exported, tmp_path):
    expected = {(lane["sample_id"], lane["learning_rate"]): lane for lane in run.as_published()}
    steps = {(lane["sample_id"], lane["learning_rate"]): lane["steps"] for lane in run.summary["lanes"]}
    failed = {
        (lane["sample_id"], lane["learning_rate"])
        for lane in run.summary["lanes"]
        if lane["stop_reason"] != "complete"
    }
    assert failed  # a stage that failed is among what is counted
    for rate in (0.01, 1.0):
        command = [sys.executable, "-c", COUNTS, str(exported / f"lr{rate}-seed0" / FOLDER)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [sample["sample_id"] for sample in found] == [0, 1]
        for sample in found:
            lane = expected.pop((sample["sample_id"], rate))
            assert sample["tokens"] == lane["tokens"]
            assert sample["information_gain_bits"] == lane["information_gain_bits"]
            assert sample["trajectory_length"] == pytest.approx(lane["trajectory_length"], rel=1e-12)
            assert sample["trajectory_components"] == lane["trajectory_components"]
            assert sample["steps"] == steps[sample["sample_id"], rate]
            whole = ["one day", "a café"][sample["sample_id"]].encode()
            prefixes = [whole[:n].decode(errors="replace") for n in range(1, lane["tokens"] + 1)]
            assert sample["texts"] == prefixes
    assert not expected


def test_the_published_columns_come_first_and_with_the_published_types(exported):
    [(_, rows)] = open_all(str(exported / "lr1.0-seed0"), "baseline")
    schema = rows.schema
    assert schema.names[: len(PUBLISHED)] == PUBLISHED.names
    assert [field.type for field in schema][: len(PUBLISHED)] == [field.type for field in PUBLISHED]


def test_every_row_has_the_initial_embedding_and_the_tokens_of_its_prefix(run, exported):
    [(_, rows)] = open_all(str(exported / "lr1.0-seed0"), "baseline")
    table = rows.to_table(filter=pyarrow.dataset.field("sample_id") == 0)
    of_lane = [row for row in run.rows().to_pylist() if (row["sample_id"], row["learning_rate"]) == (0, 1.0)]
    assert table["initialization_embedding"].to_pylist() == [of_lane[0]["initialization_embedding"]] * len(
        table
    )
    assert table["embedding"].to_pylist() == [row["embedding"] for row in of_lane]
    assert table["num_input_tokens"].to_pylist() == list(range(1, len(of_lane) + 1))
    assert np.array(table["embedding"].to_pylist()).dtype == np.float64


def test_only_the_lanes_that_are_asked_for(run, tmp_path):
    folders = api.export_run(run.path, tmp_path / "out", learning_rate=0.01, seed=0)
    assert folders == [tmp_path / "out" / "lr0.01-seed0" / FOLDER]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lr0.01-seed0"]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(run, tmp_path):
    def refused(match, *arguments, **options):
        with pytest.raises(UserError, match=match):
            api.export_run(*arguments, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def changed(name, **settings):
        folder = shutil.copytree(run.path, tmp_path / name)
        (folder / "settings.json").write_text(json.dumps(run.settings | settings))
        return folder

    full, thin = changed("full", mode="full"), changed("thin", trajectory="horizon")
    before = sorted(path.name for path in tmp_path.iterdir())
    out = tmp_path / "out"
    refused("full: a run of full cramming has no stages to export; give a progressive one", full, out)
    refused("thin: does not have the embeddings of all stages; cram with trajectory=all", thin, out)
    refused("thin: is there already; choose another directory", run, tmp_path / "thin")
    refused("run: no lane of it has learning_rate=0.5", run, out, learning_rate=0.5)
    refused("format 'csv' is unknown: choose one of published", run, out, format="csv")
    refused(
        r"jaxcram:mini-llama: its tokenizer is not the one that .*run was made with; give that model",
        *(run, out),
        model="jaxcram:mini-llama",
    )

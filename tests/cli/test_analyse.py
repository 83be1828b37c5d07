"""`jaxcram analyse` by the real entry point, on runs of a tiny model."""

import csv
import io
import itertools
import json
import re

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy import stats

from jaxcram import api
from jaxcram.cli.main import main
from jaxcram.findings import registry
from jaxcram.results.reading import load_rows
from tests.findings.made import make_run

JOBS = [(sample, rate, 0) for sample in range(3) for rate in (0.1, 1.0)]

# In order of the analyses; one seed has no figure of several.
FIGURES = ("walk", "pca99", "jumps", "surprisal", "capacity", "solutions")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three texts, two learning rates."""
    return make_run(tmp_path_factory.mktemp("analysed") / "run", JOBS)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Two of the texts, one learning rate, another schedule."""
    jobs = [(0, 1.0, 0), (1, 1.0, 0)]
    return make_run(tmp_path_factory.mktemp("other") / "run", jobs, min_lr=0.01)


def printed(capsys, *arguments: str) -> str:
    assert main(["analyse", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_json_has_the_lanes_ours_and_as_published(run, capsys):
    found = json.loads(printed(capsys, run, "--format=json"))
    loaded = api.load_run(run)
    assert len(found["lanes"]) == len(loaded.summary["lanes"]) == 6
    for lane, of_summary, published in zip(
        found["lanes"], loaded.summary["lanes"], loaded.as_published(), strict=True
    ):
        job = [of_summary[name] for name in ("sample_id", "learning_rate", "seed")]
        assert [lane[name] for name in ("sample_id", "learning_rate", "seed")] == job
        assert lane["horizon"] == of_summary["horizon"]
        points = loaded.trajectory(*job)
        length = np.linalg.norm(np.diff(points.astype(float), axis=0), axis=(1, 2)).sum()
        assert lane["trajectory_length"] == pytest.approx(length)
        assert lane["pca99"] == of_summary["trajectory_components"]
        assert lane["as_published"] == {
            "horizon": published["tokens"],
            "information_gain_bits": published["information_gain_bits"],
            "trajectory_length": published["trajectory_length"],
            "pca99": published["trajectory_components"],
        }


def test_surprisal_is_over_all_lanes_and_over_those_of_each_learning_rate(run, capsys):
    found = json.loads(printed(capsys, run, "--format=json"))
    rows = load_rows(run, ["learning_rate", "stage_seq_len", "exact", "surprisal_bits", "steps"]).to_pylist()
    stages = [row for row in rows if row["exact"] and row["stage_seq_len"] > 1]

    def spearman(rate):
        here = [row for row in stages if rate in (None, row["learning_rate"])]
        return stats.spearmanr(
            *([row[name] for row in here] for name in ("surprisal_bits", "steps"))
        ).statistic

    assert found["surprisal"]["spearman"] == pytest.approx(spearman(None))
    low, high = found["surprisal"]["interval"]
    assert low <= found["surprisal"]["spearman"] <= high
    assert found["surprisal"]["zero_step_stages"] == sum(row["steps"] == 0 for row in stages)
    assert found["surprisal"]["stages"] == len(stages)
    assert found["surprisal"]["without_zero_steps"]["stages"] == sum(row["steps"] > 0 for row in stages)
    *columns, whole = found["columns"]
    assert [column["learning_rate"] for column in (*columns, whole)] == [0.1, 1.0, None]
    for column in columns:
        assert column["surprisal"]["spearman"] == pytest.approx(spearman(column["learning_rate"]))


def test_several_runs_are_columns_and_what_differs_is_named(run, other, capsys):
    lines = printed(capsys, run, other).splitlines()
    label, *cells = zip(*(re.split(" {2,}", line.strip()) for line in lines[:5] if line), strict=True)
    assert label == ("run", "model", "min_lr", "learning rate")
    assert cells == [
        ("analysed0/run", "tiny", "0.001", "0.1"),
        ("analysed0/run", "tiny", "0.001", "1"),
        ("other0/run", "tiny", "0.01", "1"),
    ]
    assert lines[6].split() == ["lanes", "3", "3", "2"]
    found = json.loads(printed(capsys, run, other, "--format=json"))
    assert [(column["run"], column["variant"]) for column in found["columns"] if column["learning_rate"]] == [
        *[(str(run), "min_lr=0.001")] * 2,
        (str(other), "min_lr=0.01"),
    ]
    assert len(found["lanes"]) == 8
    assert found["surprisal"]["texts"] == 3  # the two texts of the other run are among those of the first


def test_csv_has_a_line_a_lane_and_a_data_frame_the_same(run, capsys):
    rows = list(csv.DictReader(io.StringIO(printed(capsys, run, "--format=csv"))))
    lanes = api.load_run(run).lanes()
    assert len(rows) == len(lanes) == 6
    numbers = [
        name for name in lanes.columns if name not in ("model", "text") and not name.endswith("_dwells")
    ]
    assert {"as_published_pca99", "spearman", "horizon_bits", "pca99"} <= set(numbers)
    for row, (_, lane) in zip(rows, lanes.iterrows(), strict=True):
        for name in numbers:
            assert float(row[name] or "nan") == pytest.approx(float(lane[name]), nan_ok=True)


def test_csv_of_analyses_of_whole_runs_has_their_rows(tiny_model, tmp_path, capsys):
    jobs = [(0, rate, seed) for rate in (0.1, 1.0) for seed in range(3)]
    path = make_run(tmp_path / "run", jobs, (1, 32))
    asked = [path, "--analyses=solutions,seeds,lines,landscape", f"--model={tiny_model}", "--grid=3"]
    found = json.loads(printed(capsys, *asked, "--format=json"))["rows"]
    assert list(found) == ["solutions", "seeds", "lines", "landscape"]
    lines = list(csv.DictReader(io.StringIO(printed(capsys, *asked, "--format=csv"))))
    assert [line["analysis"] for line in lines] == [name for name, rows in found.items() for _ in rows]
    assert next(iter(lines[0])) == "analysis"
    for line, row in zip(lines, itertools.chain(*found.values()), strict=True):
        for name, value in row.items():
            if isinstance(value, dict):
                assert [float(line[f"{name}_{key}"]) for key in value] == list(value.values())
            elif isinstance(value, list):
                assert name not in line
            else:
                assert line[name] == ("" if value is None else str(value))
    assert [row["tokens"] for row in found["seeds"]] == [4, 5, 6, 4, 5, 6]
    assert {len(row["accuracies"]) for row in found["lines"]} == {21}
    assert [(row["stage_seq_len"], row["learning_rate"]) for row in found["landscape"]] == [
        (tokens, 0.1) for tokens in range(1, 7)
    ]


def test_figures_and_json_go_into_a_directory_and_stdout_stays_json(run, tmp_path, capsys):
    out = tmp_path / "deep" / "found"
    assert main(["analyse", str(run), f"--out={out}", "--format=json"]) == 0
    streams = capsys.readouterr()
    assert (out / "analysis.json").read_text() == streams.out
    json.loads(streams.out)
    assert streams.err.splitlines() == [
        "",
        *(f"figure    {out / name}.png (and .pdf)" for name in FIGURES),
        f"analysis  {out / 'analysis.json'}",
    ]
    for name in FIGURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_analyses_may_be_named(run, capsys):
    found = json.loads(printed(capsys, run, "--format=json", "--analyses=capacity"))
    assert found.keys() == {"lanes", "capacity", "columns", "rows"}
    assert found["rows"] == {}
    assert "pca99" not in found["lanes"][0]
    assert found["lanes"][0]["horizon_bits"] == pytest.approx(
        sum(
            row["surprisal_bits"]
            for row in load_rows(run).to_pylist()
            if row["exact"] and (row["sample_id"], row["learning_rate"]) == (0, 0.1)
        )
    )


def test_a_model_that_has_moved_is_given_by_its_directory(tiny_model, tmp_path, capsys):
    moved = make_run(tmp_path / "run", JOBS[:2], (1, 32), model="/gone/tiny")
    asked = [moved, "--format=json", "--analyses=landscape", "--grid=3"]
    assert main(["analyse", *map(str, asked)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxcram analyse: error: model '/gone/tiny' is neither a directory nor")
    found = json.loads(printed(capsys, *asked, f"--model={tiny_model}"))
    assert found["landscape"]["lanes"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=xml"], "--format=xml must be one of table, csv, json"),
        (["--analyses=surprise"], "analyses: 'surprise' is unknown; choose from trajectory, walk,"),
        (["{run}"], "{run}: the run is given twice; name it once"),
        (["{run}/rows"], "{run}/rows: no settings.json in it; it is not a run of jaxcram"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(run, tmp_path, capsys, arguments, message):
    given = [argument.format(run=run) for argument in arguments]
    assert main(["analyse", str(run), *given, f"--out={tmp_path / 'out'}"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert message.format(run=run) in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_one_run_by_whatever_path(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(run)
    for path in ("link", run.parent / "rows" / ".." / run.name):
        (run.parent / "rows").mkdir(exist_ok=True)
        assert main(["analyse", str(run), str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"jaxcram analyse: error: {tmp_path / path}: the run is given twice; name it once"


def test_of_imported_runs_the_split_is_named(tmp_path, capsys):
    jobs, sources = [(0, 0.1, 0)], ["/data/somewhere"]
    for name, split in (("run", "baseline"), ("low", "lowdim")):
        make_run(tmp_path / name, jobs, imported={"sources": sources, "split": split})
    lines = printed(capsys, tmp_path / "run", tmp_path / "low", "--analyses=capacity").splitlines()
    assert lines[2].split() == ["imported", "baseline", "lowdim"]
    make_run(tmp_path / "more", jobs, imported={"sources": [], "split": "baseline"})
    lines = printed(capsys, tmp_path / "run", tmp_path / "more", "--analyses=capacity").splitlines()
    assert lines[2].split() == ["learning", "rate", "0.1", "0.1"]


def test_the_help_names_all_analyses(capsys):
    assert main(["analyse", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    named = words.partition("--analyses Names of the analyses, comma-separated: ")[2].partition(
        ", which ask"
    )[0]
    seconds, minutes = (some.split(", ") for some in named.split("; and "))
    assert seconds == [one.name for one in registry.ANALYSES if one.default]
    assert minutes == [one.name for one in registry.ANALYSES if not one.default]


def test_a_directory_that_cannot_be_made_is_refused_before_the_analyses_run(run, capsys):
    assert main(["analyse", str(run), "--analyses=walks", "--out=/dev/null/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "jaxcram analyse: error: /dev/null/out: cannot be written (Not a directory); choose another directory"
    )


def test_a_run_of_full_cramming_is_refused(tmp_path, capsys):
    full = make_run(tmp_path / "run", [(0, 0.1, 0)], mode="full")
    assert main(["analyse", str(full)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"jaxcram analyse: error: {full}: a run of full cramming, which has no trajectories to analyse; "
        "give a run of progressive cramming"
    )


def test_a_run_without_ended_lanes_has_nothing_to_tell(tmp_path, capsys):
    empty = make_run(tmp_path / "run", [])
    assert printed(capsys, empty) == "no lane has ended yet\n"
    found = json.loads(printed(capsys, empty, "--format=json"))
    assert (found["lanes"], found["surprisal"]["spearman"]) == ([], None)
    assert [column["learning_rate"] for column in found["columns"]] == [None]
    assert printed(capsys, empty, "--format=csv").strip() == ""
    assert len(api.load_run(empty).lanes()) == 0


@pytest.mark.slow
def test_a_crammed_run_is_analysed(tiny_model, tmp_path, capsys):
    command = ["cram", f"--model={tiny_model}", f"--texts={tmp_path / 'text.txt'}", "--learning_rates=0.1"]
    (tmp_path / "text.txt").write_text("Once upon a time")
    assert main([*command, "--max_steps=200", f"--out={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    (lane,) = json.loads(printed(capsys, tmp_path / "run", "--format=json"))["lanes"]
    crammed = api.load_run(tmp_path / "run")
    (of_summary,) = crammed.summary["lanes"]
    assert lane["horizon"] == of_summary["horizon"]
    assert lane["horizon_steps"] == crammed.rows().filter(pc.field("exact"))["steps"].to_numpy().sum()

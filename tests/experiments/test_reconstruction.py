"""Reconstructions on disk: texts crammed in three ways, finished runs measured, resumed and refused."""

import shutil

import numpy as np
import pytest

from jaxcram import api
from jaxcram.cram.settings import CramSettings
from jaxcram.errors import UserError
from jaxcram.evaluate.reconstruction import summarise

pytestmark = pytest.mark.slow

OPTIONS = {"learning_rates": 0.1, "num_memory": 8, "max_tokens": 5, "full_threshold": 0.6, "min_tokens": 4}
OPTIONS |= {"max_steps": 300, "warmup_steps": 5, "token_budget": 32, "verbose": False}
TEXTS = ["Once upon a time", "The end", "xyzzy!"]


@pytest.fixture(scope="module")
def model(tiny):
    return tiny


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n\n".join(TEXTS))
    return str(file)


@pytest.fixture(scope="module")
def whole(model, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("reconstruction") / "whole"
    return api.reconstruct(model=model, texts=texts, out=out, **OPTIONS)


@pytest.fixture
def unfit(model, texts, tmp_path):
    """Runs of three steps each, which reconstruct next to nothing."""
    options = {"learning_rates": 1.0, "max_steps": 3, "max_tokens": 4, "mode": "full", "token_budget": 32}

    def run(trajectory):
        out = tmp_path / trajectory
        return api.cram(
            model, texts, out=out, full_threshold=0.99, trajectory=trajectory, verbose=False, **options
        )

    return run


def test_texts_are_crammed_in_three_ways_by_runs_of_their_own(whole):
    for name, mode, threshold in (
        ("full_0.6", "full", 0.6),
        ("full", "full", 1.0),
        ("progressive",) * 2 + (1.0,),
    ):
        run = api.load_run(whole.path / name)
        assert (run.settings["mode"], run.settings["full_threshold"]) == (mode, threshold)
    rows = whole.rows().to_pylist()
    assert [(row["setup"], row["sample_id"]) for row in rows] == [
        (setup, i) for setup in ("full_0.6", "full", "progressive") for i in range(3)
    ]
    assert [row["lane_index"] for row in rows] == list(range(9))
    assert {row["enough_tokens"] for row in rows if row["setup"] == "full_0.6"} == {3}


def test_a_row_says_what_the_run_found_of_its_lane(whole):
    for row in whole.rows().to_pylist():
        lanes = api.load_run(row["run"]).summary["lanes"]
        (lane,) = (lane for lane in lanes if lane["sample_id"] == row["sample_id"])
        assert (row["tokens"], row["steps_taken"]) == (lane["decode_tokens"], lane["steps"])
        assert row["converged"] == (lane["stop_reason"] in ("complete", "converged"))
        for decoder in ("tf", "exact", "cached"):
            assert row[f"{decoder}_accuracy"] == lane[f"{decoder}_accuracy"]
            assert row[f"{decoder}_first_miss"] == lane[f"{decoder}_first_mismatch"]
        if row["tokens"]:
            right = np.array(row["tf_ids"]) == np.array(row["target_ids"])
            np.testing.assert_array_equal(np.array(row["margins"]) > 0, right)
    assert whole.summary["setups"] == summarise(whole.rows().to_pylist())


def test_what_stops_early_misses_tokens_and_has_results_after_the_first_miss(whole):
    early, full, progressive = whole.summary["setups"]
    assert early["converged"] == 3
    assert 0.6 <= early["decoders"]["tf"]["accuracy"] < 1
    assert early["decoders"]["exact"]["after_lanes"] > 0
    assert early["decoders"]["exact"]["within"][0] < full["decoders"]["exact"]["within"][0]
    assert progressive["decoders"]["exact"]["accuracy"] == 1.0
    assert progressive["decoders"]["tf"]["after_first_miss"] is None


def test_a_threshold_that_asks_for_all_tokens_has_no_result_after_the_first_miss(unfit, model):
    found = api.reconstruct(unfit("all"), model, limit=1, verbose=False)
    (row,) = found.rows().to_pylist()
    assert (row["setup"], row["enough_tokens"], row["converged"]) == ("full_0.99", 4, False)
    assert row["tf_wrong"] > 0
    assert row["tf_first_miss"] < 3
    assert row["tf_after_first_miss"] is None
    assert found.summary["setups"][0]["decoders"]["tf"]["after_lanes"] == 0


def test_the_table_has_three_lines_a_setup(whole):
    lines = whole.table().splitlines()
    assert lines[0].split() == [
        *("setup", "lr", "conv.", "tokens", "margin", "decoding", "accuracy", "after", "no", "miss"),
        *("<=1", "<=2", "@0", "@1", "@2"),
    ]
    assert [line.split()[0] for line in lines[1:10]] == [
        *("full_0.6", "exact", "cached", "full", "exact", "cached", "progressive", "exact", "cached")
    ]
    early = whole.summary["setups"][0]["decoders"]["tf"]
    mismatch = [f"{100 * rate:.0f}" for rate in early["mismatch"][:3]]
    cells = lines[1].split()
    margin = whole.summary["setups"][0]["least_margin"]
    assert cells[:6] == ["full_0.6", "0.1", "3/3", "5.0", f"{margin:.3g}", "TF"]
    assert cells[-6:] == [*(f"{count}/3" for count in early["within"][:3]), *mismatch]
    assert max(map(len, lines)) <= 110


def test_the_same_call_does_what_is_missing_and_other_settings_are_refused(whole, model, texts, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(whole.path, again)
    shutil.rmtree(again / "progressive")
    (again / "summary.json").unlink()
    kept = {file: file.stat().st_mtime_ns for file in again.rglob("rows/*.parquet")}
    found = api.reconstruct(model=model, texts=texts, out=again, **OPTIONS)
    assert found.rows().drop_columns(["run"]).equals(whole.rows().drop_columns(["run"]))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    with pytest.raises(UserError, match=r"full_threshold: was 0\.6, is 0\.8"):
        api.reconstruct(model=model, texts=texts, out=again, **OPTIONS | {"full_threshold": 0.8})
    with pytest.raises(UserError, match="not of reconstruct"):
        api.load_reconstructions(again / "full")


def test_finished_runs_are_measured_alike(whole, model, tmp_path):
    runs = [whole.path / name for name in ("full_0.6", "full", "progressive")]
    found = api.reconstruct(runs, out=tmp_path / "runs", verbose=False)
    assert found.rows().equals(whole.rows())
    assert found.summary["setups"] == whole.summary["setups"]
    run = tmp_path / "full"
    shutil.copytree(runs[1], run)
    found = api.reconstruct(run, model, samples=[2, 0], verbose=False)
    assert found.path == run / "reconstruct"
    assert found.rows()["sample_id"].to_pylist() == [0, 2]
    assert api.reconstruct(run, model, limit=1, verbose=False).rows()["sample_id"].to_pylist() == [0]
    assert api.load_reconstructions(found.path).rows()["sample_id"].to_pylist() == [0]
    assert api.load_run(run).finished


def test_a_run_without_embeddings_is_refused(unfit, model):
    run = unfit("none")
    with pytest.raises(UserError) as error:
        api.reconstruct(run, model, verbose=False)
    assert str(error.value) == f"{run.path}: sample 0 has no embedding; cram with trajectory=horizon"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give either runs to measure, or texts to cram and measure"),
        ({"runs": "a", "texts": "bundled"}, "give either runs to measure, or texts to cram and measure"),
        ({"texts": "bundled", "limit": 0}, "limit 0 must be at least 1"),
        ({"runs": "a", "max_steps": 3}, "max_steps: the runs have settings of their own; leave it out"),
        ({"runs": []}, "runs: the list is empty; give the directory of a run"),
        (
            {"texts": "bundled", "mode": "full"},
            "mode: texts are crammed in full and progressively; leave it out",
        ),
        (
            {"texts": "bundled", "full_threshold": 1.5},
            "full_threshold 1.5 must be greater than 0 and at most 1",
        ),
        (
            {"texts": "bundled", "settings": CramSettings(), "full_threshold": 1.0},
            "full_threshold 1.0: full cramming would be done twice; choose one below 1, such as 0.99",
        ),
        (
            {"texts": "passages", "samples": [1, 99]},
            "samples: 99 is not an id of texts=passages; ids are from 0 to 23",
        ),
        ({"texts": "passages", "samples": []}, "samples: no id; give at least one"),
        ({"texts": "passages", "samples": [0, 1, 0]}, "samples: 0 is given twice; give it once"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(wrong, message, model, tmp_path):
    with pytest.raises(UserError) as error:
        api.reconstruct(model=model, out=tmp_path / "out", **wrong)
    assert str(error.value) == message
    assert not (tmp_path / "out").exists()


def test_ids_that_a_run_has_not_are_refused(whole, model, tmp_path):
    with pytest.raises(UserError) as error:
        api.reconstruct(whole.path / "full", model, samples=[1, 5], out=tmp_path / "out")
    assert str(error.value) == f"samples: 5 is not an id of {whole.path / 'full'}; ids are from 0 to 2"
    assert not (tmp_path / "out").exists()

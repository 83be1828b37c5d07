"""Analyses that ask the model ask the one that the run was made with, wherever its checkpoint lies."""

import jax
import numpy as np
import pytest

from jaxcram import api
from jaxcram.analysis import interval
from jaxcram.errors import UserError
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.findings.made import lane, make_run, write_lane

JOBS = [(0, 1.0, 0)]
SHAPE = (1, 32)  # the tiny model's width


@pytest.fixture(scope="module")
def model(tiny_model):  # noqa: F811
    return api.load_model(tiny_model)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """Of the tiny model, whose checkpoint has moved."""
    path = tmp_path_factory.mktemp("moved") / "run"
    return make_run(path, JOBS, SHAPE, model.contents, model="/gone/tiny")


def basins(*runs, **options):
    found = api.analyse(*runs, analyses=["landscape"], grid=3, **options)
    return [row["basins"] for row in found.rows["landscape"]]


def test_a_checkpoint_that_has_moved_is_given(run, model, tiny_model, tmp_path):  # noqa: F811
    there = make_run(tmp_path / "run", JOBS, SHAPE, model.contents, model=str(tiny_model))
    expected = basins(there)
    assert [[basin["stage_seq_len"] for basin in lane] for lane in expected] == [[1, 2, 3, 4, 5, 6]]
    with pytest.raises(UserError, match="model '/gone/tiny' is neither a directory nor"):
        basins(run)
    assert basins(run, model=tiny_model) == basins(run, model=model) == expected
    assert basins(run, there, model=model) == expected + expected


def test_landscapes_are_of_the_first_texts_that_walk_far_enough(model, tmp_path):
    """Texts 0 to 3 end after two stages; of text 4 the longer lane stands still; those of 5 to 8 walk."""
    jobs = [*((sample, 1.0, 0) for sample in range(9)), (4, 0.1, 0)]
    run = make_run(tmp_path / "run", jobs, SHAPE)
    for job in jobs[:4]:
        write_lane(run, job, lane(*job, SHAPE)[:2])
    still = lane(4, 0.1, 0, SHAPE)
    write_lane(run, (4, 0.1, 0), [row | {"embedding": still[0]["embedding"]} for row in still])
    write_lane(run, (4, 1.0, 0), lane(4, 1.0, 0, SHAPE)[:12])
    found = api.analyse(run, analyses=["landscape"], grid=3, model=model)
    measured = found.document()["landscape"]["of_lanes"]
    assert found.columns("landscape")[0].summary["of_lanes"] == measured
    assert [(one["sample_id"], one["learning_rate"], one["seed"]) for one in measured] == [
        *((4, 1.0, 0), (5, 1.0, 0), (6, 1.0, 0))
    ]
    for one, row in zip(measured, found.rows["landscape"], strict=True):
        stages = row["landscape"][0].stages
        assert one["run"] == str(run)
        assert one["stages"] == [stage.index for stage in stages]
        assert one["tokens"] == [stage.tokens for stage in stages]
        assert one["basins"] == [stage.basin() for stage in stages]
        assert one["own_accuracy"] == [stage.own for stage in stages]
    assert measured[0]["stages"] == [0, 1, 3, 4, 6, 7, 9, 11]


def test_the_user_s_configuration_of_jax_changes_nothing(run, model, tiny_model, tmp_path):  # noqa: F811
    there = api.load_run(make_run(tmp_path / "run", JOBS, SHAPE, model=str(tiny_model)))
    expected, drawn = basins(run, model=model), there.figure("basins").axes[0].lines[0].get_xydata()
    with jax.numpy_rank_promotion("raise"), jax.enable_x64(True), jax.debug_nans(True):
        assert basins(run, model=model) == expected
        again = there.figure("basins").axes[0].lines[0].get_xydata()
        np.testing.assert_array_equal(again, drawn)
        assert there.lanes().horizon.tolist() == [6]


@pytest.mark.parametrize("analysis", ["lines", "reconstruction", "landscape"])
def test_another_model_than_that_of_the_run_is_refused(tiny_model, tmp_path, analysis):  # noqa: F811
    jobs = [*JOBS, (0, 0.1, 0)]
    other = make_run(tmp_path / "run", jobs, SHAPE, {"weights": "0" * 16}, model=str(tiny_model))
    named = r"run: .*tiny is not the model that the run was made with \(model: different weights\); give that"
    with pytest.raises(UserError, match=named):
        api.analyse(other, analyses=[analysis])


def test_a_model_of_another_width_is_refused_where_the_run_recorded_no_digest(tiny_model, tmp_path):  # noqa: F811
    wide = make_run(tmp_path / "run", JOBS, (2, 5), model=str(tiny_model))
    message = r"run: embeddings of shape \[\(2, 5\)\] do not fit this model, which needs \[K, 32\]"
    with pytest.raises(UserError, match=message):
        basins(wide)


def test_lines_and_solutions_of_two_runs_are_of_their_texts_and_not_of_their_numbers(model, tmp_path):
    runs = [make_run(tmp_path / name, [(0, 0.1, 0), (0, 1.0, 0)], SHAPE) for name in ("run", "other")]
    for digest, texts in (("digest0", 1), ("another", 2)):
        settings = runs[1] / "settings.json"
        settings.write_text(settings.read_text().replace("digest0", digest))
        found = api.analyse(*runs, analyses=["solutions", "lines"], model=model).document()
        assert (found["solutions"]["texts"], found["lines"]["texts"]) == (texts, texts)
        assert (found["solutions"]["groups"], found["lines"]["lines"]) == (6, 2)


def test_lines_are_between_rates_and_between_seeds(model, tmp_path):
    jobs = [(sample, rate, seed) for sample in (0, 1) for rate in (0.1, 1.0) for seed in (0, 4)]
    found = api.analyse(make_run(tmp_path / "run", jobs, SHAPE), analyses=["lines"], model=model)
    rows = found.rows["lines"]
    ends = [(row["across"], row["sample_id"], row["first"], row["second"]) for row in rows]
    rates = [("learning_rate", sample, 0.1, 1.0) for sample in (0, 0, 1, 1)]
    assert ends == rates + [("seed", sample, 0, 4) for sample in (0, 0, 1, 1)]
    assert [row["seed"] for row in rows[:4]] == [0, 4, 0, 4]
    assert [row["learning_rate"] for row in rows[4:]] == [0.1, 1.0, 0.1, 1.0]
    summary = found.document()["lines"]
    assert (summary["lines"], summary["across_seeds"]["lines"]) == (4, 4)
    least = [np.mean([row["least"] for row in some]) for some in (rows[:4], rows[4:])]
    assert [summary["least"]["mean"], summary["across_seeds"]["least"]["mean"]] == least
    above = interval.of_mean([row["above"] for row in rows[:4]], [row["sample_id"] for row in rows[:4]])
    assert summary["above"]["interval"] == above
    assert "lowest accuracy on the way, across seeds" in found.table()
    legend = found.figure("lines").legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["tiny", "tiny, across seeds"]


def test_a_given_model_has_to_be_that_of_all_runs(run, model, tmp_path):
    other = make_run(tmp_path / "other", JOBS, SHAPE, {"weights": "0" * 16})
    for runs in ((run, other), (other, run)):
        with pytest.raises(UserError, match=r"other: .*tiny is not the model that the run was made with"):
            api.analyse(*runs, analyses=["capacity"], model=model)

"""Reconstructions and landscapes of a real run, as `jaxcram analyse` has them."""

import numpy as np
import pytest

from jaxcram import api
from jaxcram.analysis.accuracy import accuracies
from jaxcram.analysis.lines import segment
from jaxcram.errors import UserError
from tests.cli.conftest import tiny_model  # noqa: F401


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):  # noqa: F811
    """Two texts that the model cannot know, at two learning rates."""
    out = tmp_path_factory.mktemp("around") / "run"
    model = api.load_model(tiny_model)
    return api.cram(model, ["qz!7", "k#W"], learning_rates=(0.3, 0.5), max_steps=400, out=out)


@pytest.mark.slow
def test_each_lane_is_rebuilt_and_surrounded(run):
    found = api.analyse(run, analyses=["reconstruction", "landscape"], grid=12)
    rebuilt = found.rows["reconstruction"]
    assert len(rebuilt) == len(run.summary["lanes"])
    for row, lane in zip(rebuilt, run.summary["lanes"], strict=True):
        last = row["rebuilt"][-1]
        assert (last["tokens"], last["tf_accuracy"], last["exact_accuracy"]) == (lane["horizon"], 1.0, 1.0)
        assert last["pca99"] == lane["trajectory_components"]
    for row in found.rows["landscape"]:
        assert [basin["own_accuracy"] for basin in row["basins"]] == [1.0] * len(row["basins"])
        np.testing.assert_array_equal(row["landscape"][0].stages[0].accuracy_YxX.shape, (12, 12))
    document = found.document()
    assert document["reconstruction"]["lanes"] == 4
    (column,) = found.columns("landscape")
    assert document["landscape"] == column.summary
    assert document["lanes"][0]["at_pca99"].keys() == {"tf_accuracy", "exact_accuracy", "first_wrong"}
    assert "components for accuracy 0.98" in found.table()


@pytest.mark.slow
def test_the_lines_between_two_rates_are_those_of_their_embeddings(tmp_path):
    """Each end is a solution, and each point is measured with the text's own tokens."""
    texts = ["Once upon a time there was a little girl.", "One day, a boy saw a big dog."]
    options = {"learning_rates": (0.3, 0.5), "max_steps": 400}
    run = api.cram(api.load_model(), texts, out=tmp_path / "run", verbose=False, **options)
    assert min(lane["horizon"] for lane in run.summary["lanes"]) >= 4  # the shortest prefix of solutions
    found = api.analyse(run, analyses=["lines"])
    model = run.source().model().decoder
    assert [row["sample_id"] for row in found.rows["lines"]] == [0, 1]
    for row in found.rows["lines"]:
        lanes = [run.source().lane(row["sample_id"], rate).exact() for rate in (row["first"], row["second"])]
        ends = [lane.points_SxKxD[list(lane.prefix_S).index(row["tokens"])] for lane in lanes]
        expected = accuracies(model, segment(*ends)[1], lanes[0].target_T[: row["tokens"]])
        assert (row["first"], row["second"]) == (0.3, 0.5)
        assert row["accuracies"] == list(expected)
        assert (expected[0], expected[-1]) == (1.0, 1.0)
    summary = found.document()["lines"]
    assert (summary["lines"], summary["texts"]) == (2, 2)
    assert summary["least"]["mean"] == np.mean([min(row["accuracies"]) for row in found.rows["lines"]])
    assert found.figure("lines").axes[0].get_ylim() == (-0.02, 1.02)
    assert "lowest accuracy on the way" in found.table()


def test_a_grid_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"^grid=1 should be from 2 to 512 points; the published"):
        api.analyse(grid=1)

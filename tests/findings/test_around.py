"""Reconstructions and landscapes of a real run, as `jaxcram analyse` has them."""

import numpy as np
import pytest

from jaxcram import api
from jaxcram.findings.findings import Findings
from tests.cli.conftest import tiny_model  # noqa: F401


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):  # noqa: F811
    """Two texts that the model cannot know, at one learning rate."""
    out = tmp_path_factory.mktemp("around") / "run"
    model = api.load_model(tiny_model)
    return api.cram(model, ["qz!7", "k#W"], learning_rates=0.5, max_steps=400, out=out)


@pytest.mark.slow
def test_each_lane_is_rebuilt_and_surrounded(run):
    found = Findings([run.source()], ["reconstruction", "landscape"])
    rebuilt = found.rows["reconstruction"]
    assert len(rebuilt) == len(run.summary["lanes"])
    for row, lane in zip(rebuilt, run.summary["lanes"], strict=True):
        last = row["rebuilt"][-1]
        assert (last["tokens"], last["tf_accuracy"], last["exact_accuracy"]) == (lane["horizon"], 1.0, 1.0)
        assert last["pca99"] == lane["trajectory_components"]
    for row in found.rows["landscape"]:
        assert [basin["own_accuracy"] for basin in row["basins"]] == [1.0] * len(row["basins"])
        np.testing.assert_array_equal(row["landscape"][0].stages[0].accuracy_YxX.shape, (60, 60))
    document = found.document()
    assert document["reconstruction"]["lanes"] == 2
    (column,) = found.columns("landscape")
    assert document["landscape"] == column.summary
    assert document["lanes"][0]["at_pca99"].keys() == {"tf_accuracy", "exact_accuracy", "first_wrong"}
    assert "components for accuracy 0.98" in found.table()

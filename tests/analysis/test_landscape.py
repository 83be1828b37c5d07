"""Landscapes against a covariance matrix and a Llama in plain NumPy, one mesh point at a time."""

import numpy as np
import pytest

from jaxcram.analysis import landscape
from jaxcram.analysis.landscape import Grid
from tests.analysis.test_accuracy import greedy_text, plainly_right
from tests.analysis.test_basis import covariance_axes
from tests.cram.conftest import tiny  # noqa: F401

LENGTHS = np.array([1, 2, 4, 5, 8, 9])


@pytest.fixture(scope="module")
def lane(tiny):  # noqa: F811
    """A walk of six stages to an embedding of two vectors, and the text that this one gives back."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0, 0.3, (6, 2, tiny.config.width))
    steps[:, 0] *= 3 * np.linspace(1, 0.2, tiny.config.width)
    points = np.cumsum(steps, axis=0).astype(np.float32)
    return points, greedy_text(tiny, points[-1], 12)


@pytest.mark.slow
def test_every_mesh_point_is_the_stage_moved_along_two_components(tiny, lane):  # noqa: F811
    points, target = lane
    found = landscape.measure(tiny, points, LENGTHS, target, Grid(stages=3, size=5, margin=0.25))
    values, axes = covariance_axes(points)
    centred = (points - points.mean(axis=0, dtype=np.float64)).reshape(6, -1)
    axes = axes[:2] * np.where(centred[-1] @ axes[:2].T < 0, -1, 1)[:, None]
    walk = centred @ axes.T
    np.testing.assert_allclose(found.walk_Rx2, walk, atol=1e-6)
    np.testing.assert_allclose(found.shares, values[:2] / values.sum(), rtol=1e-6)
    for side, of_walk in zip((found.x_X, found.y_Y), walk.T, strict=True):
        span = of_walk.max() - of_walk.min()
        assert side[[0, -1]] == pytest.approx([of_walk.min() - span / 4, of_walk.max() + span / 4])
        np.testing.assert_allclose(np.diff(side), span * 1.5 / 4)
    assert [(stage.index, stage.tokens) for stage in found.stages] == [(0, 1), (2, 4), (5, 9)]
    for stage in found.stages:
        prefix = target[: stage.tokens]
        expected = np.empty((5, 5))
        for row, y in enumerate(found.y_Y):
            for column, x in enumerate(found.x_X):
                shift = (np.array([x, y]) - walk[stage.index]) @ axes
                point = points[stage.index] + shift.reshape(points.shape[1:])
                expected[row, column] = plainly_right(tiny, point, prefix).mean()
        np.testing.assert_array_equal(stage.accuracy_YxX, expected)
        assert stage.own == plainly_right(tiny, points[stage.index], prefix).mean()
        assert stage.basin() == np.sum(expected > 0.9) / 25
    assert found.stages[-1].own == 1.0
    assert np.ptp(found.stages[-1].accuracy_YxX) > 0, "the mesh points differ"


def test_a_lane_whose_points_are_on_a_line_has_no_plane(tiny):  # noqa: F811
    points = np.arange(4.0)[:, None, None] * np.ones((1, tiny.config.width))
    assert landscape.measure(tiny, points, LENGTHS, np.zeros(9, np.int32), Grid(stages=2, size=2)) is None


def flat(shares):
    """A landscape of which so many hundredths of a mesh are right, at each of some stages."""
    meshes = [np.arange(100).reshape(10, 10) < share for share in shares]
    stages = [landscape.Stage(i, i + 1, 1.0, mesh.astype(float)) for i, mesh in enumerate(meshes)]
    return landscape.Landscape(np.zeros((len(shares), 2)), np.arange(10), np.arange(10), (0.6, 0.2), stages)


def test_rows_say_where_on_its_way_a_lane_has_which_share():
    rows = landscape.rows(flat([100, 10, 1]))
    assert [row["position"] for row in rows] == [0.0, 0.5, 1.0]
    assert [row["basin_share"] for row in rows] == [1.0, 0.1, 0.01]
    assert rows[1] == {
        **{"stage_index": 1, "stage_seq_len": 2, "position": 0.5, "basin_share": 0.1, "own_accuracy": 1.0}
    }


def test_lanes_of_other_lengths_are_interpolated_and_the_fall_is_in_decades():
    lanes = [landscape.rows(flat(shares)) for shares in ([100, 10, 1], [100, 10], [10, 10, 0])]
    found = landscape.summarise(lanes)
    np.testing.assert_allclose(found["basin_share"], [0.7, (0.1 + 0.55 + 0.1) / 3, 0.11 / 3])
    np.testing.assert_allclose(found["std"][0], np.sqrt((2 * 0.3**2 + 0.6**2) / 2))
    assert (found["lanes"], found["position"]) == (3, [0.0, 0.5, 1.0])
    assert found["decades"] == pytest.approx((-2 - 1 + 0) / 3)
    assert found["interval"] == pytest.approx([-2, 0])  # one lane three times: a draw of 27
    of_texts = landscape.summarise(lanes, ["a", "b", "b"])
    assert of_texts["interval"] == pytest.approx([-2, -0.5])  # of two texts


def test_one_lane_has_no_interval():
    found = landscape.summarise([landscape.rows(flat([0, 10, 0]))])
    assert (found["std"], found["decades"], found["interval"]) == (None, None, None)

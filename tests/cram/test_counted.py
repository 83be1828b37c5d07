"""The figures of a lane, as jaxcram counts them and as the published tables were."""

import numpy as np
import pytest

from jaxcram.cram.counted import figures
from jaxcram.cram.rows import Outcome, vector_norm, with_trajectory
from jaxcram.cram.start import mean_token_norm
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job

BITS = [0.0, 3.0, 5.0, 4.0]
POINTS = np.array([[[0, 0]], [[3, 4]], [[3, 4]], [[3, 16]]], np.float32)  # the third stage came free
OURS = {
    "information_gain_bits": 5.0,
    "trajectory_length": 5.0,
    "trajectory_components": 1,
    "vector_norm": 5.0,
    "relative_norm": 2.5,
}


def stages(exact, points=POINTS):
    """The rows of a lane, one a point: so many exact stages, and then one that failed if a point is left."""
    norms = [float(np.linalg.norm(point)) for point in points]
    return [
        {
            **vars(Job(3, 0.1, 0)),
            "stage_index": i,
            "stage_seq_len": i + 1,
            "num_input_tokens": 4,
            "exact": i < exact,
            "exact_prefix": min(i + 1, exact),
            "steps": 1,
            "steps_taken": i + 1,
            "final_convergence": 1.0,
            "information_gain_bits": BITS[i],
            "embedding": points[i],
            "vector_norm": norms[i],
            "relative_norm": norms[i] / 2,
            "stop_reason": None,
        }
        for i in range(len(points))
    ]


def counted(rows, mode="progressive"):
    return figures(Outcome.of(rows, mode))


def test_the_failed_stage_counts_in_the_published_figures_only():
    rows = with_trajectory(stages(3), POINTS)
    assert [row["trajectory_length"] for row in rows] == [0.0, 5.0, 5.0, 17.0]
    assert [row["trajectory_components"] for row in rows] == [None, None, 1, 2]
    assert counted(rows) == OURS | {
        "as_published": {
            "tokens": 4,
            "information_gain_bits": 4.0,
            "trajectory_length": 17.0,
            "trajectory_components": 2,
        }
    }


def test_where_no_stage_failed_both_are_the_same():
    three = POINTS[:3]
    assert counted(with_trajectory(stages(3, three), three)) == OURS | {
        "as_published": {
            "tokens": 3,
            "information_gain_bits": 5.0,
            "trajectory_length": 5.0,
            "trajectory_components": 1,
        }
    }


def test_a_lane_whose_first_stage_failed():
    one = POINTS[:1]
    nothing = {"information_gain_bits": 0.0, "trajectory_length": 0.0, "trajectory_components": 0}
    assert counted(with_trajectory(stages(0, one), one)) == {
        **nothing,
        "vector_norm": None,
        "relative_norm": None,
        "as_published": {"tokens": 1, **nothing},
    }


@pytest.mark.parametrize("exact", [0, 3])
def test_a_trajectory_that_is_not_stored_is_null(exact):
    found = counted(stages(exact))
    assert (found["trajectory_length"], found["trajectory_components"]) == (None, None)
    assert found["as_published"] == {
        "tokens": 4,
        "information_gain_bits": 4.0,
        "trajectory_length": None,
        "trajectory_components": None,
    }


def test_a_lane_that_diverged_keeps_its_exact_stages():
    points = POINTS.copy()
    points[3] = np.inf
    rows = with_trajectory(stages(3, points), points)
    rows[-1]["information_gain_bits"] = float("nan")
    assert counted(rows) == OURS | {
        "as_published": {
            "tokens": 4,
            "information_gain_bits": None,
            "trajectory_length": None,
            "trajectory_components": None,
        }
    }


def test_full_mode_has_a_norm_and_no_trajectory():
    assert counted(stages(0)[1:2], "full") == {
        "information_gain_bits": 3.0,
        "trajectory_length": None,
        "trajectory_components": None,
        "vector_norm": 5.0,
        "relative_norm": 2.5,
        "as_published": None,
    }


def test_stored_rows_give_the_same_and_those_of_earlier_versions_all_but_the_norms():
    table = ROWS.lane_table(Job(3, 0.1, 0), with_trajectory(stages(3), POINTS))
    now = figures(Outcome.of_table(table, "progressive"))
    assert now == counted(with_trajectory(stages(3), POINTS))
    new = ["trajectory_length", "trajectory_components", "vector_norm", "relative_norm"]
    earlier = figures(Outcome.of_table(table.drop_columns(new), "progressive"))
    assert earlier == now | {"vector_norm": None, "relative_norm": None}


def test_the_norm_of_several_vectors_is_their_mean():
    assert vector_norm(np.array([[3, 4], [5, 12]], np.float32)) == 9.0
    assert vector_norm(np.array([[3, np.nan]], np.float32)) is None


@pytest.mark.parametrize("at_once", [2**24, 32, 7 * 32, 1])  # in one piece, 48 pieces, 7, and 48 again
def test_the_mean_norm_of_the_token_embeddings(tiny, at_once):
    embeddings = np.asarray(tiny.embedding_VxD[...], np.float64)
    expected = np.mean(np.sqrt(np.sum(embeddings**2, axis=1)))
    assert mean_token_norm(tiny, at_once) == pytest.approx(expected, rel=1e-6)

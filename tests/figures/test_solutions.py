"""The figures of solutions draw every group and line where its rows say it is."""

import numpy as np
import pytest

from jaxcram.analysis.spread import Column
from jaxcram.figures.solutions import lines_figure, solutions_figure, wideness_figure
from jaxcram.figures.style import png


def group(sample, tokens, distance, cosine, gain_cv, **displacements):
    names = {"small": 0.1, "large": 1.0}
    return {
        **{"sample_id": sample, "seed": 0, "tokens": tokens, "distance": distance, "cosine": cosine},
        **{"gain_cv": gain_cv, "displacements": {names[name]: x for name, x in displacements.items()}},
    }


GROUPS = [
    group(0, 4, 1.4, 0.1, 0.02, small=2.0, large=20.0),
    group(0, 8, 1.5, 0.2, None, small=4.0, large=40.0),
    group(3, 4, 1.6, -0.1, 0.04, large=30.0),
]


def points(line) -> list:
    return line.get_xydata().tolist()


def test_every_group_is_a_dot_and_medians_are_of_several():
    figure = solutions_figure([Column("mini", GROUPS, {})], title="Solutions")
    distance, cosine, gain, displacement = figure.axes
    dots, medians, *_ = distance.lines
    assert points(dots) == [[4, 1.4], [8, 1.5], [4, 1.6]]
    assert points(medians) == [[4, 1.5]]
    assert points(cosine.lines[0]) == [[4, 0.1], [8, 0.2], [4, -0.1]]
    assert points(gain.lines[0]) == [[4, 0.02], [4, 0.04]]
    assert sorted(points(displacement.lines[0])) == [[0.1, 2], [0.1, 4], [1, 20], [1, 30], [1, 40]]
    assert points(displacement.lines[1]) == [[0.1, 3], [1, 30]]
    assert figure.get_suptitle() == "Solutions"


def test_displacements_of_several_seeds_are_at_their_learning_rate():
    seeds = {"learning_rate": 0.5, "displacements": {0: 3.0, 1: 5.0}}
    figure = solutions_figure([Column("mini", [{**GROUPS[0], **seeds}], {})])
    assert points(figure.axes[3].lines[0]) == [[0.5, 3], [0.5, 5]]


def test_lines_and_their_mean():
    rows = [{"shares": [0, 0.5, 1], "accuracies": [1, least, 1]} for least in (0.2, 0.6)]
    (axes,) = lines_figure([Column("mini", rows, {})]).axes
    assert [points(line) for line in axes.lines] == [
        [[0, 1], [0.5, 0.2], [1, 1]],
        [[0, 1], [0.5, 0.6], [1, 1]],
        [[0, 1], [0.5, 0.4], [1, 1]],
    ]


def test_the_set_and_the_trajectory_by_length():
    rows = [
        {"tokens": n, "seeds": 32, "set_pca99": wide, "matched_pca99": n - 1, "trajectory_pca99": thin}
        for n, wide, thin in ((4, 30, 2.0), (8, 31, 4.0), (8, 29, 5.0))
    ]
    (axes,) = wideness_figure(rows).axes
    assert {line.get_label(): points(line) for line in axes.lines} == {
        "solutions of 32 seeds": [[4, 30], [8, 30]],
        "as many of them as the trajectory has stages": [[4, 3], [8, 7]],
        "one trajectory": [[4, 2], [8, 4.5]],
    }
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 3


@pytest.mark.filterwarnings("error")
def test_without_solutions_there_are_still_figures():
    column = Column("mini", [], {})
    for figure in (solutions_figure([column]), lines_figure([column]), wideness_figure([])):
        assert png(figure).startswith(b"\x89PNG")
    assert np.isfinite(figure.axes[0].get_ylim()).all()

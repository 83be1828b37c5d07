"""The figure of curves: every lane is a line through its points, every learning rate has its median."""

import warnings

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.collections import LineCollection

from jaxcram.figures.curves import COLUMNS, Curve, by_lane, curves_figure, median
from jaxcram.figures.style import png

NAMES = ("sample_id", "learning_rate", "seed", "step", "loss", "horizon")
POINTS = [
    (0, 0.1, 0, 0, 8.0, 0),
    (0, 0.1, 0, 10, 2.0, 3),
    (0, 0.1, 0, 20, 1.0, 4),
    (0, 1.0, 0, 0, 8.0, 0),
    (0, 1.0, 0, 10, None, 1),
    (0, 1.0, 0, 13, 0.0, 1),
    (7, 0.1, 0, 0, 4.0, 1),
    (7, 0.1, 0, 10, 1.0, 5),
    (7, 0.1, 0, 12, 0.5, 6),
    (7, 0.1, 1, 0, 6.0, 2),
]


@pytest.fixture
def points() -> pa.Table:
    rows = [dict(zip(NAMES, row, strict=True)) for row in POINTS]
    return pa.Table.from_pylist(
        [
            {**row, "accuracy": 0.5, "step_learning_rate": row["learning_rate"], "embedding_norm": 2.0}
            for row in rows
        ]
    )


def test_the_curves_of_a_lane_are_its_points_in_order(points):
    shuffled = points.take(np.random.default_rng(0).permutation(len(points)))
    for table in (points, shuffled):
        lanes = by_lane(table)
        assert [rate for rate, _ in lanes] == [0.1, 1.0, 0.1, 0.1]
        assert [curves["horizon"].values.tolist() for _, curves in lanes] == [
            [0, 3, 4],
            [0, 1, 1],
            [1, 5, 6],
            [2],
        ]
        assert lanes[2][1]["loss"].steps.tolist() == [0, 10, 12]
        np.testing.assert_array_equal(lanes[1][1]["loss"].values, [8.0, np.nan, 0.0])


def test_the_median_ends_where_half_of_the_lanes_have_ended():
    def lane(steps, values):
        return Curve(np.array(steps), np.array(values, float))

    lanes = [lane([0, 5, 10], [1, 2, 3]), lane([0, 5, 7], [5, np.nan, 9]), lane([0, 5], [3, 8])]
    steps, values = median(lanes)
    assert (steps.tolist(), values.tolist()) == ([0, 5], [3.0, 5.0])
    alone = median(lanes[:1])
    assert (alone.steps.tolist(), alone.values.tolist()) == ([0, 5, 10], [1.0, 2.0, 3.0])


def test_lines_go_through_the_points_of_the_lanes(points):
    figure = curves_figure(points, title="Two texts")
    assert figure.get_suptitle() == "Two texts"
    loss, accuracy, horizon, rate, norm, corner = figure.axes
    colors = {text.get_text(): handle.get_color() for text, handle in legend(corner)}
    assert [colors[name] for name in ("0.1", "1")] == ["#440154", "#b0dd2f"]
    assert thin(loss) == [
        [[0, 8], [10, 2], [20, 1]],
        [[0, 4], [10, 1], [12, 0.5]],
        [[0, 6]],
        [[0, 8]],  # then nothing, and 0, which has no logarithm
    ]
    assert thin(horizon)[1] == [[0, 1], [10, 5], [12, 6]]
    assert [line.get_xydata().tolist() for line in horizon.lines if line.get_linestyle() == "-"] == [
        [[0, 1], [10, 4]]  # of the rate with three lanes; two have a point of step 10
    ]
    ends = [line for line in horizon.lines if line.get_marker() == "."]
    assert [line.get_xydata().tolist() for line in ends] == [[[20, 4], [12, 6], [0, 2]], [[13, 1]]]
    assert [line.get_color() for line in ends] == [colors["0.1"], colors["1"]]
    assert [axes.get_yscale() for axes in (loss, accuracy, horizon, rate, norm)] == [
        *("log", "linear", "linear", "log", "log")
    ]


def thin(axes) -> list[list]:
    """The thin lines, without points that have no value."""
    drawn = [
        line
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for line in lines.get_segments()
    ]
    return [[point for point in line.tolist() if not np.isnan(point).any()] for line in drawn]


def legend(axes) -> list[tuple]:
    box = axes.get_legend()
    return list(zip(box.get_texts(), box.legend_handles, strict=True))


@pytest.mark.parametrize("value", [2.0, 0.1, 8.0, 3e-7, 4000.0])
def test_a_constant_has_a_tick_beside_it(points, value):
    """So has the learning rate under a constant schedule; and matplotlib has nothing to warn of."""
    constant = points.set_column(points.column_names.index("loss"), "loss", pa.array([value] * len(points)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = curves_figure(constant)
        png(figure)
    loss, low, high = figure.axes[0], value / 1.6, value * 1.6
    assert loss.get_ylim() == pytest.approx((low, high))
    assert [tick for tick in loss.get_yticks() if low <= tick <= high]


def test_one_lane_has_no_median_and_a_lane_may_have_no_values(points, tmp_path):
    nothing = points.slice(4, 1)
    figure = curves_figure(nothing)
    *_, corner = figure.axes
    assert [text.get_text() for text, _ in legend(corner)] == [
        "learning rate",
        "1",
        "",
        "lane",
        "end of a lane",
    ]
    figure.savefig(tmp_path / "curves.png", dpi=50)
    height, width, _ = matplotlib.image.imread(tmp_path / "curves.png").shape
    assert (height, width) == (330, 600)


def test_the_columns_are_those_of_the_table():
    from jaxcram.results import curves

    assert curves.COLUMNS.keys() - set(COLUMNS) == {"point_index", "prefix"}

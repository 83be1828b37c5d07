"""The figures of surprisal and capacity: where dots, medians, lines and intervals are."""

import numpy as np
import pytest

from jaxcram import api
from jaxcram.figures.style import column_styles, pdf, png
from jaxcram.figures.surprisal import medians
from tests.findings.made import make_run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    jobs = [(sample, rate, 0) for sample in range(3) for rate in (0.1, 1.0)]
    return api.analyse(make_run(tmp_path_factory.mktemp("figures") / "run", jobs))


def test_every_stage_and_lane_is_a_dot_and_every_correlation_has_its_interval(found):
    left, right = found.figure("surprisal").axes
    columns = found.columns("surprisal")
    for number, column in enumerate(columns):
        dots, line = left.lines[2 * number : 2 * number + 2]
        x = np.concatenate([row["stages"].surprisal for row in column.rows])
        y = np.concatenate([row["stages"].cost for row in column.rows])
        np.testing.assert_array_equal(dots.get_xydata(), np.column_stack([x, y]))
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack(medians(x, y)))
        assert dots.get_color() == line.get_color()
        bars = right.containers[number]
        assert bars.lines[0].get_ydata().tolist() == [column.summary["spearman"]]
        (segment,) = bars.lines[2][0].get_segments()
        np.testing.assert_allclose(segment[:, 1], column.summary["interval"])
    of_lanes = [line.get_ydata().tolist() for line in right.lines if len(line.get_ydata()) == 3]
    assert of_lanes == [[row["spearman"] for row in column.rows] for column in columns]


def test_medians_are_of_bins_with_equally_many_stages():
    x, y = np.array([5.0, 1, 2, 6, 4, 3, 8, 7]), np.array([50.0, 10, 20, 60, 40, 30, 90, 70])
    assert [values.tolist() for values in medians(x, y)] == [[2.5, 6.5], [25.0, 65.0]]
    assert [values.tolist() for values in medians(x[:0], y[:0])] == [[], []]


def test_every_lane_is_a_dot_and_the_gain_has_its_line(found):
    left, right = found.figure("capacity").axes
    for number, column in enumerate(found.columns("capacity")):
        assert left.lines[number].get_xydata().tolist() == [
            [row["horizon_bits"], row["horizon_steps"]] for row in column.rows
        ]
        dots, line = right.lines[2 * number : 2 * number + 2]
        assert dots.get_xdata().tolist() == [6, 9, 12]
        fit = np.polyfit(dots.get_xdata(), dots.get_ydata(), 1)
        assert line.get_xdata().tolist() == [6, 12]
        np.testing.assert_allclose(line.get_ydata(), np.polyval(fit, [6, 12]))


@pytest.mark.parametrize("name", ["surprisal", "capacity"])
def test_columns_are_named_and_drawn_the_same_again(found, name):
    figure = found.figure(name)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["tiny, lr 0.1", "tiny, lr 1"]
    assert png(figure).startswith(b"\x89PNG")
    assert pdf(figure) == pdf(figure)


def test_columns_differ_without_colour_and_without_dashes():
    def distinct(count, *names):
        return len({tuple(style[name] for name in names) for style in column_styles(count)})

    assert distinct(32, "marker", "linestyle") == 32
    assert distinct(64, "marker", "color") == 64

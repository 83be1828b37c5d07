"""The figure of components: accuracies by their number, and the positions that are wrong."""

import numpy as np

from jaxcram.figures.components import components_figure
from jaxcram.figures.style import pdf, png
from tests.analysis.test_reconstruction import lane

LANES = [lane(1, 4, [0, 1, 2, 3], [0, 1], []), lane(2, 5, [0, 1, 2, 3, 4], [], [0, 4], [])]


def test_lines_are_the_means_and_differ_without_colour():
    left, _, _ = components_figure(LANES, "mini$llama$").axes
    forced, exact, first, share = left.lines
    for line in (forced, exact):
        np.testing.assert_allclose(line.get_xydata(), [[0, 0], [1, 0.75], [2, 0.8], [3, 1]])
    np.testing.assert_allclose(first.get_xydata(), [[0, 1], [1, 0.5], [2, 0.5], [3, 0]])
    assert set(share.get_xdata()) == {1.5}
    assert len({(line.get_linestyle(), line.get_marker()) for line in left.lines}) == 4


def test_shades_are_the_share_of_lanes_that_are_wrong_at_a_position():
    figure, again = components_figure(LANES), components_figure(LANES)
    _, right, _ = figure.axes
    (mesh,) = right.collections
    expected = [[1, 1, 1, 1, 1], [0.5, 0.5, 0, 0, 0], [0.5, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(mesh.get_array(), expected)
    assert [label.get_text() for label in right.get_yticklabels()] == ["0", "1", "2", "3"]
    assert pdf(figure) == pdf(again)


def test_a_lane_without_components_has_a_figure():
    assert png(components_figure([lane(0, 1, [])])).startswith(b"\x89PNG")

import numpy as np
from matplotlib.figure import Figure

from jaxcram.analysis.spread import Column
from jaxcram.figures.surprisal import _draw_lanes


def test_a_correlation_that_rounding_puts_beyond_its_interval_is_drawn():
    axes = Figure().add_subplot()
    summary = {"spearman": -0.9999999999999999, "interval": [-1.0, -1.0]}
    _draw_lanes(axes, 0, [-1.0], Column("one", [], summary), "black", "o")
    (bars,) = axes.containers
    (segment,) = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [-1.0, -1.0])

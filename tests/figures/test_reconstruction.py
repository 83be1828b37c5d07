"""The figure of a reconstruction: a panel a decoder, a line a setup, a row a learning rate."""

import numpy as np
import pytest

from jaxcram.figures.reconstruction import reconstruction_figure
from jaxcram.figures.style import pdf, png

CURVES = {"tf": [1.0, 0.5, 0.0, 0.25], "exact": [1.0, 1.0, 1.0, 0.75], "cached": [0.0, 0.0, 0.5, 1.0]}


def setup(name, rate, tokens):
    return {
        "setup": name,
        "learning_rate": rate,
        "decoders": {decoder: {"mismatch": rates[:tokens]} for decoder, rates in CURVES.items()},
    }


@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.5)])
def test_lines_are_the_rates_and_differ_without_colour(rates):
    names = {"full_0.99": 4, "full": 4, "progressive": 2, "empty": 0}
    setups = [setup(name, rate, tokens) for name, tokens in names.items() for rate in rates]
    figure = reconstruction_figure(setups, "mini$llama$")
    assert len(figure.axes) == 3 * len(rates)
    for axes, rates_of in zip(figure.axes, [*CURVES.values()] * len(rates), strict=True):
        assert [line.get_label() for line in axes.lines] == ["full 0.99", "full", "progressive", "empty"]
        for line, tokens in zip(axes.lines, names.values(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), rates_of[:tokens])
            np.testing.assert_array_equal(line.get_xdata(), np.arange(tokens))
        assert len({(line.get_linestyle(), line.get_marker()) for line in axes.lines}) == 4
    assert png(figure).startswith(b"\x89PNG")
    assert pdf(figure) == pdf(figure)

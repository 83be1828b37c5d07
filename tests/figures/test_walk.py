"""The figures of trajectories draw every lane where its rows say it is, ours and as published."""

import matplotlib
import numpy as np
import pytest

from jaxcram.analysis.spread import Column
from jaxcram.analysis.walk import summary, walk
from jaxcram.figures.style import pdf, png
from jaxcram.figures.walk import components_figure, jumps_figure, path_figure


def lane(sample: int, rate: float, stages: int) -> dict:
    """A random walk, whose last stage failed."""
    points = np.random.default_rng(sample).standard_normal((stages, 1, 6)).cumsum(axis=0)
    steps = np.random.default_rng(sample + 1).integers(1, 50, stages)
    found = walk(points, np.arange(1, stages + 1), steps, np.arange(stages) < stages - 1)
    return {"sample_id": sample, "learning_rate": rate, "seed": 0, **found}


@pytest.fixture(scope="module")
def columns() -> list[Column]:
    lanes = {0.1: [lane(0, 0.1, 12), lane(1, 0.1, 9)], 1.0: [lane(0, 1.0, 17), lane(2, 1.0, 1)]}
    return [Column(f"mini, {rate:g}", rows, summary(rows)) for rate, rows in lanes.items()]


def drawn(axes, marker: str, **style) -> list[list[float]]:
    """Heights of the dots of the lines with a marker."""
    return [
        line.get_ydata().tolist()
        for line in axes.lines
        if line.get_marker() == marker
        and line.get_linestyle() == "None"
        and all(getattr(line, f"get_{name}")() == value for name, value in style.items())
    ]


def of(column: Column, name: str, published: bool = False) -> list:
    lanes = [row["walk"] for row in column.rows]
    values = [(one["as_published"] if published else one)[name] for one in lanes]
    return [value for value in values if value is not None]


def test_the_longest_walk_of_every_text_is_drawn(columns):
    rows = [row for column in columns for row in column.rows]
    figure = path_figure(rows, title="Walks")
    *panels, bar = figure.axes
    assert [axes.get_title().splitlines()[0] for axes in panels] == [
        "text 0, learning rate 1",
        "text 1, learning rate 0.1",
    ]
    lines, dots = panels[0].collections
    path = [[one["pc1"], one["pc2"]] for one in columns[1].rows[0]["path"]]
    np.testing.assert_allclose(dots.get_offsets(), path)
    np.testing.assert_allclose(lines.get_segments(), np.stack([path[:-1], path[1:]], axis=1))
    assert dots.get_array().tolist() == list(range(1, 17))
    assert (figure.get_suptitle(), bar.get_ylabel()) == ("Walks", "prefix length (tokens)")


def test_components_are_drawn_by_column_and_by_length(columns):
    left, right = components_figure(columns).axes
    assert drawn(left, "_") == [of(column, "random_walk_pca99") for column in columns]
    for column, marker in zip(columns, "os", strict=True):
        published, ours = drawn(left, marker)
        assert (published, ours) == (of(column, "pca99", published=True), of(column, "pca99"))
        (means,) = [line for line in right.lines if line.get_marker() == marker]
        growths = [row["growth"] for row in column.rows if row["growth"]]
        assert means.get_xdata().tolist() == [row["tokens"] for row in max(growths, key=len)]
        assert means.get_ydata()[0] == np.mean([growth[0]["pca99"] for growth in growths])
    fit = columns[0].summary["fits"]["logarithmic"]
    curve = next(line for line in right.lines if line.get_linestyle() == "-")
    np.testing.assert_allclose(curve.get_ydata(), fit["a"] + fit["b"] * np.log(curve.get_xdata()))
    assert [line.get_linestyle() for line in right.lines if line.get_marker() == "None"] == ["-", ":"] * 2


def test_jumps_are_drawn_beside_their_null(columns):
    figure = jumps_figure(columns)
    for axes, kind in zip(figure.axes, ("distance", "step"), strict=True):
        assert drawn(axes, "_") == [of(column, f"{kind}_shuffled_95") for column in columns]
        for column, marker in zip(columns, "os", strict=True):
            assert drawn(axes, marker) == [of(column, f"{kind}_autocorrelation")]
        labels = [tick.get_text() for tick in axes.get_xticklabels()]
        shares = [(c.summary[f"{kind}_dwells"], c.summary["as_published"][f"{kind}_dwells"]) for c in columns]
        assert labels == [
            f"mini, {rate}\n{ours:.0%} ({published:.0%})"
            for rate, (ours, published) in zip(("0.1", "1"), shares, strict=True)
        ]


def test_long_labels_are_numbered(columns):
    long = [column._replace(label=column.label + ", " + 60 * "x") for column in columns]
    figure = components_figure(long)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2"]
    (legend,) = figure.legends
    assert [text.get_text()[:8] for text in legend.get_texts()] == ["1: mini,", "2: mini,"]


@pytest.mark.filterwarnings("error")
def test_without_walks_there_are_still_figures():
    rows = [lane(0, 0.1, 1)]
    column = Column("mini", rows, summary(rows))
    for figure in (path_figure(rows), components_figure([column]), jumps_figure([column])):
        assert png(figure).startswith(b"\x89PNG")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["mini\n- -"]
    assert pdf(path_figure(rows)) == pdf(path_figure(rows))
    assert matplotlib.rcParams["axes.spines.top"] is True

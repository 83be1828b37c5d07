"""Figures of landscapes: meshes and basins as they were measured, and an animation of one frame a stage."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxcram.analysis.landscape import Landscape, Stage, rows
from jaxcram.figures.landscape import basins_figure, landscape_figure, walk_gif
from jaxcram.figures.style import pdf


@pytest.fixture
def around():
    """Six stages of which three have a mesh; the last one has no basin."""
    walk = np.array([[-2, 0], [-1, 1], [0, 1], [1, 0], [1.5, -1], [2, -1]], float)
    x, y = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)
    meshes = [np.ones((5, 7)), np.hypot(*np.meshgrid(x, y)) < 1.5, np.full((5, 7), 0.25)]
    stages = [Stage(i, 2 * i + 1, 1.0, mesh * 1.0) for i, mesh in zip((0, 2, 5), meshes, strict=True)]
    return Landscape(walk, x, y, (0.7, 0.2), stages)


def test_each_panel_has_its_mesh_and_the_walk_so_far(around):
    figure = landscape_figure(around, "mini$llama$")
    *panels, _ = figure.axes
    assert len(panels) == 3
    titles = ["1 token: 100% above 0.9", "5 tokens: 25.7% above 0.9", "11 tokens: 0% above 0.9"]
    for axes, stage, title in zip(panels, around.stages, titles, strict=True):
        np.testing.assert_array_equal(axes.collections[0].get_array(), stage.accuracy_YxX)
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), around.walk_Rx2[: stage.index + 1])
        assert axes.get_title() == title
        assert len(axes.collections) == (2 if stage.index == 2 else 1), "a border where there is one"
    assert figure.get_supxlabel() == "PC1 (70% of the variance)"
    assert pdf(figure) == pdf(landscape_figure(around, "mini$llama$"))


def test_basins_are_drawn_by_lane_and_by_group(around):
    figure = basins_figure({"a$b$": [rows(around)] * 2, "c": [rows(around)]})
    (axes,) = figure.axes
    share = [1.0, 9 / 35, np.nan]
    for line in axes.lines:
        np.testing.assert_allclose(line.get_xdata(), [0, 0.4, 1])
        np.testing.assert_allclose(line.get_ydata(), share)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert (labels, axes.get_yscale(), len(axes.lines)) == (["a$b$", "c"], "log", 5)


def test_the_animation_has_a_frame_for_every_mesh_and_some_between_and_stays_at_the_end(around):
    film = walk_gif(around, "one lane", frames=3, per_second=1)
    with Image.open(io.BytesIO(film)) as image:
        assert image.format == "GIF"
        lasting = []
        for frame in range(image.n_frames):
            image.seek(frame)
            lasting.append(image.info["duration"])
    assert lasting == [1000, 1000, 2000], "of stages 0, 2 and 5; equal frames are one that lasts longer"
    assert walk_gif(around, "one lane", frames=3, per_second=1) == film

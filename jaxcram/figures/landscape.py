"""Figures of what surrounds a trajectory: accuracy in its plane, basins along it, and both animated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxcram.analysis import landscape
from jaxcram.analysis.landscape import THRESHOLD, Landscape, Stage
from jaxcram.figures.style import column_styles, plain

_SHADES = "cividis"  # lighter is more accurate, in grey too, and for the colour-blind
_COLUMNS = 4


def landscape_figure(around: Landscape, title: str = "") -> Figure:
    """A panel a stage: accuracy of the mesh, the border of the basin, and the walk up to the stage.

    Args:
        around: of one lane.
        title: of the figure.
    """
    columns = min(_COLUMNS, len(around.stages))
    lines = -(-len(around.stages) // columns)
    with plain():
        figure = Figure(figsize=(1.2 + 2.9 * columns, 0.8 + 2.7 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, stage in zip(panels.flat, around.stages, strict=False):
            shades = _draw_stage(axes, around, stage, stage.index)
            axes.set_title(_basin(stage), fontsize=10)
        for axes in panels.flat[len(around.stages) :]:
            axes.set_visible(False)
        _label(figure, around)
        figure.colorbar(shades, ax=panels, label=_ACCURACY, shrink=0.8)
        figure.suptitle(title, fontsize=11)
    return figure


def basins_figure(
    groups: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    title: str = "",
) -> Figure:
    """Basin shares along the trajectories, on a logarithmic axis: lanes thin, the mean of each group bold.

    Args:
        groups: by label, `jaxcram.analysis.landscape.rows` of each lane.
        title: of the figure.
    """
    with plain():
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for (label, lanes), style in zip(groups.items(), column_styles(len(groups)), strict=True):
            thin = {"color": style["color"], "linewidth": 0.6, "alpha": 0.5}
            for lane in lanes:
                shares = _positive([row["basin_share"] for row in lane])
                axes.plot([row["position"] for row in lane], shares, **thin)
            mean = landscape.summarise(lanes)
            shares = _positive(mean["basin_share"])
            axes.plot(mean["position"], shares, label=label, linewidth=2, zorder=3, **style)
        _share_axis(axes)
        axes.set_xlabel("position of the stage on its trajectory (0: first, 1: last)")
        axes.legend(fontsize=9)
        figure.suptitle(title, fontsize=11)
    return figure


def walk_gif(around: Landscape, title: str = "", *, frames: int = 60, per_second: int = 8) -> bytes:
    """An animated GIF of the walk in its plane, over the mesh of the last stage so far that has one.

    Beside it are the basin shares so far. The last frame stays for two seconds.

    Args:
        around: of one lane.
        title: of the figure.
        frames: about so many, at most one a stage.
        per_second: of them.
    """
    last = len(around.walk_Rx2) - 1
    some = np.linspace(0, last, min(frames, last + 1)).astype(int)
    indices = sorted({*some.tolist(), *(stage.index for stage in around.stages)})
    with plain(), tempfile.TemporaryDirectory() as folder:
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        writer, file = PillowWriter(fps=per_second), Path(folder) / "walk.gif"
        writer.setup(figure, file, dpi=80)
        for index in indices:
            stage = next(one for one in reversed(around.stages) if one.index <= index)
            left.clear()
            shades = _draw_stage(left, around, stage, index)
            if index == indices[0]:
                figure.colorbar(shades, ax=left, label=_ACCURACY)
            left.set_title(_basin(stage), fontsize=10)
            left.set_xlabel(_component(around, 0))
            left.set_ylabel(_component(around, 1))
            _draw_shares(right, around, index)
            figure.suptitle(f"{title}\nstage {index + 1} of {last + 1}".strip(), fontsize=11)
            if index == indices[0]:
                figure.draw_without_rendering()
                figure.set_layout_engine("none")  # or frames would shake
            for _ in range(2 * per_second if index == last else 1):
                writer.grab_frame()
        writer.finish()
        return file.read_bytes()


_ACCURACY = "accuracy on the stage's prefix (teacher-forced)"


def _basin(stage: Stage) -> str:
    tokens = f"{stage.tokens} token{'' if stage.tokens == 1 else 's'}"
    return f"{tokens}: {100 * stage.basin():.3g}% above {THRESHOLD:g}"


def _draw_stage(axes: Axes, around: Landscape, stage: Stage, index: int) -> Any:
    """The mesh of a stage under the walk up to another one."""
    mesh = around.x_X, around.y_Y, stage.accuracy_YxX
    shades = axes.pcolormesh(*mesh, cmap=_SHADES, vmin=0, vmax=1, shading="nearest", rasterized=True)
    above_YxX = (stage.accuracy_YxX > THRESHOLD).astype(float)
    if 0 < above_YxX.mean() < 1:
        axes.contour(around.x_X, around.y_Y, above_YxX, levels=[0.5], colors="#d55e00", linewidths=1.4)
    walk = around.walk_Rx2[: index + 1]
    axes.plot(*walk.T, color="black", linewidth=2.2)
    axes.plot(*walk.T, color="white", linewidth=1.0)
    for color, width in (
        ("black", 2.6),
        ("white", 1.0),
    ):  # hollow: the basin may be a single point of the mesh
        axes.plot(*walk[-1], "o", markersize=9, fillstyle="none", color=color, markeredgewidth=width)
    axes.set_xlim(around.x_X[0], around.x_X[-1])
    axes.set_ylim(around.y_Y[0], around.y_Y[-1])
    axes.grid(False)
    return shades


def _draw_shares(axes: Axes, around: Landscape, index: int) -> None:
    """Basin shares of the stages up to one, on axes that have room for all."""
    rows = landscape.rows(around)
    shares = _positive([row["basin_share"] for row in rows])
    axes.clear()
    axes.plot([row["position"] for row in rows], shares, alpha=0)  # for the limits
    so_far = sum(row["stage_index"] <= index for row in rows)
    axes.plot(
        [row["position"] for row in rows[:so_far]], shares[:so_far], "o-", color=column_styles(1)[0]["color"]
    )
    _share_axis(axes)
    axes.set_xlabel("position on the trajectory (0: first, 1: last)")


def _share_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylabel(f"basin: mesh points with accuracy above {THRESHOLD:g}")


def _positive(shares: Sequence[float]) -> np.ndarray:
    """Shares as a logarithmic axis has them: none is no point of the line."""
    return np.where(np.asarray(shares) > 0, shares, np.nan)


def _component(around: Landscape, number: int) -> str:
    return f"PC{number + 1} ({100 * around.shares[number]:.0f}% of the variance)"


def _label(figure: Figure, around: Landscape) -> None:
    figure.supxlabel(_component(around, 0), fontsize=10)
    figure.supylabel(_component(around, 1), fontsize=10)

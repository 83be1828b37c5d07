"""The figures of solutions: how far apart they lie, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from jaxcram.analysis.spread import Column
from jaxcram.figures.style import column_styles, columns_legend, logarithmic, plain

_PANELS = {
    "distance": "distance of two solutions\nover displacement from the initial vector",
    "cosine": "cosine of two displacements",
    "gain_cv": "standard deviation of the information gain\nover its mean",
}
_SET: dict[str, Any] = {"color": "#0072b2", "marker": "o", "linestyle": "-"}
_MATCHED: dict[str, Any] = {"color": "#56b4e9", "marker": "D", "linestyle": "--", "markerfacecolor": "none"}
_TRAJECTORY: dict[str, Any] = {"color": "#d55e00", "marker": "s", "linestyle": ":"}


def solutions_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """Distance, direction and quality of the solutions of one prefix, by its length; displacements by rate.

    A dot is a prefix of a text; lines are medians over the texts.

    Args:
        columns: with the rows of `jaxcram.analysis.solutions.groups`, each across one thing alone.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(11, 7.6), layout="constrained")
        *panels, last = figure.subplots(2, 2).flat
        for axes, (name, label) in zip(panels, _PANELS.items(), strict=True):
            for column, style in zip(columns, styles, strict=True):
                known = [(row["tokens"], row[name]) for row in column.rows if row[name] is not None]
                _draw_by(axes, known, style)
            axes.set_ylabel(label)
            axes.set_xlabel("prefix length (tokens)")
            logarithmic(axes)
        panels[0].axhline(np.sqrt(2), color="0.4", linestyle="--", linewidth=1)
        panels[1].axhline(0, color="0.4", linestyle="--", linewidth=1)
        panels[2].set_yscale("symlog", linthresh=0.01)  # gains near 0 have huge ones, equal gains 0
        panels[2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[2].set_ylim(bottom=0)
        for column, style in zip(columns, styles, strict=True):
            _draw_by(last, [pair for row in column.rows for pair in _by_rate(row)], style)
        logarithmic(last)
        logarithmic(last, "y")
        last.set_ylabel("displacement from the initial vector")
        last.set_xlabel("learning rate (peak, per step)")
        grey: dict[str, Any] = {"color": "0.4", "linestyle": "--", "linewidth": 1}
        panels[0].legend(handles=[Line2D([], [], label="orthogonal, equally far", **grey)], fontsize=8)
        columns_legend(figure, [column.label for column in columns], styles)
        figure.suptitle(title, fontsize=11)
    return figure


def _by_rate(row: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The learning rate and the displacement of each solution of a group."""
    return [(row.get("learning_rate", key), value) for key, value in row["displacements"].items()]


def _draw_by(axes: Axes, pairs: Sequence[tuple[float, float]], style: Mapping[str, Any]) -> None:
    """Dots, and their medians at each x with two dots or more."""
    points = np.array(pairs, float).reshape(-1, 2)
    faint: dict[str, Any] = {"alpha": 0.35, "markersize": 4, "markeredgewidth": 0, "linestyle": ""}
    axes.plot(*points.T, **{**style, **faint})
    places, counts = np.unique(points[:, 0], return_counts=True)
    places = places[counts > 1]
    axes.plot(places, [np.median(points[points[:, 0] == x, 1]) for x in places], markersize=5, **style)


def lines_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """Accuracy along the straight lines between solutions: a thin line each, and their mean.

    Args:
        columns: with the rows of `jaxcram.analysis.lines.lines`.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for column, style in zip(columns, styles, strict=True):
            for row in column.rows:
                axes.plot(row["shares"], row["accuracies"], color=style["color"], linewidth=0.7, alpha=0.35)
            if column.rows:
                shares = column.rows[0]["shares"]
                mean = np.mean([row["accuracies"] for row in column.rows], axis=0)
                axes.plot(shares, mean, markersize=5, linewidth=2, **style)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("share of the way from one solution to another")
        axes.set_ylabel("accuracy (teacher-forced, 0 to 1)")
        columns_legend(figure, [column.label for column in columns], styles)
        figure.suptitle(title, fontsize=11)
    return figure


def wideness_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """PCA 99% of the solutions of many seeds beside that of one trajectory, by prefix length.

    Args:
        rows: of `jaxcram.analysis.solutions.wideness`; means are drawn over texts and learning rates.
        title: of the figure.
    """
    tokens = sorted({row["tokens"] for row in rows})
    seeds = sorted({row["seeds"] for row in rows})
    name = "-".join(str(seeds[i]) for i in ((0, -1) if len(seeds) > 1 else (0,))) if seeds else "several"
    series = {
        "set_pca99": (f"solutions of {name} seeds", _SET),
        "matched_pca99": ("as many of them as the trajectory has stages", _MATCHED),
        "trajectory_pca99": ("one trajectory", _TRAJECTORY),
    }
    with plain():
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for field, (label, style) in series.items():
            means = [np.mean([row[field] for row in rows if row["tokens"] == n]) for n in tokens]
            axes.plot(tokens, means, label=label, markersize=5, **style)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("PCA 99% (components)")
        axes.set_xlabel("prefix length (tokens)")
        logarithmic(axes)
        axes.legend(fontsize=9)
        figure.suptitle(title, fontsize=11)
    return figure

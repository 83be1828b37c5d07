"""The figure of capacity: bits of the horizon, and information gain against horizon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcram.analysis.spread import Column
from jaxcram.figures.style import column_styles, columns_legend, plain


def capacity_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """A dot a lane: steps up to the horizon by its bits, and gain by horizon with the line through it.

    Args:
        columns: of the analysis, with the rows of `jaxcram.analysis.capacity.capacities`.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for column, style in zip(columns, styles, strict=True):
            dots = {"color": style["color"], "alpha": 0.7, "markersize": 5, "markeredgewidth": 0}
            for axes, x, y in (
                (left, "horizon_bits", "horizon_steps"),
                (right, "horizon", "information_gain_bits"),
            ):
                known = [(row[x], row[y]) for row in column.rows if row[x] is not None and row[y] is not None]
                axes.plot(*np.array(known, float).reshape(-1, 2).T, style["marker"], **dots)
            _draw_line(right, column, style["color"], style["linestyle"])
        left.set_xlabel("surprisal of the horizon under the model alone (bits)")
        left.set_ylabel("optimiser steps up to the horizon")
        right.set_xlabel("horizon: longest exact prefix (tokens)")
        right.set_ylabel("information gain (bits)")
        right.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        left.set_xlim(left=0)
        left.set_ylim(bottom=0)
        right.set_xlim(left=0)
        columns_legend(figure, (column.label for column in columns), styles)
        figure.suptitle(title, fontsize=11)
    return figure


def _draw_line(axes: Axes, column: Column, color: str, linestyle: str) -> None:
    """The least-squares line, from the shortest to the longest horizon."""
    if (line := column.summary["gain_by_horizon"]) is None:
        return
    ends = np.array([f(row["horizon"] for row in column.rows) for f in (min, max)], float)
    axes.plot(ends, line["intercept"] + line["slope"] * ends, color=color, linestyle=linestyle)

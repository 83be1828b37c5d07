"""The figure of surprisal: what tokens cost against how much they surprise the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxcram.analysis.spread import Column
from jaxcram.figures.style import column_styles, columns_legend, error_bars, plain

_BINS = 8  # of surprisal, with equally many stages


def surprisal_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """Left: steps by surprisal, a dot a stage and a line of medians; right: the correlations of the lanes.

    Args:
        columns: of the analysis; each row has `stages` (see `jaxcram.analysis.surprisal.StageCosts`) and
            `spearman`.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, (column, style) in enumerate(zip(columns, styles, strict=True)):
            surprisal, cost = (
                np.concatenate([getattr(row["stages"], name) for row in column.rows] or [np.zeros(0)])
                for name in ("surprisal", "cost")
            )
            color, marker = style["color"], style["marker"]
            dots: dict[str, Any] = {"alpha": 0.35, "markersize": 3.5, "markeredgewidth": 0}
            left.plot(surprisal, cost, marker, color=color, rasterized=True, **dots)  # tens of thousands
            left.plot(*medians(surprisal, cost), **style, zorder=3)
            values = [row["spearman"] for row in column.rows if row["spearman"] is not None]
            _draw_lanes(right, number, values, column, color, marker)
        left.set_yscale("symlog", linthresh=1, linscale=0.4)
        left.yaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:g}"))
        left.set_ylim(bottom=-0.15)
        left.set_xlabel("surprisal under the model alone (bits per token)")
        left.set_ylabel("optimiser steps per token")
        right.axhline(0, color="0.4", linewidth=0.8)
        right.set_ylim(-1.05, 1.05)
        right.set_xlim(-0.6, len(columns) - 0.4)
        right.set_xticks([])
        right.set_xlabel("dots: lanes; bars: all stages, with the 95% interval over texts")
        right.set_ylabel("Spearman correlation of surprisal and steps")
        columns_legend(figure, (column.label for column in columns), styles)
        figure.suptitle(title, fontsize=11)
    return figure


def medians(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians of x and y in bins of x that hold equally many values; fewer bins where there are few."""
    order = np.argsort(x, kind="stable")
    bins = [part for part in np.array_split(order, min(_BINS, max(1, len(x) // 4))) if len(part)]
    return np.array([np.median(x[part]) for part in bins]), np.array([np.median(y[part]) for part in bins])


def _draw_lanes(
    axes: Axes, number: int, values: Sequence[float], column: Column, color: str, marker: str
) -> None:
    """The lanes' correlations beside the one over all stages."""
    places = number - 0.2 + np.linspace(-0.12, 0.12, len(values))
    axes.plot(places, values, marker, color=color, alpha=0.6, markersize=4, markeredgewidth=0)
    middle, interval = column.summary["spearman"], column.summary["interval"]
    if middle is not None:
        errors = error_bars([middle], [interval or (middle, middle)])
        axes.errorbar(number + 0.2, middle, yerr=errors, fmt=marker, color=color, capsize=4, markersize=7)

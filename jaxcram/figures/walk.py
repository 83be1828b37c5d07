"""Figures of trajectories: the walk in its plane, components, and jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxcram.analysis.spread import Column
from jaxcram.analysis.walk import fits, mean_growth
from jaxcram.figures.style import column_styles, columns_legend, logarithmic, plain

_SHOWN = 6  # walks of one figure
_CHARACTERS = 60  # of the columns' labels that fit below a panel
_WITHIN = 0.28  # half the width of the dots of one column
_JUMPS = {"distance": "in distance", "step": "in optimiser steps"}
_FITS: dict[str, Any] = {"logarithmic": (np.log, "-"), "linear": (np.asarray, ":")}
_OURS: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4.5, "markeredgewidth": 0}
_PUBLISHED: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4.5, "markerfacecolor": "none"}
_NULL: dict[str, Any] = {"marker": "_", "linestyle": "", "color": "0.45", "markersize": 7}


def path_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """The walks of the longest lanes in the plane of their first two principal components.

    Args:
        rows: of lanes, from `jaxcram.analysis.walk.walk`, with the columns of their jobs; one lane of a text
            is drawn.
        title: of the figure.
    """
    longest: dict[Any, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: len(row["path"])):
        if len(row["path"]) > 1 and row["walk"]["first_two"] is not None:
            longest[row.get("text", row["sample_id"])] = row
    shown = list(reversed(longest.values()))[:_SHOWN]
    most = max((row["path"][-1]["tokens"] for row in shown), default=1)
    columns = min(3, max(len(shown), 1))
    lines = -(-max(len(shown), 1) // columns)
    with plain():
        figure = Figure(figsize=(1.6 + 3.4 * columns, 0.7 + 3.0 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        norm = Normalize(1, max(most, 2))
        for axes, row in zip(panels.flat, shown, strict=False):
            _draw_path(axes, row, norm)
        for axes in panels.flat[len(shown) :]:
            axes.axis("off")
        if shown:
            bar = figure.colorbar(_mappable(panels.flat[0]), ax=panels, aspect=30, pad=0.02)
            bar.set_label("prefix length (tokens)")
        figure.suptitle(title, fontsize=11)
    return figure


def _mappable(axes: Axes) -> Any:
    return next(drawn for drawn in axes.collections if isinstance(drawn, LineCollection))


def _draw_path(axes: Axes, row: Mapping[str, Any], norm: Normalize) -> None:
    points_Rx2 = np.array([(one["pc1"], one["pc2"]) for one in row["path"]])
    tokens_R = np.array([one["tokens"] for one in row["path"]], float)
    pieces = list(np.stack([points_Rx2[:-1], points_Rx2[1:]], axis=1))
    lines = LineCollection(pieces, linewidths=1.0, cmap="viridis", norm=norm)
    lines.set_array(tokens_R[1:])
    axes.add_collection(lines)
    axes.scatter(
        points_Rx2[:, 0],
        points_Rx2[:, 1],
        s=14 if len(pieces) < 200 else 4,
        c=tokens_R,
        cmap="viridis",
        norm=norm,
        zorder=3,
        linewidths=0.3,
        edgecolors="0.3",
    )
    for end, marker in ((0, "s"), (-1, "^")):
        axes.plot(*points_Rx2[end], marker, markersize=9, color="black", markerfacecolor="none", zorder=4)
    axes.set_xlabel("PC1")
    axes.set_ylabel("PC2")
    name = f"text {row['sample_id']}, learning rate {row['learning_rate']:g}"
    axes.set_title(f"{name}\n{row['walk']['first_two']:.0%} of the variance", fontsize=9)


def components_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """PCA 99% of every lane by column, ours, as published and of random walks; and by prefix length.

    Args:
        columns: with rows of `jaxcram.analysis.walk.walk`.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, (column, style) in enumerate(zip(columns, styles, strict=True)):
            lanes = [row["walk"] for row in column.rows]
            published = [lane["as_published"] for lane in lanes]
            _draw_dots(left, place, [lane["random_walk_pca99"] for lane in lanes], {**_NULL, "zorder": 3})
            _draw_dots(left, place, [lane["pca99"] for lane in published], {**_PUBLISHED, **_of(style)}, 0.06)
            _draw_dots(left, place, [lane["pca99"] for lane in lanes], {**_OURS, **_of(style)}, -0.06)
            _draw_growth(right, [row["growth"] for row in column.rows], style)
        _name_columns(left, columns)
        left.set_ylim(bottom=0)
        left.set_ylabel("PCA 99% (components)")
        grey: dict[str, Any] = {"color": "0.3"}
        left.legend(
            handles=[
                Line2D([], [], label="exact stages", **{**_OURS, **grey}),
                Line2D([], [], label="as published, with the failed stage", **{**_PUBLISHED, **grey}),
                Line2D([], [], label="random walks with the same jumps", **_NULL),
            ],
            fontsize=8,
        )
        _scale_tokens(right)
        right.set_ylabel("PCA 99% (mean over lanes)")
        right.legend(
            handles=[
                Line2D([], [], color="0.3", linestyle="-", label="a + b log n"),
                Line2D([], [], color="0.3", linestyle=":", label="a + b n"),
            ],
            fontsize=8,
        )
        columns_legend(figure, _names(columns)[1], styles)
        figure.suptitle(title, fontsize=11)
    return figure


def _of(style: Mapping[str, Any]) -> dict[str, Any]:
    """The colour and marker of a column."""
    return {"color": style["color"], "marker": style["marker"]}


def _draw_dots(
    axes: Axes, place: int, values: Sequence[float | None], style: Mapping[str, Any], aside: float = 0.0
) -> None:
    """A dot a lane, side by side around a column's place in the order of the lanes."""
    across = (
        place + aside + np.linspace(-_WITHIN, _WITHIN, len(values)) if len(values) > 1 else [place + aside]
    )
    known = [(x, value) for x, value in zip(across, values, strict=True) if value is not None]
    axes.plot(*np.array(known, float).reshape(-1, 2).T, **style)


def _names(columns: Sequence[Column]) -> tuple[list[str], list[str]]:
    """What stands below the columns and in the legend: labels, or numbers below where these are long."""
    labels = [column.label for column in columns]
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    if max(map(len, labels), default=0) <= _CHARACTERS // max(len(labels), 1):
        return labels, labels
    return numbers, [f"{number}: {label}" for number, label in zip(numbers, labels, strict=True)]


def _name_columns(axes: Axes, columns: Sequence[Column], below: Sequence[str] = ()) -> None:
    """Ticks for the columns: a name, and below it what may be said of each."""
    names, _ = _names(columns)
    lines = [f"{name}\n{more}" for name, more in zip(names, below, strict=True)] if below else names
    axes.set_xticks(range(len(columns)), lines, fontsize=9)
    axes.set_xlim(-0.6, max(len(columns), 1) - 0.4)
    axes.grid(False, axis="x")


def _draw_growth(axes: Axes, growths: Sequence[Sequence[Mapping[str, Any]]], style: dict[str, Any]) -> None:
    means = mean_growth(growths)
    tokens = np.array([row["tokens"] for row in means], float)
    axes.plot(tokens, [row["pca99"] for row in means], linestyle="", markersize=5, **_of(style))
    if len(tokens) < 2:
        return
    along = np.linspace(tokens[0], tokens[-1], 100)
    found = fits(growths)
    for name, (scale, dashes) in _FITS.items():
        if (line := found[name]) is not None:
            axes.plot(
                along, line["a"] + line["b"] * scale(along), dashes, color=style["color"], linewidth=1.1
            )


def _scale_tokens(axes: Axes) -> None:
    logarithmic(axes)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("prefix length n (tokens)")


def jumps_figure(columns: Sequence[Column], *, title: str = "") -> Figure:
    """Lag-1 autocorrelation of the jumps of every lane beside the 95th percentile of shuffled jumps.

    Below each column stands the share of its lanes above that percentile, and in brackets as published.

    Args:
        columns: with rows of `jaxcram.analysis.walk.walk` and the summary of the same module.
        title: of the figure.
    """
    styles = column_styles(len(columns))
    with plain():
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (kind, name) in zip(panels, _JUMPS.items(), strict=True):
            for place, (column, style) in enumerate(zip(columns, styles, strict=True)):
                lanes = [row["walk"] for row in column.rows]
                _draw_dots(axes, place, [lane[f"{kind}_shuffled_95"] for lane in lanes], _NULL)
                of_lanes = [lane[f"{kind}_autocorrelation"] for lane in lanes]
                _draw_dots(axes, place, of_lanes, {**_OURS, **_of(style)})
            axes.axhline(0, color="0.6", linewidth=0.8)
            _name_columns(axes, columns, [_shares(column.summary, f"{kind}_dwells") for column in columns])
            axes.set_title(f"jumps {name}", fontsize=10)
            axes.set_xlabel("share of the lanes above theirs (as published)")
        panels[0].set_ylabel("lag-1 autocorrelation of jumps")
        grey: dict[str, Any] = {**_OURS, "color": "0.3"}
        panels[0].legend(
            handles=[
                Line2D([], [], label="lane", **grey),
                Line2D([], [], label="95th percentile of its shuffled jumps", **_NULL),
            ],
            fontsize=8,
        )
        columns_legend(figure, _names(columns)[1], styles)
        figure.suptitle(title, fontsize=11)
    return figure


def _shares(summary: Mapping[str, Any], name: str) -> str:
    """Such as `33% (20%)`."""
    ours, published = summary[name], summary["as_published"][name]
    return " ".join(
        "-" if x is None else form.format(x) for x, form in ((ours, "{:.0%}"), (published, "({:.0%})"))
    )

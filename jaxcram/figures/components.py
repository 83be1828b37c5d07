"""The figure of embeddings that keep only some principal components: what comes back, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxcram.analysis import reconstruction
from jaxcram.figures.style import plain

# Dashes and markers tell the lines apart in grey.
_LINES: dict[str, dict[str, Any]] = {
    "tf_accuracy": {
        "color": "#0072b2",
        "linestyle": "-",
        "marker": "o",
        "label": "accuracy, teacher forcing",
    },
    "exact_accuracy": {
        "color": "#e69f00",
        "linestyle": "--",
        "marker": "s",
        "label": "accuracy, greedy (exact)",
    },
    "first_wrong": {
        "color": "0.15",
        "linestyle": ":",
        "marker": "^",
        "label": "token 0 wrong (share of lanes)",
    },
}
_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_MOST_LABELS = 16  # of numbers of components


def components_figure(lanes: Sequence[Sequence[Mapping[str, Any]]], title: str = "") -> Figure:
    """Two panels: accuracies by the number of components, and which positions are wrong with each number.

    Positions are in shades of grey, by the share of lanes whose token is wrong there, teacher-forced.

    Args:
        lanes: the rows that `jaxcram.analysis.reconstruction.measure` has of each lane.
        title: of the figure.
    """
    summary = reconstruction.summarise(lanes)
    counts = [point["components"] for point in summary["curve"]]
    with plain():
        figure = Figure(figsize=(12, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_accuracies(left, summary, counts)
        shades = _draw_positions(right, lanes, counts)
        figure.colorbar(shades, ax=right, label="wrong under teacher forcing (share of lanes)")
        figure.suptitle(title, fontsize=11)
    return figure


def _draw_accuracies(axes: Axes, summary: Mapping[str, Any], counts: Sequence[int]) -> None:
    for name, style in _LINES.items():
        values = [point[name] for point in summary["curve"]]
        axes.plot(counts, values, markersize=4, linewidth=1.5, **style)
    share = f"99% of the variance (mean: {summary['pca99']['components']:.3g})"
    axes.axvline(summary["pca99"]["components"], color="0.5", linestyle="-.", linewidth=1.2, label=share)
    axes.set_xscale("symlog", linthresh=4, linscale=1)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if tick <= max(counts[-1], 1)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.3, 1.1 * max(counts[-1], 1))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("principal components kept")
    axes.set_ylabel("share of the tokens, or of the lanes")
    axes.legend(fontsize=9, frameon=True, framealpha=0.85, edgecolor="none")


def _draw_positions(axes: Axes, lanes: Sequence[Sequence[Mapping[str, Any]]], counts: Sequence[int]) -> Any:
    """A row for each number of components, whose tokens have the width of their position on a log scale."""
    wrong = np.array([reconstruction.mismatch(reconstruction.at(lanes, count), "tf") for count in counts])
    edges = np.arange(wrong.shape[1] + 1) - 0.5, np.arange(len(counts) + 1) - 0.5
    shades = axes.pcolormesh(*edges, wrong, cmap="Greys", vmin=0, vmax=1, rasterized=True)
    axes.set_xscale("symlog", linthresh=2, linscale=0.6)
    axes.set_xlim(-0.5, wrong.shape[1] - 0.5)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if tick < wrong.shape[1]]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda position, _: f"{position:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    labelled = range(0, len(counts), -(-len(counts) // _MOST_LABELS))
    axes.set_yticks(list(labelled), [str(counts[row]) for row in labelled])
    axes.grid(False)
    axes.set_xlabel("position of the token (from 0)")
    axes.set_ylabel("principal components kept")
    return shades

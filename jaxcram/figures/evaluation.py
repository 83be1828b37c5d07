"""The figure of an evaluation: the accuracy of every score, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jaxcram.figures.style import error_bars, plain

_BY = {"sum": ("s", "0.65"), "token": ("o", "#0072b2"), "character": ("^", "#e69f00")}
_APART = 0.22  # between the normalisations of one score


def evaluation_figure(summary: Mapping[str, Any], title: str) -> Figure:
    """Accuracies by score and normalisation; points are means, bars 95% intervals of the bootstrap.

    Args:
        summary: of an evaluation (see `jaxcram.evaluate.summary.summarise`).
        title: above the axes.
    """
    with plain():
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        names = list(summary["accuracies"])
        for number, (by, (marker, color)) in enumerate(_BY.items()):
            entries = [summary["accuracies"][name][by] for name in names]
            shown = [(i, x) for i, x in enumerate(entries) if x["accuracy"] is not None]
            places = [i + (number - 1) * _APART for i, _ in shown]
            means = [x["accuracy"] for _, x in shown]
            axes.errorbar(
                means,
                places,
                xerr=error_bars(means, [x["interval"] for _, x in shown]),
                fmt=marker,
                color=color,
                markersize=6,
                elinewidth=1.4,
                capsize=2.5,
                label=f"by {by}",
            )
        base = summary["base_accuracy"]
        axes.axvline(base, color="0.25", linestyle="--", linewidth=1, label="base, by token")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"accuracy over {summary['items']} items ({summary['converged']} converged)")
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8)
        return figure

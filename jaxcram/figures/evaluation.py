"""Figures of evaluations: accuracies with their intervals, by score or by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcram.figures.style import error_bars, plain

_BY = {"sum": ("s", "0.65"), "token": ("o", "#0072b2"), "character": ("^", "#e69f00")}
_OF_ANSWERS = {"accuracy": ("right", "o", "#0072b2"), "valid_share": ("valid", "s", "0.65")}
_APART = 0.22  # between the points of one line


def evaluation_figure(summary: Mapping[str, Any], title: str) -> Figure:
    """Accuracies by score and normalisation; points are means, bars 95% intervals of the bootstrap.

    Args:
        summary: of an evaluation (see `jaxcram.evaluate.summary.summarise`).
        title: above the axes.
    """
    names = list(summary["accuracies"])
    with plain():
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for number, (by, (marker, color)) in enumerate(_BY.items()):
            entries = [summary["accuracies"][name][by] for name in names]
            values = [(entry["accuracy"], entry["interval"]) for entry in entries]
            _points(axes, values, (number - 1) * _APART, fmt=marker, color=color, label=f"by {by}")
        base = summary["base_accuracy"]
        axes.axvline(base, color="0.25", linestyle="--", linewidth=1, label="base, by token")
        counted = f"accuracy over {summary['items']} items ({summary['converged']} converged)"
        _finish(axes, names, counted, title)
    return figure


def generation_figure(summary: Mapping[str, Any], title: str) -> Figure:
    """Shares of right and of valid answers from plain text and in the mode, as `evaluation_figure`.

    Args:
        summary: of a generative evaluation (see `jaxcram.evaluate.generative_summary.summarise`).
        title: above the axes.
    """
    mode = summary["generative"]
    prefixes = {"plain text": ""} if mode == "none" else {"plain text": "base_", mode: ""}
    with plain():
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (label, marker, color)) in enumerate(_OF_ANSWERS.items()):
            keys = [f"{prefix}{name}" for prefix in prefixes.values()]
            values = [(summary[key], summary[f"{key}_interval"]) for key in keys]
            _points(axes, values, (number - 0.5) * _APART, fmt=marker, color=color, label=label)
        _finish(axes, list(prefixes), f"share of {summary['items']} answers", title)
    return figure


def _points(
    axes: Axes,
    values: Sequence[tuple[float | None, Sequence[float]]],
    above: float,
    **style: Any,
) -> None:
    """A point with its interval on each line, this far above it; none where nothing was counted."""
    shown = [(place, mean, interval) for place, (mean, interval) in enumerate(values) if mean is not None]
    axes.errorbar(
        [mean for _, mean, _ in shown],
        [place + above for place, _, _ in shown],
        xerr=error_bars([mean for _, mean, _ in shown], [interval for *_, interval in shown]),
        markersize=6,
        elinewidth=1.4,
        capsize=2.5,
        **style,
    )


def _finish(axes: Axes, names: Sequence[str], counted: str, title: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel(counted)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)

"""The figures of a knockout sweep, in the layout of Tarasov et al. 2026."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcram.figures.style import plain

# Apart in grey too: dark with circles, light with squares.
_ACCURACY: dict[str, Any] = {"color": "#0072b2", "marker": "o", "linestyle": "-"}
_TF: dict[str, Any] = {"color": "#e69f00", "marker": "s", "linestyle": "--", "markeredgecolor": "0.25"}
_REFERENCES = {"base": ("base_accuracy", "--"), "crammed": ("crammed_accuracy", ":")}
_BAR, _BOS = "0.86", "0.55"
_CUMULATIVE = {
    "forward": "number of first layers knocked out",
    "reverse": "number of last layers knocked out",
}


def single_figure(summary: Mapping[str, Any], title: str = "") -> Figure:
    """Accuracy and reconstruction with each layer knocked out alone, before bars of attention mass.

    Args:
        summary: of a sweep with the protocol "single" (see `jaxcram.evaluate.knockout_summary.summarise`); of
            texts without endings there is reconstruction alone.
        title: above the axes.
    """
    alone = [entry for entry in summary["single"] if len(entry["layers"]) == 1]
    layers = np.array([entry["layers"][0] for entry in alone])
    with plain():
        figure = Figure(figsize=(max(7.0, 2.5 + 0.22 * len(layers)), 4.2), layout="constrained")
        axes = figure.add_subplot()
        _draw_masses(axes, summary["attention_mass"])
        _draw(axes, layers, alone, summary)
        axes.set_xlim(-0.6, len(summary["attention_mass"]["memory"]) - 0.4)
        axes.set_xlabel("layer knocked out")
        axes.set_ylabel("accuracy")
        _finish(figure, axes, title)
    return figure


def cumulative_figure(summary: Mapping[str, Any], title: str = "") -> Figure:
    """Accuracy and reconstruction by the number of layers knocked out: from the first on, and from the last.

    Args:
        summary: of a sweep with the protocol "forward", "reverse" or both.
        title: above the panels.
    """
    shown = [protocol for protocol in _CUMULATIVE if protocol in summary]
    with plain():
        figure = Figure(figsize=(1.0 + 4.6 * len(shown), 4.2), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
        for axes, protocol in zip(panels, shown, strict=True):
            entries = summary[protocol]
            _draw(axes, np.array([len(entry["layers"]) for entry in entries]), entries, summary)
            axes.set_xlabel(_CUMULATIVE[protocol])
            axes.set_title(protocol, fontsize=10)
        panels[0].set_ylabel("accuracy")
        _finish(figure, panels[0], title)
    return figure


def _draw(
    axes: Axes, places: np.ndarray, entries: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> None:
    """The lines of accuracy, with its intervals, and of reconstruction; the accuracies to compare with."""
    size: dict[str, Any] = {"markersize": 5 if len(places) <= 16 else 3.5, "linewidth": 1.4}
    if summary["crammed_accuracy"] is not None:
        low, high = np.array([entry["accuracy_interval"] for entry in entries], float).reshape(-1, 2).T
        axes.fill_between(places, low, high, color=_ACCURACY["color"], alpha=0.15, linewidth=0, zorder=2)
    axes.plot(
        places,
        [entry["tf_accuracy"] for entry in entries],
        label="teacher-forced accuracy",
        **_TF,
        **size,
    )
    if summary["crammed_accuracy"] is not None:
        accuracies = [entry["accuracy"] for entry in entries]
        axes.plot(places, accuracies, label="task accuracy, 95% interval", **_ACCURACY, **size)
        for name, (field, style) in _REFERENCES.items():
            label = f"{name} accuracy {summary[field]:.3f}"
            axes.axhline(summary[field], color="0.15", linestyle=style, linewidth=1.3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylim(0, 1.04)


def _draw_masses(axes: Axes, masses: Mapping[str, Any]) -> None:
    """Bars of attention mass behind the lines, with an axis of their own on the right."""
    behind = axes.twinx()
    memory, bos = (np.array(masses[name], float) for name in ("memory", "bos"))  # None becomes NaN
    behind.bar(range(len(memory)), memory, width=0.8, color=_BAR, label="attention on the memory")
    if not np.isnan(bos).all():
        label = "attention on the first token of the text alone"
        behind.plot(range(len(bos)), bos, "_", color=_BOS, markersize=9, markeredgewidth=2, label=label)
    behind.set_ylim(0, 104)
    behind.set_ylabel("attention mass (%)")
    behind.spines["right"].set_visible(True)
    behind.grid(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    """The title, and one legend of all axes below."""
    handles, labels = axes.get_legend_handles_labels()
    for other in figure.axes:
        if other is not axes and not set(labels) & set(other.get_legend_handles_labels()[1]):
            more = other.get_legend_handles_labels()
            handles, labels = handles + more[0], labels + more[1]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=11)

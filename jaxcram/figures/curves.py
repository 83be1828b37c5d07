"""The figure of a run's curves."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from jaxcram.figures.style import plain, rate_colors, rate_handles

if TYPE_CHECKING:
    import pyarrow as pa

_LANE = ("sample_id", "learning_rate", "seed")
_PANELS = {  # column -> (label, whether its axis is logarithmic)
    "loss": ("loss (mean over the target's tokens)", True),
    "accuracy": ("accuracy (teacher-forced, 0 to 1)", False),
    "horizon": ("horizon (tokens)", False),
    "step_learning_rate": ("learning rate (per step)", True),
    "embedding_norm": ("norm of the memory embedding", True),
}
COLUMNS = (*_LANE, "step", *_PANELS)


class Curve(NamedTuple):
    """One column of one lane, or the median of several; one entry per point [P]."""

    steps: np.ndarray
    values: np.ndarray  # NaN for missing values


def curves_figure(points: "pa.Table", *, title: str = "") -> Figure:
    """Five panels over steps: a thin line per lane, and a bold one for the median of each learning rate.

    Args:
        points: the curves of a run; only `COLUMNS` are needed.
        title: of the figure.
    """
    lanes = by_lane(points)
    colors = rate_colors(rate for rate, _ in lanes)
    most = max(sum(rate == other for other, _ in lanes) for rate in colors)
    with plain():
        figure = Figure(figsize=(12, 6.6))
        *panels, corner = figure.subplots(2, 3, sharex=True).flat
        for axes, (name, (label, logarithmic)) in zip(panels, _PANELS.items(), strict=True):
            if logarithmic:
                _logarithmic(axes, np.concatenate([curves[name].values for _, curves in lanes]))
            for rate, color in colors.items():
                _draw(axes, [curves[name] for other, curves in lanes if other == rate], color, logarithmic)
            axes.set_ylabel(label)
            axes.xaxis.set_tick_params(labelbottom=True)
        _linear(*panels)
        corner.axis("off")
        handles = _handles(colors, most)
        corner.legend(handles=handles, loc="center left", ncols=1 + len(handles) // 14)
        figure.subplots_adjust(left=0.065, right=0.99, bottom=0.08, top=0.93, wspace=0.25, hspace=0.2)
        figure.suptitle(title, fontsize=11)
    return figure


def by_lane(points: "pa.Table") -> list[tuple[float, dict[str, Curve]]]:
    """(learning rate, curves by column) of every lane, in order of steps."""
    table = points.select(COLUMNS).sort_by([(name, "ascending") for name in (*_LANE, "step")])
    column = {name: table[name].to_numpy() for name in COLUMNS}
    new = np.zeros(len(table), bool)
    for name in _LANE:
        new[1:] |= column[name][1:] != column[name][:-1]
    parts = {name: np.split(column[name], np.flatnonzero(new)) for name in COLUMNS}
    return [
        (
            float(parts["learning_rate"][i][0]),
            {name: Curve(steps, parts[name][i].astype(float)) for name in _PANELS},
        )
        for i, steps in enumerate(parts["step"])
    ]


def median(curves: list[Curve]) -> Curve:
    """The median of several lanes, at every step at which more than half of them have a value.

    At later steps it would only describe the lanes that last longest.
    """
    steps, values = (np.concatenate(arrays) for arrays in zip(*curves, strict=True))
    steps, values = steps[~np.isnan(values)], values[~np.isnan(values)]
    order = np.argsort(steps, kind="stable")
    known, starts = np.unique(steps[order], return_index=True)
    at_step = np.split(values[order], starts[1:])
    kept = [i for i in range(len(known)) if 2 * len(at_step[i]) > len(curves)]
    return Curve(known[kept], np.array([np.median(at_step[i]) for i in kept]))


def _draw(axes: Axes, curves: list[Curve], color: str, logarithmic: bool) -> None:
    """Draws the lanes of one learning rate, with a dot at the end of each."""
    if logarithmic:
        curves = [Curve(steps, np.where(values > 0, values, np.nan)) for steps, values in curves]
    many = len(curves) > 1
    faint = max(0.12, 0.6 / len(curves) ** 0.4)  # with many lanes, overlap then shows their density
    lines = [np.column_stack(curve) for curve in curves]
    axes.add_collection(
        LineCollection(lines, colors=color, linewidths=0.7 if many else 1.2, alpha=faint if many else 1.0)
    )
    ends = np.array([(steps[-1], values[-1]) for steps, values in curves])
    axes.plot(*ends.T, ".", color=color, markersize=4, alpha=0.6)
    if many:
        axes.plot(*median(curves), color=color, linewidth=2.2)
    axes.autoscale_view()


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    """Sets up a logarithmic axis; matplotlib's own limits fail if all values are equal."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    span = high / low
    margin = max(span**0.05, 1.6 / span**0.5)  # wide enough for one of the ticks 1, 2, 5, 10
    axes.set_yscale("log")
    axes.set_ylim(low / margin, high * margin)
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if span > 100 else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _linear(loss: Axes, accuracy: Axes, horizon: Axes, rate: Axes, norm: Axes) -> None:
    """Sets limits and labels of the linear axes."""
    accuracy.set_ylim(0, 1.03)
    horizon.set_ylim(bottom=0)
    horizon.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for axes in (horizon, rate, norm):
        axes.set_xlabel("optimiser steps of the lane")
    loss.set_xlim(left=0)


def _handles(colors: dict[float, str], most: int) -> list[Line2D]:
    """Entries of the legend; `most` is the largest number of lanes of one learning rate."""
    gray = "0.4"
    handles = [*rate_handles(colors), Line2D([], [], linestyle="", label="")]
    handles.append(Line2D([], [], color=gray, linewidth=0.8, label="lane"))
    handles.append(Line2D([], [], color=gray, linestyle="", marker=".", label="end of a lane"))
    if most > 1:
        label = "median, while more than\nhalf are running"
        handles.append(Line2D([], [], color=gray, linewidth=2.2, label=label))
    return handles

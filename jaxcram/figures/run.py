"""The figure of a run: horizons by learning rate, and steps per token by surprisal."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from jaxcram.analysis.surprisal import StageCosts, correlations, stage_costs
from jaxcram.figures.style import plain, rate_colors, rate_handles

if TYPE_CHECKING:
    import pyarrow as pa

_SPREAD = 0.06  # largest horizontal spread of the lanes of one learning rate, in decades
_NARROW = 0.1  # labels are rotated if two learning rates are closer than this share of the axis
_MEAN: dict[str, Any] = {"color": "0.25", "markerfacecolor": "white", "markersize": 8, "linewidth": 1.2}


class _Key(NamedTuple):
    """Colours and markers."""

    color: dict[float, str]  # learning rate -> colour
    kind: dict[int, str]  # sample id -> kind
    marker: dict[str, str]  # kind -> marker


def run_figure(rows: "pa.Table", summary: Mapping[str, Any], *, title: str = "") -> Figure:
    """Two panels: every lane's horizon by learning rate, and the steps per token by surprisal.

    In full mode: every lane's accuracy by learning rate, and its horizon.

    Args:
        rows: of a run; only the columns that `stage_costs` reads are needed.
        summary: of the same run; each `kind` of text has its own marker and mean.
        title: of the figure.
    """
    lanes = sorted(summary["lanes"], key=lambda lane: (lane["sample_id"], lane["seed"]))
    kind = {lane["sample_id"]: lane["kind"] for lane in lanes}
    key = _Key(
        rate_colors(lane["learning_rate"] for lane in lanes),
        kind,
        dict(zip(dict.fromkeys(kind.values()), cycle("o^sDvP"), strict=False)),
    )
    full = summary.get("mode") == "full"
    stages = stage_costs(rows)
    with plain():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        if full:
            _draw_accuracies(left, lanes, key)
            _draw_horizons(right, lanes, key)
        else:
            _draw_horizons(left, lanes, key)
            _draw_costs(right, stages, key)
        figure.legend(handles=_handles(key, lanes, full), loc="outside right upper")
        figure.suptitle("\n".join(filter(None, [title, "" if full else _correlation(stages)])), fontsize=11)
    return figure


def _correlation(stages: StageCosts) -> str:
    of_lanes = correlations(stages)
    if not len(of_lanes):
        return ""
    mean, lanes = np.mean(of_lanes), _lanes(len(of_lanes))
    return f"surprisal against steps per token: Spearman ρ {mean:.2f}, mean of {lanes}"


def _lanes(count: int) -> str:
    return f"{count} lane{'' if count == 1 else 's'}"


def _draw_horizons(axes: Axes, lanes: Sequence[Mapping[str, Any]], key: _Key) -> None:
    _draw_by_rate(axes, lanes, key, lambda lane: lane["horizon"])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("horizon: longest exact prefix (tokens)")


def _draw_accuracies(axes: Axes, lanes: Sequence[Mapping[str, Any]], key: _Key) -> None:
    _draw_by_rate(axes, lanes, key, _forced, filled=False)
    _draw_by_rate(axes, lanes, key, lambda lane: lane["exact_accuracy"])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share of the target recovered")


def _forced(lane: Mapping[str, Any]) -> float | None:
    """Teacher-forced accuracy, from verification or, if the lane was not decoded, from cramming."""
    if lane["tf_accuracy"] is None and "tf_tokens" in lane:
        return lane["tf_tokens"] / lane["target_tokens"]
    return lane["tf_accuracy"]


def _draw_by_rate(
    axes: Axes,
    lanes: Sequence[Mapping[str, Any]],
    key: _Key,
    value: Callable[[Mapping[str, Any]], float | None],
    filled: bool = True,
) -> None:
    """Draws a value of every lane that has one, and its mean for every kind of text, by learning rate."""
    rates = list(key.color)
    gaps = np.diff(np.log10(rates))
    spread = min(_SPREAD, 0.3 * gaps.min(initial=1.0))
    points: dict[tuple[str, float], list[float]] = {}
    for rate, color in key.color.items():
        here = [lane for lane in lanes if lane["learning_rate"] == rate]
        x = rate * 10 ** (np.linspace(-spread, spread, len(here)) if len(here) > 1 else np.zeros(1))
        for lane, lane_x in zip(here, x, strict=True):
            if (number := value(lane)) is None:
                continue
            kind = key.kind[lane["sample_id"]]
            points.setdefault((kind, rate), []).append(number)
            face, edge = (color, 0.0) if filled else ("none", 1.0)
            axes.plot(
                lane_x,
                number,
                key.marker[kind],
                color=color,
                alpha=0.75,
                markerfacecolor=face,
                markeredgewidth=edge,
            )
    for kind, marker in key.marker.items():
        means = {rate: np.mean(points[kind, rate]) for rate in rates if (kind, rate) in points}
        if _has_mean(lanes):
            style = "-" if filled else "--"
            axes.plot(list(means), list(means.values()), marker, linestyle=style, zorder=3, **_MEAN)
    axes.set_xscale("log")
    axes.set_xlim(rates[0] / 1.8, rates[-1] * 1.8)
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if gaps.min(initial=1.0) < _NARROW * (gaps.sum() + 2 * np.log10(1.8)):
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("learning rate (peak, per step)")


def _has_mean(lanes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether means are drawn: not for a single lane."""
    return len(lanes) > 1


def _draw_costs(axes: Axes, stages: StageCosts, key: _Key) -> None:
    kinds = np.array([key.kind[sample] for sample in stages.sample_id], dtype=object)
    for rate, color in key.color.items():
        for kind, marker in key.marker.items():
            here = (stages.learning_rate == rate) & (kinds == kind)
            axes.plot(
                stages.surprisal[here],
                stages.cost[here],
                marker,
                color=color,
                alpha=0.55,
                markersize=4.5,
                markeredgewidth=0,
            )
    axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:g}"))
    axes.set_ylim(bottom=-0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("surprisal under the model alone (bits per token)")
    axes.set_ylabel("cost (optimiser steps per token)")


def _handles(key: _Key, lanes: Sequence[Mapping[str, Any]], full: bool) -> list[Line2D]:
    handles = [*rate_handles(key.color), Line2D([], [], linestyle="", label="")]
    for kind, marker in key.marker.items():
        handles.append(Line2D([], [], linestyle="", marker=marker, color="0.5", label=kind))
    if _has_mean(lanes):
        for kind, marker in key.marker.items():
            handles.append(Line2D([], [], marker=marker, label=f"{kind}, mean", **_MEAN))
    if full:
        handles.append(Line2D([], [], linestyle="", label=""))
        handles.append(Line2D([], [], marker="o", color="0.25", label="exact decoding"))
        hollow = Line2D([], [], marker="o", color="0.25", linestyle="--", label="teacher forcing")
        hollow.set_markerfacecolor("none")
        handles.append(hollow)
    return handles

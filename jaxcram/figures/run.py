"""The figure of a run: how much was crammed at which learning rate, and what each token cost."""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("sample_id", "learning_rate", "seed", "stage_seq_len", "steps", "exact", "surprisal_bits")
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "text.parse_math": False,  # names with two dollar signs are no formulae
}
_SPREAD = 0.06  # decades by which the lanes of one learning rate stand apart at most
_MEAN: dict[str, Any] = {"color": "0.25", "markerfacecolor": "white", "markersize": 8, "linewidth": 1.2}


class _Key(NamedTuple):
    """What colours and markers mean."""

    color: dict[float, str]  # learning rate -> colour
    kind: dict[int, str]  # sample id -> kind
    marker: dict[str, str]  # kind -> marker


class Stages(NamedTuple):
    """One entry a stage [R]."""

    lane: np.ndarray  # int, the same for the stages of one lane
    sample_id: np.ndarray
    learning_rate: np.ndarray
    surprisal: np.ndarray  # bits per token
    cost: np.ndarray  # steps per token


def run_figure(rows: "pa.Table", summary: Mapping[str, Any], *, title: str = "") -> Figure:
    """Two panels: every lane's horizon by learning rate, and the steps per token by its surprisal.

    Args:
        rows: of a run; `COLUMNS` are enough.
        summary: of the same run; each `kind` of text in it has a marker and a mean of its own.
        title: what was crammed into what.
    """
    lanes = sorted(summary["lanes"], key=lambda lane: (lane["sample_id"], lane["seed"]))
    rates = sorted({lane["learning_rate"] for lane in lanes})
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(rates)))
    kind = {lane["sample_id"]: lane["kind"] for lane in lanes}
    key = _Key(
        {rate: matplotlib.colors.to_hex(shade) for rate, shade in zip(rates, shades, strict=True)},
        kind,
        dict(zip(dict.fromkeys(kind.values()), cycle("o^sDvP"), strict=False)),
    )
    stages = costs(rows)
    with _plain():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_horizons(left, lanes, key)
        _draw_costs(right, stages, key)
        figure.legend(handles=_handles(key), loc="outside right upper")
        figure.suptitle("\n".join(filter(None, [title, _correlation(stages)])), fontsize=11)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG, drawn without any window system."""
    image = io.BytesIO()
    with _plain():
        figure.savefig(image, format="png", dpi=150, backend="agg")
    return image.getvalue()


def _plain() -> AbstractContextManager[None]:
    """Matplotlib's default style and ours, whatever the person's matplotlibrc wants, as LaTeX or no fonts."""
    return matplotlib.style.context(["default", _STYLE])


def costs(rows: "pa.Table") -> Stages:
    """Surprisal and steps per token of every stage that has both.

    A stage that did not become exact has no known cost, and the first token no surprisal: both are left out.
    """
    order = ("sample_id", "learning_rate", "seed", "stage_seq_len")
    table = rows.select(COLUMNS).sort_by([(name, "ascending") for name in order])
    column = {name: table[name].to_numpy() for name in COLUMNS}
    first = np.ones(len(table), bool)
    for name in order[:3]:
        first[1:] &= column[name][1:] == column[name][:-1]
    first[1:] = ~first[1:]
    added = np.where(first, column["stage_seq_len"], np.diff(column["stage_seq_len"], prepend=0))
    predicted = added - first  # the tokens among them that the model alone predicts
    kept = column["exact"].astype(bool) & (predicted > 0)
    return Stages(
        np.cumsum(first)[kept],
        column["sample_id"][kept],
        column["learning_rate"][kept],
        column["surprisal_bits"][kept] / predicted[kept],
        column["steps"][kept] / added[kept],
    )


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where either does not vary."""
    if min(len(np.unique(x)), len(np.unique(y))) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _correlation(stages: Stages) -> str:
    of_lanes = [
        spearman(stages.surprisal[stages.lane == lane], stages.cost[stages.lane == lane])
        for lane in np.unique(stages.lane)
    ]
    known = [value for value in of_lanes if not np.isnan(value)]
    if not known:
        return ""
    return f"surprisal against steps per token: Spearman ρ {np.mean(known):.2f}, mean of {len(known)} lanes"


def _draw_horizons(axes: Axes, lanes: Sequence[Mapping[str, Any]], key: _Key) -> None:
    for rate, color in key.color.items():
        here = [lane for lane in lanes if lane["learning_rate"] == rate]
        places = rate * 10 ** (np.linspace(-_SPREAD, _SPREAD, len(here)) if len(here) > 1 else np.zeros(1))
        for lane, place in zip(here, places, strict=True):
            marker = key.marker[key.kind[lane["sample_id"]]]
            axes.plot(place, lane["horizon"], marker, color=color, alpha=0.75, markeredgewidth=0)
    for kind, marker in key.marker.items():
        of_kind = [lane for lane in lanes if key.kind[lane["sample_id"]] == kind]
        means = [
            np.mean([lane["horizon"] for lane in of_kind if lane["learning_rate"] == rate])
            for rate in key.color
        ]
        axes.plot(list(key.color), means, marker, linestyle="-", zorder=3, **_MEAN)
    axes.set_xscale("log")
    rates = list(key.color)
    axes.set_xlim(rates[0] / 1.8, rates[-1] * 1.8)
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("learning rate (peak, per step)")
    axes.set_ylabel("horizon: longest exact prefix (tokens)")


def _draw_costs(axes: Axes, stages: Stages, key: _Key) -> None:
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


def _handles(key: _Key) -> list[Line2D]:
    handles = [Line2D([], [], linestyle="", label="learning rate")]
    for rate, color in key.color.items():
        handles.append(Line2D([], [], linestyle="", marker="s", markersize=8, color=color, label=f"{rate:g}"))
    handles.append(Line2D([], [], linestyle="", label=""))
    for kind, marker in key.marker.items():
        handles.append(Line2D([], [], linestyle="", marker=marker, color="0.5", label=kind))
    for kind, marker in key.marker.items():
        handles.append(Line2D([], [], marker=marker, label=f"{kind}, mean", **_MEAN))
    return handles

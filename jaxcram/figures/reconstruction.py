"""The figure of a reconstruction: how often a token is wrong, by its position, under each decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxcram.figures.style import plain

_PANELS = {"tf": "teacher forcing", "exact": "greedy, exact", "cached": "greedy, with a cache"}
# Colours that colour-blind people tell apart; dashes, widths and markers tell the lines apart in grey.
_LINES: list[dict[str, Any]] = [
    {"color": "#d55e00", "linestyle": "-", "marker": "o", "linewidth": 1.2},
    {"color": "#0072b2", "linestyle": "--", "marker": "s", "linewidth": 1.8},
    {"color": "#000000", "linestyle": ":", "marker": "^", "linewidth": 2.4},
    {"color": "#009e73", "linestyle": "-.", "marker": "D", "linewidth": 1.2},
    {"color": "#cc79a7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v", "linewidth": 1.2},
]
_MARKED = 3  # first positions, which have a marker each: what goes wrong there, all that follows reads
_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def reconstruction_figure(setups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """A panel a decoder, with the mismatch rate of each setup over positions; a row a learning rate.

    Args:
        setups: see `jaxcram.evaluate.reconstruction.summarise`.
        title: of the figure.
    """
    rates = sorted({one["learning_rate"] for one in setups})
    longest = max(len(of["mismatch"]) for one in setups for of in one["decoders"].values())
    with plain():
        figure = Figure(figsize=(11, 0.8 + 2.8 * len(rates)), layout="constrained")
        panels = figure.subplots(len(rates), len(_PANELS), sharex=True, sharey=True, squeeze=False)
        for rate, row in zip(rates, panels, strict=True):
            here = [one for one in setups if one["learning_rate"] == rate]
            for axes, (decoder, label) in zip(row, _PANELS.items(), strict=True):
                _draw(axes, here, decoder)
                axes.set_title(label if len(rates) == 1 else f"{label}, learning rate {rate:g}", fontsize=10)
            row[0].set_ylabel("wrong tokens (share of lanes)")
        for axes in panels[-1]:
            axes.set_xlabel("position of the token (from 0)")
        _scale(panels[0, 0], longest)
        figure.legend(handles=panels[0, 0].lines, fontsize=9, loc="outside right upper")
        figure.suptitle(title, fontsize=11)
    return figure


def _draw(axes: Axes, setups: Sequence[Mapping[str, Any]], decoder: str) -> None:
    for number, one in enumerate(setups):
        wrong = one["decoders"][decoder]["mismatch"]
        axes.plot(
            range(len(wrong)),
            wrong,
            label=one["setup"].replace("_", " "),
            markevery=list(range(min(_MARKED, len(wrong)))),
            markersize=5,
            **_LINES[number % len(_LINES)],
        )


def _scale(axes: Axes, longest: int) -> None:
    """The first positions apart, the others on a logarithmic scale."""
    axes.set_xscale("symlog", linthresh=2, linscale=0.6)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if tick < max(longest, 2)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda position, _: f"{position:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.2, max(longest, 2))
    axes.set_ylim(-0.03, 1.03)

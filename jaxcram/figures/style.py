"""The style of all figures."""

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "text.parse_math": False,  # or names with two dollar signs would be parsed as formulae
}


_MOST_RATES = 10  # in a legend


def plain() -> AbstractContextManager[None]:
    """Matplotlib's default style with the changes above, regardless of the user's matplotlibrc."""
    return matplotlib.style.context(["default", _STYLE])


def png(figure: Figure) -> bytes:
    """A figure as a PNG image, drawn without a display."""
    image = io.BytesIO()
    with plain():
        figure.savefig(image, format="png", dpi=150, backend="agg")
    return image.getvalue()


def pdf(figure: Figure) -> bytes:
    """A figure as a PDF, the same bytes whenever it is drawn."""
    image = io.BytesIO()
    with plain():
        figure.savefig(image, format="pdf", backend="pdf", metadata={"CreationDate": None})
    return image.getvalue()


def rate_colors(rates: Iterable[float]) -> dict[float, str]:
    """A colour for each learning rate, from dark (small) to light (large)."""
    ordered = sorted(set(rates))
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(ordered)))
    return {rate: matplotlib.colors.to_hex(shade) for rate, shade in zip(ordered, shades, strict=True)}


def rate_handles(colors: dict[float, str]) -> list[Line2D]:
    """Legend entries for the colours of learning rates, under a heading; at most `_MOST_RATES` of them."""
    some = np.linspace(0, len(colors) - 1, min(len(colors), _MOST_RATES)).round()
    shown = [list(colors.items())[int(i)] for i in some]
    patch: dict[str, Any] = {"linestyle": "", "marker": "s", "markersize": 8}
    return [
        Line2D([], [], linestyle="", label="learning rate"),
        *(Line2D([], [], color=color, label=f"{rate:g}", **patch) for rate, color in shown),
    ]


def error_bars(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> np.ndarray:
    """How far N intervals reach below and above their values, [2, N]; rounding may put a value outside."""
    low_N, high_N = np.array(intervals, float).reshape(-1, 2).T
    return np.maximum(0.0, [np.asarray(values) - low_N, high_N - np.asarray(values)])


def logarithmic(axes: Axes, which: str = "x") -> None:
    """A logarithmic axis with plain numbers, once its values are drawn; linear where none is positive."""
    if not np.isfinite(axes.dataLim.minposx if which == "x" else axes.dataLim.minposy):
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# Apart for the colour-blind (Okabe and Ito), and in grey by marker, dashes and lightness.
_COLUMN_COLORS = ("#0072b2", "#e69f00", "#000000", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#999999")
_COLUMN_MARKERS = "osD^vPX*"
_LEGEND_CHARACTERS = 120  # that fit below a figure
_COLUMN_DASHES = ("-", "--", ":", "-.")


def columns_legend(figure: Figure, labels: Iterable[str], styles: Iterable[dict[str, Any]]) -> None:
    """The legend of a figure's columns below its panels, in as many rows as the labels need."""
    handles = [Line2D([], [], label=label, **style) for label, style in zip(labels, styles, strict=True)]
    widest = max((len(str(handle.get_label())) for handle in handles), default=0)
    ncols = max(1, min(4, _LEGEND_CHARACTERS // (widest + 6)))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=9)


def column_styles(count: int) -> list[dict[str, Any]]:
    """Colour, marker and dashes of so many columns.

    No two of the first 64 have the same colour and marker, nor of the first 32 the same marker and dashes.
    """
    return [
        {
            "color": color,
            "marker": _COLUMN_MARKERS[(place + turn) % len(_COLUMN_MARKERS)],
            "linestyle": _COLUMN_DASHES[(place + 2 * turn) % len(_COLUMN_DASHES)],
        }
        for turn in range(-(-count // len(_COLUMN_COLORS)))
        for place, color in enumerate(_COLUMN_COLORS)
    ][:count]

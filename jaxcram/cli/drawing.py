"""Figures into the directory of a run, as PNG and PDF. What fails is said, not raised."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcram.errors import printable
from jaxcram.results import disk

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def model_name(*models: str) -> str:
    """Models as a title names them: the last part of each path or Hub name."""
    names = (model.rstrip("/").rpartition("/")[2] for model in models)
    return printable(", ".join(names), keep="")[:80]


def keep(directory: Path, name: str, draw: Callable[[], "Figure"], *, pdf: bool = True) -> str:
    """Writes a figure into a directory; returns the path of the PNG, or why there is none.

    Args:
        directory: of the run.
        name: of the files, without suffix.
        draw: makes the figure; it is called once.
        pdf: write a PDF beside the PNG.
    """
    # Importing matplotlib fails if MPLBACKEND names a missing backend, such as a notebook's.
    os.environ["MPLBACKEND"] = "agg"
    try:
        from jaxcram.figures import style

        figure = draw()
        disk.replace(directory / f"{name}.png", style.png(figure))
        if pdf:
            disk.replace(directory / f"{name}.pdf", style.pdf(figure))
        return str(directory / f"{name}.png") + (" (and .pdf)" if pdf else "")
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return f"could not be drawn: {printable(why, keep='')}"

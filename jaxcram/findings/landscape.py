"""Accuracy around the trajectories of a few lanes: of the first texts, each its lane that got furthest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import landscape
from jaxcram.analysis.spread import Column
from jaxcram.errors import UserError
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXTS = 3


def _rows(source: Source) -> list[dict[str, Any]]:
    model, rows = source.model().decoder, []
    for sample_id in sorted({lane["sample_id"] for lane in source.lanes})[:TEXTS]:
        lane = source.lane(sample_id).exact()
        if not len(lane.points_SxKxD):
            continue
        points = lane.points_SxKxD, lane.prefix_S, lane.target_T
        if found := landscape.measure(model, *points, landscape.Grid(size=source.grid)):
            rows.append({**vars(lane.job), "basins": landscape.rows(found), "landscape": [found]})
    return rows


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    return landscape.summarise([row["basins"] for row in rows], [row["text"] for row in rows])


def _around(columns: Sequence[Column]) -> tuple[landscape.Landscape, str]:
    """The first lane that has a landscape, and its name."""
    rows = [(column, row) for column in columns for row in column.rows]
    if not rows:
        raise UserError("no lane walks far enough for a landscape: it needs three different embeddings")
    column, row = rows[0]
    return row["landscape"][0], f"{column.label}, sample {row['sample_id']}, lr {row['learning_rate']:g}"


def _landscape_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.landscape import landscape_figure

    return landscape_figure(*_around(columns))


def _basins_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.landscape import basins_figure

    _around(columns)  # or there is nothing to draw
    return basins_figure({one.label: [row["basins"] for row in one.rows] for one in columns if one.rows})


def _files(columns: Sequence[Column]) -> dict[str, bytes]:
    from jaxcram.figures.landscape import walk_gif

    return {"walk.gif": walk_gif(*_around(columns))} if any(column.rows for column in columns) else {}


LANDSCAPE = Analysis(
    "landscape",
    _rows,
    _summary,
    report.landscape_lines,
    {"landscape": _landscape_figure, "basins": _basins_figure},
    _files,
    by_lane=False,
    default=False,
)

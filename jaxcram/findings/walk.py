"""The walk of every lane: components, growth with the prefix, jumps; ours and as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import walk
from jaxcram.analysis.spread import Column
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rows(source: Source) -> list[dict[str, Any]]:
    if not source.stores_trajectories:
        return []
    return [
        {**vars(lane.job), **walk.walk(lane.points_SxKxD, lane.prefix_S, lane.steps_S, lane.exact_S)}
        for lane in source.each_lane()
    ]


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return walk.summary(rows, [row["text"] for row in rows])


def _paths(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.walk import path_figure

    return path_figure([row for column in columns for row in column.rows])


def _components(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.walk import components_figure

    return components_figure(columns)


def _jumps(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.walk import jumps_figure

    return jumps_figure(columns)


WALK = Analysis(
    "walk",
    _rows,
    _summary,
    report.walk_lines,
    {"walk": _paths, "pca99": _components, "jumps": _jumps},
)

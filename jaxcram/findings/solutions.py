"""Solutions of one prefix: by several learning rates from one initial embedding, and by several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import solutions
from jaxcram.analysis.spread import Column, Spread
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDENESS = ("seeds", "set_pca99", "matched_pca99", "trajectory_pca99")


def found(source: Source) -> list[solutions.Solution]:
    """The solutions of all lanes of a run; none where trajectories were not kept."""
    if not source.stores_trajectories:
        return []
    return [
        solution
        for lane in source.each_lane()
        for solution in solutions.of_lane(
            lane.job, lane.points_SxKxD, lane.prefix_S, lane.exact_S, lane.gain_S, lane.start_KxD
        )
    ]


def _rates(source: Source) -> list[dict[str, Any]]:
    if len({lane["learning_rate"] for lane in source.lanes}) < 2:
        return []
    return solutions.groups(found(source))


def _seeds(source: Source) -> list[dict[str, Any]]:
    if len({lane["seed"] for lane in source.lanes}) < 3:
        return []
    return solutions.wideness(found(source))


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return solutions.summary(rows, [row["text"] for row in rows])


def _wideness(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the texts, learning rates and prefixes."""
    means = {name: dataclasses.asdict(Spread.of(row[name] for row in rows)) for name in _WIDENESS}
    return {"prefixes": len(rows), **means}


def _solutions_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.solutions import solutions_figure

    return solutions_figure(columns)


def _wideness_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.solutions import wideness_figure

    return wideness_figure([row for column in columns for row in column.rows])


SOLUTIONS = Analysis(
    "solutions",
    _rates,
    _summary,
    report.solutions_lines,
    {"solutions": _solutions_figure},
    by_lane=False,
)
SEEDS = Analysis("seeds", _seeds, _wideness, report.seeds_lines, {"seeds": _wideness_figure}, by_lane=False)

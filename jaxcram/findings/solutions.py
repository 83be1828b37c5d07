"""Solutions of one prefix: by several learning rates from one initial embedding, and by several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import interval, solutions
from jaxcram.analysis.spread import Column, Spread
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {"learning_rate": "", "seed": ", across seeds"}  # what a column's label says
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


def differing(source: Source) -> list[str]:
    """Of `solutions.ACROSS`, what the lanes of a run differ in."""
    return [name for name in solutions.ACROSS if len({lane[name] for lane in source.lanes}) > 1]


def split(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by what the solutions of each differ in, which they say as `across`."""
    return {name: [row for row in rows if row["across"] == name] for name in solutions.ACROSS}


def split_columns(columns: Sequence[Column]) -> list[Column]:
    """For a figure: of each column those rows that are across learning rates, then those across seeds."""
    found = [
        column._replace(label=column.label + _LABELS[name], rows=rows)
        for column in columns
        for name, rows in split(column.rows).items()
    ]
    return [column for column in found if column.rows] or list(columns)


def _groups(source: Source) -> list[dict[str, Any]]:
    names = differing(source)
    kept = found(source) if names else []
    return [{"across": name, **row} for name in names for row in solutions.groups(kept, name)]


def _seeds(source: Source) -> list[dict[str, Any]]:
    if len({lane["seed"] for lane in source.lanes}) < 3:
        return []
    return solutions.wideness(found(source))


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Across learning rates; and `across_seeds`, the same of seeds."""
    rates, seeds = (solutions.summary(some, [row["text"] for row in some]) for some in split(rows).values())
    return {**rates, "across_seeds": seeds}


def _wideness(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over texts, learning rates and prefixes; and how many more components sets have than paths."""
    means = {name: dataclasses.asdict(Spread.of(row[name] for row in rows)) for name in _WIDENESS}
    texts = [row["text"] for row in rows]
    minus = {
        f"{name}_minus_trajectory": interval.spread(
            [row[f"{name}_pca99"] - row["trajectory_pca99"] for row in rows], texts
        )
        for name in ("set", "matched")
    }
    return {"prefixes": len(rows), **means, **minus}


def _solutions_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.solutions import solutions_figure

    return solutions_figure(split_columns(columns))


def _wideness_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.solutions import wideness_figure

    return wideness_figure([row for column in columns for row in column.rows])


SOLUTIONS = Analysis(
    "solutions",
    _groups,
    _summary,
    report.solutions_lines,
    {"solutions": _solutions_figure},
    by_lane=False,
)
SEEDS = Analysis("seeds", _seeds, _wideness, report.seeds_lines, {"seeds": _wideness_figure}, by_lane=False)

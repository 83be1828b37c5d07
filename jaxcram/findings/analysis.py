"""The protocol of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxcram.analysis.spread import Column
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(NamedTuple):
    """One analysis of runs: an entry of `jaxcram.findings.registry`.

    Attributes:
        name: of the analysis, its entry in analysis.json, and its figure's files.
        rows: what it finds in one run, as rows. With `by_lane` each is of one lane and has its `sample_id`,
            `learning_rate` and `seed`. Arrays are for summary and figure; other values appear in `lanes`.
        summary: rows of one column, or of all, as values by name, which JSON takes.
        lines: (label, cell) of each line of the table, from a summary.
        figure: from the columns; None draws none.
        by_lane: rows are of lanes, and columns are learning rates of runs; otherwise columns are runs.
        default: whether it runs unless analyses are named; set it False for those that take minutes.
    """

    name: str
    rows: Callable[[Source], list[dict[str, Any]]]
    summary: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]
    lines: Callable[[Mapping[str, Any]], list[tuple[str, str]]]
    figure: Callable[[Sequence[Column]], Figure] | None = None
    by_lane: bool = True
    default: bool = True

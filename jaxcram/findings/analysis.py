"""The protocol of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxcram.analysis.spread import Column
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(NamedTuple):
    """One analysis of runs: an entry of `jaxcram.findings.registry`.

    Attributes:
        name: of the analysis, and its entry in analysis.json.
        rows: what it finds in one run, as rows. With `by_lane` each is of one lane and has its `sample_id`,
            `learning_rate` and `seed`. Arrays are for summary and figure; other values appear in `lanes`.
        summary: rows of one column, or of all, as values by name, which JSON takes.
        lines: (label, cell) of each line of the table, from a summary.
        figures: by name, also of the files, each drawn from the columns.
        files: other files from the columns, such as an animation: contents by name.
        by_lane: rows are of lanes, and columns are learning rates of runs; otherwise columns are runs.
        default: whether it runs unless analyses are named; set it False for those that take minutes.
        records: its rows as JSON and CSV have them, where these are not the rows; only of whole runs.
    """

    name: str
    rows: Callable[[Source], list[dict[str, Any]]]
    summary: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]
    lines: Callable[[Mapping[str, Any]], list[tuple[str, str]]]
    figures: Mapping[str, Callable[[Sequence[Column]], Figure]] = MappingProxyType({})
    files: Callable[[Sequence[Column]], Mapping[str, bytes]] | None = None
    by_lane: bool = True
    default: bool = True
    records: Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]] | None = None

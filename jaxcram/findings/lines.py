"""Accuracy on the straight lines between the solutions of the first texts, across learning rates or seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcram import report
from jaxcram.analysis import interval
from jaxcram.analysis.accuracy import accuracies
from jaxcram.analysis.lines import lines
from jaxcram.analysis.solutions import Solution
from jaxcram.analysis.spread import Column
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.solutions import differing, found, split, split_columns
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXTS = 4


def _rows(source: Source) -> list[dict[str, Any]]:
    names = differing(source)
    if not names:
        return []
    solutions = found(source)
    texts = sorted({solution.job.sample_id for solution in solutions})[:TEXTS]
    targets = {sample_id: source.lane(sample_id).target_T for sample_id in texts}
    model = source.model().decoder

    def accuracy(solution: Solution, points_PxKxD: np.ndarray) -> np.ndarray:
        target_T = targets[solution.job.sample_id][: solution.tokens]
        return accuracies(model, points_PxKxD, target_T)

    kept = [one for one in solutions if one.job.sample_id in targets]
    return [{"across": name, **row} for name in names for row in lines(kept, accuracy, across=name)]


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the lines between learning rates; and `across_seeds`, the same of those between seeds."""
    rates, seeds = map(_means, split(rows).values())
    return {**rates, "across_seeds": seeds}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the lines: of the lowest accuracy, and of the share of the way above 0.9."""
    texts = [row["text"] for row in rows]
    means = {name: interval.spread([row[name] for row in rows], texts) for name in ("least", "above")}
    return {"lines": len(rows), "texts": len(set(texts)), **means}


def _figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.solutions import lines_figure

    return lines_figure(split_columns(columns))


LINES = Analysis(
    "lines", _rows, _summary, report.lines_lines, {"lines": _figure}, by_lane=False, default=False
)

"""Capacity in bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import capacity
from jaxcram.analysis.spread import Column
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rows(source: Source) -> list[dict[str, Any]]:
    return capacity.capacities(source.rows(capacity.COLUMNS))


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return dataclasses.asdict(capacity.capacity(rows))


def _figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.capacity import capacity_figure

    return capacity_figure(columns)


CAPACITY = Analysis("capacity", _rows, _summary, report.capacity_lines, {"capacity": _figure})

"""Horizon, gain and trajectory of every lane, ours and as published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxcram import report
from jaxcram.analysis.spread import Spread
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source
from jaxcram.results.table import JOB_COLUMNS

_OURS = {  # name here -> name in a lane of a summary
    "horizon": "horizon",
    "information_gain_bits": "information_gain_bits",
    "trajectory_length": "trajectory_length",
    "pca99": "trajectory_components",
}
_PUBLISHED = {**_OURS, "horizon": "tokens"}


def _rows(source: Source) -> list[dict[str, Any]]:
    return [
        {
            **{name: lane[name] for name in JOB_COLUMNS},
            "steps": lane["steps"],
            **{name: lane.get(of_lane) for name, of_lane in _OURS.items()},
            "as_published": {name: lane["as_published"][of_lane] for name, of_lane in _PUBLISHED.items()},
        }
        for lane in source.lanes
    ]


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "lanes": len(rows),
        **_means(rows),
        "as_published": _means([row["as_published"] for row in rows]),
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: dataclasses.asdict(Spread.of(row[name] for row in rows)) for name in _OURS}


TRAJECTORY = Analysis("trajectory", _rows, _summary, report.trajectory_lines)

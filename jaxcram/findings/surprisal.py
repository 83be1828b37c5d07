"""Surprisal against marginal steps, with and without the stages that took no step.

A stage has no step of its own where the embedding of the stage before already had its token right. The
published procedure stepped before it measured, so there such a stage has one step: 9 to 23% of the published
exact stages do, and their tokens have a mean surprisal of 0.6 to 0.8 bits, those of the others 4 to 5. In
both these stages have the lowest rank, so published figures compare with those that include them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcram import report
from jaxcram.analysis import surprisal
from jaxcram.analysis.spread import Column
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rows(source: Source) -> list[dict[str, Any]]:
    return [
        {
            "sample_id": int(lane.sample_id[0]),
            "learning_rate": float(lane.learning_rate[0]),
            "seed": int(lane.seed[0]),
            "spearman": surprisal.spearman(lane.surprisal, lane.cost),
            "stages": lane,
        }
        for lane in surprisal.stage_costs(source.rows(surprisal.COLUMNS)).by_lane()
    ]


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stages = surprisal.of_texts([row["stages"] for row in rows], [row["text"] for row in rows])
    stepped = stages.where(stages.cost > 0)
    return {
        **dataclasses.asdict(surprisal.correlation(stages)),
        "zero_step_stages": int(np.sum(stages.cost == 0)),
        "without_zero_steps": dataclasses.asdict(surprisal.correlation(stepped)),
    }


def _figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.surprisal import surprisal_figure

    return surprisal_figure(columns)


SURPRISAL = Analysis("surprisal", _rows, _summary, report.surprisal_lines, {"surprisal": _figure})

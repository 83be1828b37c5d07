"""Embeddings that keep only some principal components of their trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import reconstruction
from jaxcram.analysis.spread import Column
from jaxcram.errors import UserError
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rows(source: Source) -> list[dict[str, Any]]:
    model, rows = source.model().decoder, []
    for whole in source.each_lane():
        lane = whole.exact()
        if not len(lane.points_SxKxD):
            continue
        tokens, passes = lane.bucket_Sx2[-1].tolist()
        target_T = lane.target_T[: lane.prefix_S[-1]]
        found = reconstruction.measure(model, lane.points_SxKxD, target_T, (tokens, passes))
        at_99 = next(row for row in found if row["components"] == row["pca99"])
        measures = {name: at_99[name] for name in ("tf_accuracy", "exact_accuracy")}
        first_wrong = 0 in at_99["tf_wrong"]
        rows.append(
            {**vars(lane.job), "at_pca99": {**measures, "first_wrong": first_wrong}, "rebuilt": found}
        )
    return rows


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    return reconstruction.summarise([row["rebuilt"] for row in rows], [row["text"] for row in rows])


def _figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.components import components_figure

    lanes = [row["rebuilt"] for column in columns for row in column.rows]
    if not lanes:
        raise UserError("no lane has an exact stage, so there is no embedding to rebuild")
    return components_figure(lanes, ", ".join(column.label for column in columns))


RECONSTRUCTION = Analysis(
    "reconstruction", _rows, _summary, report.reconstruction_lines, {"components": _figure}, default=False
)

"""Accuracy around the trajectories of a few lanes: of the first texts, each its lane that got furthest.

Only lanes that walk far enough count: a landscape needs three different embeddings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.analysis import landscape
from jaxcram.analysis.spread import Column
from jaxcram.errors import UserError
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Lane, Source
from jaxcram.results.table import JOB_COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXTS = 3


def _rows(source: Source) -> list[dict[str, Any]]:
    return list(itertools.islice(_of_texts(source), TEXTS))


def _of_texts(source: Source) -> Iterator[dict[str, Any]]:
    """A row for each text that has one, measured when it is asked for."""
    model, grid = source.model().decoder, landscape.Grid(size=source.grid)
    for sample_id in sorted({lane["sample_id"] for lane in source.lanes}):
        for lane in map(Lane.exact, source.of_text(sample_id)):
            found = landscape.measure(model, lane.points_SxKxD, lane.prefix_S, lane.target_T, grid)
            if found is not None:
                yield {**vars(lane.job), "basins": landscape.rows(found), "landscape": [found]}
                break


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As of `landscape.summarise`; and `of_lanes`, what was measured of each."""
    if not rows:
        return {}
    found = landscape.summarise([row["basins"] for row in rows], [row["text"] for row in rows])
    return {**found, "of_lanes": [_measured(row) for row in rows]}


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    job = {name: row[name] for name in ("run", *JOB_COLUMNS)}
    names = {
        "stages": "stage_index",
        "tokens": "stage_seq_len",
        "basins": "basin_share",
        "own_accuracy": "own_accuracy",
    }
    return job | {name: [stage[of_row] for stage in row["basins"]] for name, of_row in names.items()}


def _records(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each stage that has a mesh."""
    return [
        {name: value for name, value in row.items() if name not in ("basins", "landscape")} | stage
        for row in rows
        for stage in row["basins"]
    ]


def _around(columns: Sequence[Column]) -> tuple[landscape.Landscape, str]:
    """The first lane that has a landscape, and its name."""
    rows = [(column, row) for column in columns for row in column.rows]
    if not rows:
        raise UserError("no lane walks far enough for a landscape: it needs three different embeddings")
    column, row = rows[0]
    return row["landscape"][0], f"{column.label}, sample {row['sample_id']}, lr {row['learning_rate']:g}"


def _landscape_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.landscape import landscape_figure

    return landscape_figure(*_around(columns))


def _basins_figure(columns: Sequence[Column]) -> Figure:
    from jaxcram.figures.landscape import basins_figure

    _around(columns)  # or there is nothing to draw
    return basins_figure({one.label: [row["basins"] for row in one.rows] for one in columns if one.rows})


def _files(columns: Sequence[Column]) -> dict[str, bytes]:
    from jaxcram.figures.landscape import walk_gif

    return {"walk.gif": walk_gif(*_around(columns))} if any(column.rows for column in columns) else {}


LANDSCAPE = Analysis(
    "landscape",
    _rows,
    _summary,
    report.landscape_lines,
    {"landscape": _landscape_figure, "basins": _basins_figure},
    _files,
    by_lane=False,
    default=False,
    records=_records,
)

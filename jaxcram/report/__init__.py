"""Text output of a run: outline, progress, table and example."""

from jaxcram.report.analysis import (
    ANALYSIS_NOTES,
    capacity_lines,
    columns_side_by_side,
    landscape_lines,
    reconstruction_lines,
    surprisal_lines,
    trajectory_lines,
)
from jaxcram.report.bar import Bar
from jaxcram.report.duration import duration
from jaxcram.report.evaluation import evaluation, generation
from jaxcram.report.geometry import lines_lines, seeds_lines, solutions_lines, walk_lines
from jaxcram.report.knockout import knockout
from jaxcram.report.outline import outline
from jaxcram.report.reconstruction import reconstruction
from jaxcram.report.sample import sample
from jaxcram.report.table import notes, speed, table

__all__ = [
    "ANALYSIS_NOTES",
    "Bar",
    "capacity_lines",
    "columns_side_by_side",
    "duration",
    "evaluation",
    "generation",
    "knockout",
    "landscape_lines",
    "lines_lines",
    "notes",
    "outline",
    "reconstruction",
    "reconstruction_lines",
    "sample",
    "seeds_lines",
    "solutions_lines",
    "speed",
    "surprisal_lines",
    "table",
    "trajectory_lines",
    "walk_lines",
]

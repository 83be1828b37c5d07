"""Text output of a run: outline, progress, table and example."""

from jaxcram.report.bar import Bar
from jaxcram.report.duration import duration
from jaxcram.report.evaluation import evaluation, generation
from jaxcram.report.knockout import knockout
from jaxcram.report.outline import outline
from jaxcram.report.reconstruction import reconstruction
from jaxcram.report.sample import sample
from jaxcram.report.table import notes, speed, table

__all__ = [
    "Bar",
    "duration",
    "evaluation",
    "generation",
    "knockout",
    "notes",
    "outline",
    "reconstruction",
    "sample",
    "speed",
    "table",
]

"""What a person sees of a run: its outline, its progress, and what came of it. Values in, text out."""

from jaxcram.report.bar import Bar
from jaxcram.report.duration import duration
from jaxcram.report.outline import outline
from jaxcram.report.sample import sample
from jaxcram.report.table import notes, speed, table

__all__ = ["Bar", "duration", "notes", "outline", "sample", "speed", "table"]

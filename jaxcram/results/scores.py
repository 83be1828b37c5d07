"""The columns of an evaluation's scores.

A row is one score of one ending of one item (`jaxcram.evaluate.multiple_choice`), with the lane whose
embedding was used.
"""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

COLUMNS: Columns = {
    **JOB_COLUMNS,
    "score_index": ("int64", True, "number of the row in its item, from 0"),
    "score": ("string", True, "name of the score: what is read, and what is scored of it"),
    "ending": ("int64", True, "number of the ending, from 0"),
    "label": ("int64", True, "number of the right ending"),
    "log_prob": ("float64", True, "sum over the scored tokens, nats"),
    "tokens": ("int64", True, "how many tokens are scored"),
    "characters": ("int64", True, "characters of what is scored, of the text or of the ending"),
    "converged": ("bool", True, "whether the item's whole context is exact"),
    "subject": ("string", False, "part of the task that the item belongs to"),
}

SCORES = ShardFormat(
    "scores", COLUMNS, index="score_index", remedy="remove it and start the evaluation's command again"
)

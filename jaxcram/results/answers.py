"""The columns of a generative evaluation's answers.

A row is the answer to one item in one mode (`jaxcram.evaluate.generative`), with the lane whose embedding was
used for the item; the answer without memory has it too, so that both are found together.
"""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

COLUMNS: Columns = {
    **JOB_COLUMNS,
    "answer_index": ("int64", True, "number of the row in its item, from 0"),
    "mode": ("string", True, "what is memory and what is text: few_shot, full_prefix, random or none"),
    "cram_id": (
        "int64",
        False,
        "sample_id of the crammed text, in the run that crammed it; null if none was",
    ),
    "text": ("string", True, "what was generated"),
    "letter": ("string", False, "the answer, the first of A to D in the text; null if there is none"),
    "label": ("int64", True, "index of the right letter, from 0"),
    "right": ("bool", True, "whether the answer is right"),
    "valid": ("bool", True, "whether there is an answer"),
    "converged": ("bool", False, "whether the whole crammed text is exact; null if none was crammed"),
    "subject": ("string", False, "part of the task that the item belongs to"),
}

ANSWERS = ShardFormat(
    "answers", COLUMNS, index="answer_index", remedy="remove it and start the evaluation's command again"
)

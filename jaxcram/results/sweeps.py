"""The columns of a knockout run: what each condition does to each item, and where attention goes."""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

_REMEDY = "remove it and start the knockout's command again"

SWEEP_COLUMNS: Columns = {
    **JOB_COLUMNS,
    "condition_index": ("int64", True, "number of the row in its item, from 0"),
    "condition": (
        "string",
        True,
        "layers at which the text does not see the memory: none, all, or as in 0-3,7; base: no memory",
    ),
    "own_row": ("bool", True, "whether the memory is barred from itself there too, as published code does"),
    "tf_accuracy": (
        "float64",
        False,
        "teacher-forced accuracy of the crammed text, 0 to 1; null without memory",
    ),
    "log_probs": ("numbers", False, "of each ending as scored, nats; null without items"),
    "right_sum": ("bool", False, "whether the item is answered rightly by the sum; null without items"),
    "right_token": ("bool", False, "the same by the mean log-probability per token, as published"),
    "right_character": ("bool", False, "the same per character"),
    "converged": ("bool", True, "whether the whole crammed text is exact"),
}

SWEEP = ShardFormat("sweep", SWEEP_COLUMNS, index="condition_index", remedy=_REMEDY)

MASS_COLUMNS: Columns = {
    **JOB_COLUMNS,
    "layer": ("int64", True, "number of the layer, from 0"),
    "memory_mass": (
        "float64",
        True,
        "attention that the text gives to the memory, mean over heads and queries, 0 to 1",
    ),
    "bos_mass": (
        "float64",
        False,
        "the same of the first token, BOS if the tokenizer adds it, in the text alone; null of one token",
    ),
}

MASSES = ShardFormat("masses", MASS_COLUMNS, index="layer", remedy=_REMEDY)

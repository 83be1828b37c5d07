"""The columns of a run's curves.

A row is a point: what a pass measured of a lane, every `log_every` optimiser steps and when the lane ended.
"""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

COLUMNS: Columns = {
    **JOB_COLUMNS,
    "point_index": ("int64", True, "number of the point in its lane, from 0"),
    "step": ("int64", True, "optimiser steps that the lane had taken when this was measured"),
    "prefix": ("int64", True, "n, the target tokens of the stage that was measured"),
    "horizon": (
        "int64",
        True,
        "tokens of the longest exact prefix: the longest so far, in full mode the one measured here",
    ),
    "loss": ("float64", False, "mean of the objective over the n tokens; null where it is not finite"),
    "accuracy": ("float64", True, "teacher-forced accuracy over the n tokens, 0 to 1"),
    "step_learning_rate": ("float64", True, "learning rate that the schedule gives to the next step"),
    "embedding_norm": (
        "float64",
        False,
        "Euclidean norm of the K x D numbers of the measured memory embedding; null where it is not finite",
    ),
}

CURVES = ShardFormat(
    "curves",
    COLUMNS,
    index="point_index",
    remedy="remove it, and the files of its lanes in rows, and start the run's command again",
)

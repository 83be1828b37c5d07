"""The columns of a table of reconstructions: a row a lane, whose embedding was decoded in three ways.

`tf` is teacher forcing, `exact` and `cached` are the two greedy decoders (`jaxcram.decode`).
"""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

DECODERS = {
    "tf": "under teacher forcing",
    "exact": "decoding greedily in the shapes of cramming",
    "cached": "decoding greedily with a key-value cache",
}


def _of_decoder(name: str, how: str) -> Columns:
    return {
        f"{name}_accuracy": ("float64", False, f"share of the tokens right {how}, 0 to 1"),
        f"{name}_wrong": ("int64", False, f"tokens wrong {how}"),
        f"{name}_first_miss": (
            "int64",
            False,
            f"index of the first wrong token {how}; null if all are right",
        ),
        f"{name}_after_first_miss": (
            "float64",
            False,
            f"share of the tokens after that one right {how}; null where nothing is wrong or nothing "
            "follows, and where full_threshold is below 1 and yet asks for all tokens",
        ),
        f"{name}_ids": ("ids", False, f"the tokens that came back {how}"),
    }


COLUMNS: Columns = {
    **JOB_COLUMNS,
    "lane_index": ("int64", True, "number of the row, from 0"),
    "setup": ("string", True, "full_0.99 (full cramming stopped at 99%), full or progressive"),
    "run": ("string", True, "directory of the run that crammed it"),
    "model_checkpoint": ("string", True, "directory or Hub name of the model"),
    "num_compression_tokens": ("int64", True, "K, the memory embeddings"),
    "num_input_tokens": ("int64", True, "tokens of the whole target"),
    "tokens": (
        "int64",
        True,
        "tokens that the embedding is to reproduce: of the whole target, in progressive mode of the horizon; "
        "all that follows is about these, and null where there are none",
    ),
    "enough_tokens": ("int64", True, "tokens of the target that have to be right for the lane to converge"),
    "converged": ("bool", True, "whether they were; in progressive mode whether the whole target is exact"),
    "steps_taken": ("int64", True, "optimiser steps of the lane"),
    "stop_reason": ("string", False, "why the lane ended"),
    **{column: value for name, how in DECODERS.items() for column, value in _of_decoder(name, how).items()},
    "margins": (
        "floats",
        False,
        "logit of each token minus the largest other one under teacher forcing; positive where it is right",
    ),
    "least_margin": ("float64", False, "the smallest of them within the exact prefix; null if that is empty"),
    "target_ids": ("ids", False, "the tokens that were to come back"),
}

RECONSTRUCTION = ShardFormat(
    "reconstruction", COLUMNS, index="lane_index", remedy="start the command that wrote it again"
)

"""The columns of a run's rows.

A row is a stage. Names follow the published trajectories (`mrsndmn/progressive_cramming_trajectories`)
wherever that data set has the column. Values that are constant over a run are repeated in every row, so that
tables of several runs can be concatenated; Parquet's dictionaries make that cheap. Long values that are
constant over a lane are only in the lane's first row.
"""

from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import JOB_COLUMNS, Columns

COLUMNS: Columns = {
    **JOB_COLUMNS,
    "stage_index": ("int64", True, "number of the stage in its lane, from 0"),
    "stage_seq_len": ("int64", True, "n, the target tokens of this stage"),
    "steps": ("int64", True, "optimiser steps of this stage"),
    "steps_taken": ("int64", True, "optimiser steps of the lane up to the end of this stage"),
    "final_loss": (
        "float64",
        False,
        "the lane's loss over the n tokens at the stage's last measurement; published: a mean over the batch",
    ),
    "final_convergence": ("float64", True, "teacher-forced accuracy over the n tokens then, 0 to 1"),
    "exact": ("bool", True, "whether all n tokens were right; false only where a lane was stopped"),
    "information_gain_bits": (
        "float64",
        False,
        "total cross-entropy of the n tokens without minus with the embedding; token 0 is in neither",
    ),
    "surprisal_bits": ("float64", False, "bits of the tokens that the stage added, without the embedding"),
    "exact_prefix": ("int64", False, "tokens of the longest exact prefix within the stage's n"),
    "embedding": ("embedding", False, "the measured memory embedding, [K][D]; null where not kept"),
    "vector_norm": ("float64", False, "Euclidean norm of that embedding, mean over its K vectors"),
    "relative_norm": (
        "float64",
        False,
        "vector_norm over the mean Euclidean norm of the model's token embeddings, as they enter the decoder",
    ),
    "trajectory_length": (
        "float64",
        False,
        "length of the path through the embeddings of the stages up to this one, from the first stage's; "
        "null in full mode and where embeddings are not kept",
    ),
    "trajectory_components": (
        "int64",
        False,
        "PCA 99%: fewest principal components with 99% of the variance of those embeddings; "
        "last exact row and last row of a lane only",
    ),
    "stop_reason": ("string", False, "why the lane ended; last row of a lane only"),
    "bucket_tokens": ("int64", False, "padded positions T of the passes that measured this stage"),
    "bucket_lanes": ("int64", False, "lanes B of the passes that measured this stage"),
    "initialization_embedding": (
        "embedding",
        False,
        "embedding at step 0, [K][D]; first row of a lane only",
    ),
    "text": (
        "string",
        False,
        "the whole target's text, first row of a lane only; published: the stage's prefix, in every row",
    ),
    "target_ids": ("ids", False, "the target's tokens; first row of a lane only"),
    "num_input_tokens": ("int64", False, "tokens of the whole target; published: of the stage's prefix"),
    "num_compression_tokens": ("int64", False, "K, the memory embeddings"),
    "hidden_size": ("int64", False, "D, the width of the model"),
    "loss_type": ("string", False, "the objective"),
    "dtype": ("string", False, "precision of the model's weights and of its arithmetic"),
    "model_checkpoint": ("string", False, "directory or Hub name of the model"),
    "weights_digest": ("string", False, "of the model's weights, however they are stored"),
    "max_optimization_steps_per_sample": ("int64", False, "cap on a lane's steps"),
    "convergence_threshold": ("float64", False, "accuracy at which a stage counts as converged"),
    "platform": ("string", False, "cpu, gpu or tpu"),
    "device_kind": ("string", False, "the device as its vendor names it"),
    "mesh": ("string", False, "devices along each axis of the mesh"),
}

ROWS = ShardFormat("rows", COLUMNS, index="stage_index", remedy="remove it and start the run's command again")

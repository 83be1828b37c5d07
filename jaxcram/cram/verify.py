"""Every claimed token decoded back: teacher forcing, exact and cached greedy decoding of finished lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcram import decode
from jaxcram.cram import counted
from jaxcram.cram.rows import Outcome
from jaxcram.models.decoder import Decoder


def decode_outcomes(
    model: Decoder, outcomes: list[Outcome], tokens: dict[int, np.ndarray]
) -> dict[int, dict[str, np.ndarray]]:
    """Decode the embeddings of outcomes, each in the shape in which it was measured.

    Args:
        model: the frozen decoder.
        outcomes: finished lanes; those without an embedding are left out.
        tokens: the target of every sample, int32 [n], by sample id.

    Returns:
        By position in `outcomes`: "teacher_forced", "exact" and "cached" tokens, `decode_tokens` of each.
    """
    for sample_id, target in tokens.items():
        model.config.require_ids(target, f"sample {sample_id}")
    kept = {
        i: outcome.row
        for i, outcome in enumerate(outcomes)
        if outcome.row is not None and outcome.row["embedding"] is not None
    }
    if not kept:
        return {}
    decoded = decode.verify(
        model,
        np.stack([np.asarray(row["embedding"], np.float32) for row in kept.values()]),
        [tokens[outcomes[i].job.sample_id][: outcomes[i].decode_tokens] for i in kept],
        [(row["bucket_tokens"], row["bucket_lanes"]) for row in kept.values()],
    )
    return dict(zip(kept, decoded, strict=True))


def lane_summary(
    outcome: Outcome, decoded: Mapping[str, np.ndarray] | None, target: np.ndarray | None
) -> dict[str, Any]:
    """One entry of `lanes` in summary.json.

    Accuracies are shares of the `decode_tokens` first tokens; `*_first_mismatch` is the index of the first
    wrong one. They are null for a lane without an exact prefix, or whose embedding was not kept. `tf_tokens`
    are the tokens of the target that were right when the embedding was measured.
    """
    row = outcome.row
    right_tokens = 0 if row is None else round(row["final_convergence"] * row["stage_seq_len"])
    summary = {
        "sample_id": outcome.job.sample_id,
        "learning_rate": outcome.job.learning_rate,
        "seed": outcome.job.seed,
        "horizon": outcome.horizon,
        "target_tokens": outcome.target_tokens,
        "decode_tokens": outcome.decode_tokens,
        "tf_tokens": right_tokens,
        "steps": outcome.steps,
        "stop_reason": outcome.stop_reason,
        **counted.figures(outcome),
    }
    for column, name in (("tf", "teacher_forced"), ("exact", "exact"), ("cached", "cached")):
        right = None
        if decoded is not None and target is not None:
            right = decoded[name] == target[: outcome.decode_tokens]
        wrong = None if right is None else np.flatnonzero(~right)
        summary[f"{column}_accuracy"] = None if right is None else float(right.mean())
        summary[f"{column}_first_mismatch"] = None if wrong is None or not len(wrong) else int(wrong[0])
    return summary

"""Every claimed token decoded back: teacher forcing, exact and cached greedy decoding of finished lanes."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from jaxcram import decode, mesh
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.rows import Outcome
from jaxcram.models.decoder import Decoder
from jaxcram.text import pad_tokens


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
    groups: dict[Bucket, list[int]] = defaultdict(list)
    embeddings: dict[int, np.ndarray] = {}
    for i, outcome in enumerate(outcomes):
        if outcome.row is not None and outcome.row["embedding"] is not None:
            groups[Bucket(outcome.row["bucket_tokens"], outcome.row["bucket_lanes"])].append(i)
            embeddings[i] = np.asarray(outcome.row["embedding"], np.float32)
    if not groups:
        return {}
    # The ordinary decoder needs no particular shape: one for all lanes, so one trace.
    shape = Bucket(max(bucket.tokens for bucket in groups), max(bucket.lanes for bucket in groups))
    devices = mesh.places(mesh.of(model))

    decoded: dict[int, dict[str, np.ndarray]] = {}
    for bucket, members in groups.items():
        seats = bucket.lanes * devices
        for start in range(0, len(members), seats):
            batch = members[start : start + seats]
            mem_SxKxD = np.zeros((shape.lanes * devices, *embeddings[batch[0]].shape), np.float32)
            mem_SxKxD[: len(batch)] = [embeddings[i] for i in batch]
            draft_SxT = np.asarray(decode.cached(model, mem_SxKxD, shape.tokens))
            target_SxT = pad_tokens([tokens[outcomes[i].job.sample_id] for i in batch], seats, bucket.tokens)
            forced_SxT = np.asarray(decode.teacher_forced(model, mem_SxKxD[:seats], target_SxT))
            exact_SxT, _ = decode.exact(model, mem_SxKxD[:seats], draft_SxT[:seats, : bucket.tokens])
            results = {"teacher_forced": forced_SxT, "exact": exact_SxT, "cached": draft_SxT}
            for seat, i in enumerate(batch):
                decoded[i] = {name: x[seat, : outcomes[i].decode_tokens] for name, x in results.items()}
    return decoded


def lane_summary(
    outcome: Outcome, decoded: dict[str, np.ndarray] | None, target: np.ndarray
) -> dict[str, Any]:
    """One entry of `lanes` in summary.json.

    Accuracies are shares of the `decode_tokens` first tokens; `*_first_mismatch` is the index of the first
    wrong one. They are null for a lane without an exact prefix, or whose embedding was not kept.
    """
    bits = outcome.row["information_gain_bits"] if outcome.row is not None else 0.0
    summary = {
        "sample_id": outcome.job.sample_id,
        "learning_rate": outcome.job.learning_rate,
        "seed": outcome.job.seed,
        "horizon": outcome.horizon,
        "target_tokens": outcome.target_tokens,
        "decode_tokens": outcome.decode_tokens,
        "steps": outcome.steps,
        "stop_reason": outcome.stop_reason,
        "information_gain_bits": bits if math.isfinite(bits) else None,
    }
    for column, name in (("tf", "teacher_forced"), ("exact", "exact"), ("cached", "cached")):
        right = None if decoded is None else decoded[name] == target[: outcome.decode_tokens]
        wrong = None if right is None else np.flatnonzero(~right)
        summary[f"{column}_accuracy"] = None if right is None else float(right.mean())
        summary[f"{column}_first_mismatch"] = None if wrong is None or not len(wrong) else int(wrong[0])
    return summary

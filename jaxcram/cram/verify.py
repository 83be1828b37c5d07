"""Every claimed token decoded back: teacher forcing, exact and cached greedy decoding of finished lanes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxcram import decode
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.rows import Outcome
from jaxcram.devices import mesh
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import pad_tokens


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
    groups: dict[Bucket, list[int]] = defaultdict(list)
    embeddings: dict[int, np.ndarray] = {}
    for i, outcome in enumerate(outcomes):
        if outcome.row is not None and outcome.row["embedding"] is not None:
            groups[Bucket(outcome.row["bucket_tokens"], outcome.row["bucket_lanes"])].append(i)
            embeddings[i] = np.asarray(outcome.row["embedding"], np.float32)
    if not groups:
        return {}
    places = mesh.places(mesh.of(model))
    drafts = _drafts(model, embeddings, groups, places)
    decoded: dict[int, dict[str, np.ndarray]] = {}
    for bucket, members in groups.items():
        for seated, mem_SxKxD in _batches(members, embeddings, bucket.lanes * places):
            targets = [tokens[outcomes[i].job.sample_id] for i in seated]
            target_SxT = pad_tokens(targets, len(seated), bucket.tokens)
            draft_SxT = np.stack([drafts[i][: bucket.tokens] for i in seated])
            forced_SxT = np.asarray(decode.teacher_forced(model, mem_SxKxD, target_SxT))
            exact_SxT, _ = decode.exact(model, mem_SxKxD, draft_SxT)
            results = {"teacher_forced": forced_SxT, "exact": exact_SxT, "cached": draft_SxT}
            for seat, i in enumerate(seated):
                decoded[i] = {name: x[seat, : outcomes[i].decode_tokens] for name, x in results.items()}
    return decoded


def _drafts(
    model: Decoder, embeddings: dict[int, np.ndarray], groups: Iterable[Bucket], places: int
) -> dict[int, np.ndarray]:
    """What the ordinary decoder makes of every embedding; as long as the longest bucket.

    It needs no particular shape, so all share one program, with no more tokens than a pass of training had.
    """
    length = max(bucket.tokens for bucket in groups)
    seats = max(1, max(bucket.tokens * bucket.lanes for bucket in groups) // length) * places
    drafts: dict[int, np.ndarray] = {}
    for seated, mem_SxKxD in _batches(list(embeddings), embeddings, seats):
        drafts |= dict(zip(seated, np.asarray(decode.cached(model, mem_SxKxD, length)), strict=True))
    return drafts


def _batches(
    members: list[int], embeddings: dict[int, np.ndarray], seats: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Members, `seats` at a time, and their embeddings [S, K, D]; the last one takes all empty seats.

    So no seat holds anything that takes exact decoding longer than the members do.
    """
    for start in range(0, len(members), seats):
        batch = members[start : start + seats]
        seated = batch + batch[-1:] * (seats - len(batch))
        yield seated, np.stack([embeddings[i] for i in seated])


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
    bits = 0.0 if row is None else row["information_gain_bits"]
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
        "information_gain_bits": bits if bits is not None and math.isfinite(bits) else None,
    }
    for column, name in (("tf", "teacher_forced"), ("exact", "exact"), ("cached", "cached")):
        right = None
        if decoded is not None and target is not None:
            right = decoded[name] == target[: outcome.decode_tokens]
        wrong = None if right is None else np.flatnonzero(~right)
        summary[f"{column}_accuracy"] = None if right is None else float(right.mean())
        summary[f"{column}_first_mismatch"] = None if wrong is None or not len(wrong) else int(wrong[0])
    return summary

"""Teacher-forced accuracy of any embeddings on one target: the points of meshes, lines, reconstructions."""

from __future__ import annotations

import numpy as np

from jaxcram import forward
from jaxcram.devices import mesh
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import pad_tokens, padded

BATCH_TOKENS = 2048  # of a pass, padding included


def correct(
    model: Decoder, points_PxKxD: np.ndarray, target_T: np.ndarray, *, batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """Which tokens of a target are predicted correctly after each of many embeddings, bool [P, T].

    Teacher-forced; a tie counts as wrong. All passes have one shape, so thousands of points are one program,
    which as many points on another target of the same padded length share. Where a margin is as small as
    rounding, this shape may decide otherwise than the one in which an embedding was crammed.

    Args:
        model: the frozen decoder.
        points_PxKxD: memory embeddings; fp32 is what the model gets.
        target_T: the tokens, int32.
        batch_tokens: tokens of a pass, padding included, unless one row for each device group has more.

    Raises:
        UserError: the target has ids that the model does not.
    """
    model.config.require_ids(target_T, "the target")
    num_points, num_tokens = len(points_PxKxD), len(target_T)
    length = min(padded(num_tokens), max(num_tokens, model.config.max_positions - points_PxKxD.shape[1] + 1))
    places = mesh.places(mesh.of(model))
    most = max(1, batch_tokens // length // places) * places
    passes = max(1, -(-num_points // most))
    rows = max(1, -(-num_points // (passes * places))) * places  # so that no pass is half empty
    tokens_BxT = pad_tokens([target_T] * rows, rows, length)
    found = []  # on the device, so that the next pass is dispatched while one runs
    for start in range(0, num_points, rows):
        batch_BxKxD = np.asarray(points_PxKxD[start : start + rows], np.float32)
        missing = rows - len(batch_BxKxD)
        filled_BxKxD = np.concatenate([batch_BxKxD, np.repeat(batch_BxKxD[-1:], missing, axis=0)])
        found.append(forward.tokens_right(model, filled_BxKxD, tokens_BxT))
    right_PxT = np.concatenate([np.zeros((0, length), bool), *map(np.asarray, found)])
    return right_PxT[:num_points, :num_tokens]


def accuracies(
    model: Decoder, points_PxKxD: np.ndarray, target_T: np.ndarray, *, batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """The share of a target's tokens that `correct` finds right after each embedding, float64 [P]."""
    return correct(model, points_PxKxD, target_T, batch_tokens=batch_tokens).mean(axis=1)

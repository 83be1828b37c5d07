"""Stages: how a lane's prefix grows, and when the lane ends.

A pass first measures the longest exact prefix, so it may complete several stages at once. The stages and the
steps of each are the same as in the token-by-token procedure, which measures every stage in a separate pass.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram.settings import StageSettings


class Stop(enum.IntEnum):
    """Why a lane ended; RUNNING if it has not."""

    RUNNING = 0
    COMPLETE = 1  # the whole target is exact
    STAGE_CAP = 2  # the cap on steps per stage is reached
    SAMPLE_CAP = 3  # the cap on steps per lane is reached
    NOT_FINITE = 4  # the loss or the gradient is NaN or infinite
    CONVERGED = 5  # not the whole target is exact, but as much is right as `full_threshold` asks for


class Progress(NamedTuple):
    """The progress of each lane; integer arrays [B].

    Attributes:
        prefix: tokens of the current stage.
        horizon: tokens of the longest stage that became exact.
        stage_steps, total_steps: optimiser steps of the current stage, and of the lane.
        stop: a `Stop`.
    """

    prefix: jax.Array
    horizon: jax.Array
    stage_steps: jax.Array
    total_steps: jax.Array
    stop: jax.Array


def longest_exact(correct_BxT: jax.Array, length_B: jax.Array) -> jax.Array:
    """Tokens of the longest prefix in which every token is correct, at most the target's length [B]."""
    wrong_BxT = ~correct_BxT
    first_wrong_B = jnp.where(jnp.any(wrong_BxT, axis=1), jnp.argmax(wrong_BxT, axis=1), correct_BxT.shape[1])
    return jnp.minimum(first_wrong_B, length_B)


def grow(progress: Progress, exact_B: jax.Array, length_B: jax.Array, settings: StageSettings) -> Progress:
    """Complete every stage that the measured exact prefix covers, and move on to the next one."""
    reached_B = (exact_B >= progress.prefix) & (progress.stop == Stop.RUNNING)
    step = settings.progressive_step
    last_B = progress.prefix + (exact_B - progress.prefix) // step * step
    last_B = jnp.where(exact_B >= length_B, length_B, last_B)
    horizon_B = jnp.where(reached_B, last_B, progress.horizon)
    return Progress(
        prefix=jnp.where(reached_B, jnp.minimum(last_B + step, length_B), progress.prefix),
        horizon=horizon_B,
        stage_steps=jnp.where(reached_B, 0, progress.stage_steps),
        total_steps=progress.total_steps,
        stop=jnp.where(reached_B & (horizon_B >= length_B), Stop.COMPLETE, progress.stop),
    )


def converge(
    progress: Progress, correct_BxT: jax.Array, length_B: jax.Array, settings: StageSettings
) -> Progress:
    """End the lanes whose accuracy over the target reaches `full_threshold`, where that is below 1."""
    if settings.full_threshold == 1.0:
        return progress
    num_tokens = correct_BxT.shape[1]
    enough_N = np.array([settings.enough(length) for length in range(num_tokens + 1)], np.int32)
    in_target_BxT = jnp.arange(num_tokens) < length_B[:, None]
    right_B = jnp.sum(correct_BxT & in_target_BxT, axis=1)
    reached_B = (progress.stop == Stop.RUNNING) & (right_B >= jnp.asarray(enough_N)[length_B])
    return progress._replace(stop=jnp.where(reached_B, Stop.CONVERGED, progress.stop))


def spend(progress: Progress, settings: StageSettings) -> Progress:
    """End the lanes that have reached a cap; only lanes that are still running afterwards may take a step."""
    running_B = progress.stop == Stop.RUNNING
    sample_cap_B = running_B & (progress.total_steps >= settings.max_steps)
    stage_cap_B = running_B & (progress.stage_steps >= settings.max_steps_per_stage)
    stop_B = jnp.where(stage_cap_B, Stop.STAGE_CAP, progress.stop)
    return progress._replace(stop=jnp.where(sample_cap_B, Stop.SAMPLE_CAP, stop_B))

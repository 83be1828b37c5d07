"""The published optimiser and schedule, with one state per lane.

AdamW with betas 0.9 / 0.9 and decoupled weight decay; linear warm-up, then cosine to `min_lr` at the cap on
steps per sample. Every lane has its own step count, hence its own position in the schedule. A lane that takes
no step keeps its embedding, moments and counts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcram.cram.settings import OptimizerSettings


def _core(settings: OptimizerSettings) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.eps),
        optax.add_decayed_weights(settings.weight_decay),
    )


def learning_rate(
    step_B: jax.Array, peak_B: jax.Array, decay_steps: int, settings: OptimizerSettings
) -> jax.Array:
    """Learning rate of the next step, after `step_B` steps, of lanes whose schedules peak at `peak_B`."""
    if settings.schedule == "constant":
        return peak_B
    warmup = settings.warmup_steps
    rise = optax.linear_schedule(0.0, 1.0, warmup) if warmup else optax.constant_schedule(1.0)
    fall = optax.cosine_decay_schedule(1.0, max(1, decay_steps - warmup))
    cosine_B = settings.min_lr + (peak_B - settings.min_lr) * fall(step_B - warmup)
    return jnp.where(step_B < warmup, peak_B * rise(step_B), cosine_B)


def init(params: Any, settings: OptimizerSettings) -> optax.OptState:
    """Initial optimiser state of N lanes; all its leaves, and those of `params`, have a leading lane axis."""
    return jax.vmap(_core(settings).init)(params)


def update(
    grad: Any, state: optax.OptState, params: Any, lr_B: jax.Array, settings: OptimizerSettings
) -> tuple[Any, optax.OptState]:
    """One AdamW step of every lane; returns the new parameters and state."""
    updates, state = jax.vmap(_core(settings).update)(grad, state, params)
    step = lambda x, u: x - jnp.expand_dims(lr_B, tuple(range(1, x.ndim))) * u  # noqa: E731
    return jax.tree.map(step, params, updates), state

"""AdamW and its schedules, as a training's settings say."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxcram.models.decoder import Decoder
from jaxcram.train.settings import PretrainSettings


def learning_rate(settings: PretrainSettings) -> optax.Schedule:
    """Linear warm-up; then cosine to a tenth, or constant and then linear to 0 (Hu et al. 2024, MiniCPM)."""
    peak, warmup = settings.learning_rate, settings.warmup
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, settings.steps, peak / 10)
    start = max(settings.final_start, warmup)
    parts = [
        optax.linear_schedule(0.0, peak, warmup),
        optax.constant_schedule(peak),
        optax.linear_schedule(peak, 0.0, settings.steps - start),
    ]
    return optax.join_schedules(parts, [warmup, start])


def make_optimizer(settings: PretrainSettings) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) on clipped gradients; norms and biases do not decay."""

    def decays(decoder: Decoder) -> Any:
        # Stacked layers: a matrix has three axes there, a norm's weight two.
        return jax.tree.map_with_path(
            lambda path, leaf: leaf.ndim > (2 if "layers" in jax.tree_util.keystr(path) else 1), decoder
        )

    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(
            learning_rate(settings), b1=0.9, b2=0.95, weight_decay=settings.weight_decay, mask=decays
        ),
    )

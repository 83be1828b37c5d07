"""The per-token loss that a lane minimises, its gradient, and whether each token is predicted correctly.

The loss of a lane is the mean of the per-token losses over its current prefix, so the gradient with respect
to a hidden state is that token's gradient times its weight. `score` returns per-token gradients from the same
sweep over the vocabulary that measures the losses. So the prefix, which determines the weights, can be chosen
afterwards, and the head needs two matrix products instead of three.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcram.cram.settings import Objective
from jaxcram.models import head


class Scores(NamedTuple):
    """Per-token measurements, with the leading axes of the hidden states.

    Attributes:
        correct: whether the true token's logit is greater than every other (a tie counts as wrong).
        nll: -log p(token) in nats, always at temperature 1.
        loss: the objective's per-token loss.
    """

    correct: jax.Array
    nll: jax.Array
    loss: jax.Array


def _token_scores(
    logits_RxV: jax.Array, targets_R: jax.Array, objective: Objective
) -> tuple[Scores, jax.Array]:
    """Scores of R tokens, and the gradients of their losses with respect to the logits."""
    token = head.compare(logits_RxV, targets_R)
    if objective.loss == "hinge":
        gap_R = objective.margin + token.other - token.true
        rival = (logits_RxV == token.other[:, None]) & ~token.is_true
        active_R = (gap_R > 0).astype(logits_RxV.dtype)
        # Tied runner-up tokens share the gradient, so that its norm does not grow with their number.
        share_R = active_R / jnp.maximum(jnp.sum(rival, axis=1), 1)
        grad_RxV = jnp.where(token.is_true, -active_R[:, None], jnp.where(rival, share_R[:, None], 0.0))
        return Scores(token.correct, token.nll, jnp.maximum(gap_R, 0.0)), grad_RxV

    temperature = objective.temperature
    scale = temperature if objective.temperature_squared else 1.0 / temperature
    loss_R, exp_RxV = token.nll, token.exp
    if temperature != 1.0:
        exp_RxV = jnp.exp(token.shifted / temperature)
        loss_R = (
            scale * temperature * (jnp.log(jnp.sum(exp_RxV, axis=1)) + (token.top - token.true) / temperature)
        )
    prob_RxV = exp_RxV / jnp.sum(exp_RxV, axis=1, keepdims=True)
    return Scores(token.correct, token.nll, loss_R), scale * (prob_RxV - token.is_true)


def score(
    output: head.Head, hidden_BxTxD: jax.Array, targets_BxT: jax.Array, objective: Objective
) -> tuple[Scores, jax.Array]:
    """Scores and loss gradients of all tokens, in one sweep over the vocabulary.

    Args:
        output: the output head.
        hidden_BxTxD: hidden states; entry i predicts token i.
        targets_BxT: the tokens.
        objective: the per-token loss.

    Returns:
        Scores of shape [B, T] each, and grad_BxTxD in fp32, the gradient of every token's own loss with
        respect to its hidden state. Logits are in fp32.
    """

    def measure(logits_RxV: jax.Array, targets_R: jax.Array) -> tuple[Scores, jax.Array]:
        scores, grad_RxV = _token_scores(logits_RxV, targets_R, objective)
        return scores, output.pull_back(grad_RxV, logits_RxV)

    return head.sweep(measure, output, hidden_BxTxD, targets_BxT)

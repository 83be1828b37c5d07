"""Logits against the true tokens in chunks of tokens, so that logits [B, T, V] never exist as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcram.models.layers import capped, project_wide

# Logits of one chunk: 2**27 fp32 numbers are half a gigabyte.
CHUNK_LOGITS = 2**27


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Head:
    """What makes logits of hidden states: the output embedding, and the cap of the logits, if any."""

    weight: jax.Array  # [V, D]
    cap: float | None = dataclasses.field(default=None, metadata={"static": True})

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits [..., V] of hidden states [..., D], accumulated and returned in fp32."""
        logits = project_wide(hidden, self.weight)
        return logits if self.cap is None else capped(logits, self.cap)

    def pull_back(self, grad_RxV: jax.Array, logits_RxV: jax.Array) -> jax.Array:
        """The gradient of the hidden states, fp32 [R, D], from that of their logits."""
        if self.cap is not None:
            grad_RxV = grad_RxV * (1.0 - jnp.square(logits_RxV / self.cap))  # the derivative of tanh
        grad_RxV = grad_RxV.astype(self.weight.dtype)
        return jnp.einsum("rv,vd->rd", grad_RxV, self.weight, preferred_element_type=jnp.float32)


def sweep(
    function: Callable[..., Any], head: Head, hidden_BxTxD: jax.Array, *per_token_BxT: jax.Array
) -> Any:
    """Apply `function(logits_RxV, *per_token_R)` to all tokens, in chunks of R, and return [B, T, ...].

    Args:
        function: maps fp32 logits of R tokens, and R entries of every other argument, to a pytree of
            arrays with a leading axis R.
        head: the output head.
        hidden_BxTxD: hidden states.
        per_token_BxT: further arguments, one entry per token.
    """
    batch, length, width = hidden_BxTxD.shape
    rows = batch * length
    chunk = max(1, min(rows, CHUNK_LOGITS // head.weight.shape[0]))
    flat = (hidden_BxTxD.reshape(rows, width), *(x.reshape(rows) for x in per_token_BxT))

    def block(arguments: tuple) -> Any:
        with jax.named_scope("head"):
            return function(head.logits(arguments[0]), *arguments[1:])

    if rows <= chunk:
        results = block(flat)
    else:
        padded = [jnp.pad(x, [(0, -rows % chunk)] + [(0, 0)] * (x.ndim - 1)) for x in flat]
        results = jax.lax.map(block, tuple(x.reshape(-1, chunk, *x.shape[1:]) for x in padded))
        results = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:rows], results)
    return jax.tree.map(lambda x: x.reshape(batch, length, *x.shape[1:]), results)


class Comparison(NamedTuple):
    """The logits of R tokens against the true tokens; [R] each, `is_true`, `shifted` and `exp` [R, V].

    Attributes:
        is_true: marks the true token.
        true: the true token's logit.
        other: the largest logit of any other token.
        top: the largest logit.
        correct: the true logit is greater than every other (a tie counts as wrong).
        shifted: logits minus the largest.
        exp: exp of these: the probabilities before they are normalised.
        nll: -log p(true token) in nats.
    """

    is_true: jax.Array
    true: jax.Array
    other: jax.Array
    top: jax.Array
    correct: jax.Array
    shifted: jax.Array
    exp: jax.Array
    nll: jax.Array


def compare(logits_RxV: jax.Array, targets_R: jax.Array) -> Comparison:
    """Compare fp32 logits with the true tokens; what the caller does not use is not computed under jit."""
    # Comparing with an iota keeps gathers (and, in the gradient, scatters) out of the sweep.
    is_true_RxV = jax.lax.broadcasted_iota(targets_R.dtype, logits_RxV.shape, 1) == targets_R[:, None]
    true_R = jnp.sum(jnp.where(is_true_RxV, logits_RxV, 0.0), axis=1)
    other_R = jnp.max(jnp.where(is_true_RxV, -jnp.inf, logits_RxV), axis=1)
    top_R = jnp.maximum(true_R, other_R)
    correct_R = true_R > other_R
    shifted_RxV = logits_RxV - top_R[:, None]
    exp_RxV = jnp.exp(shifted_RxV)
    nll_R = jnp.log(jnp.sum(exp_RxV, axis=1)) + top_R - true_R
    return Comparison(is_true_RxV, true_R, other_R, top_R, correct_R, shifted_RxV, exp_RxV, nll_R)

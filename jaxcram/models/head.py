"""Sweeps over the vocabulary in chunks of tokens, so that logits [B, T, V] never exist as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Logits of one chunk: 2**27 fp32 numbers are half a gigabyte.
CHUNK_LOGITS = 2**27


def sweep(
    function: Callable[..., Any], head_VxD: jax.Array, hidden_BxTxD: jax.Array, *per_token_BxT: jax.Array
) -> Any:
    """Apply `function(logits_RxV, *per_token_R)` to all tokens, in chunks of R, and return [B, T, ...].

    Args:
        function: maps fp32 logits of R tokens, and R entries of every other argument, to a pytree of
            arrays with a leading axis R.
        head_VxD: the output head.
        hidden_BxTxD: hidden states.
        per_token_BxT: further arguments, one entry per token.
    """
    batch, length, width = hidden_BxTxD.shape
    rows = batch * length
    chunk = max(1, min(rows, CHUNK_LOGITS // head_VxD.shape[0]))
    flat = (hidden_BxTxD.reshape(rows, width), *(x.reshape(rows) for x in per_token_BxT))

    def block(arguments: tuple) -> Any:
        with jax.named_scope("head"):
            logits_RxV = jnp.einsum("rd,vd->rv", arguments[0], head_VxD, preferred_element_type=jnp.float32)
            return function(logits_RxV, *arguments[1:])

    if rows <= chunk:
        results = block(flat)
    else:
        padded = [jnp.pad(x, [(0, -rows % chunk)] + [(0, 0)] * (x.ndim - 1)) for x in flat]
        results = jax.lax.map(block, tuple(x.reshape(-1, chunk, *x.shape[1:]) for x in padded))
        results = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:rows], results)
    return jax.tree.map(lambda x: x.reshape(batch, length, *x.shape[1:]), results)

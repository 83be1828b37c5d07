"""Where the memory stands and which hidden state predicts which token: the one owner of that offset.

The decoder reads `[memory, target without its last token]`, K + T - 1 positions; the hidden state at
position K - 1 + i predicts target token i, so token 0 is predicted from the memory alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcram.models.decoder import Decoder


def predict(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array, *, remat: bool = False) -> jax.Array:
    """Hidden states that predict the target under teacher forcing.

    Args:
        model: the frozen decoder.
        mem_BxKxD: memory embeddings, fp32; cast to the decoder's dtype here.
        tokens_BxT: target tokens; the last column is predicted and never read.
        remat: recompute each layer in the backward pass instead of keeping its activations.

    Returns:
        hidden_BxTxD: entry i predicts token i.
    """
    text_BxTxD = model.embed(tokens_BxT[:, :-1])
    inputs = jnp.concatenate([mem_BxKxD.astype(text_BxTxD.dtype), text_BxTxD], axis=1)
    num_memory = mem_BxKxD.shape[1]
    return model(inputs, num_memory=num_memory, remat=remat)[:, num_memory - 1 :]


def predict_alone(model: Decoder, tokens_BxT: jax.Array) -> jax.Array:
    """Hidden states of the text without any memory: entry i predicts token i + 1, [B, T - 1, D]."""
    return model(model.embed(tokens_BxT[:, :-1]))

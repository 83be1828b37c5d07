"""Text back from embeddings: greedy decoding in the shapes of training, and the ordinary cached one.

Under teacher forcing a prefix is exact when every argmax is right. Greedy decoding repeats those argmaxes
only if it rounds as the measuring pass did, so `exact` decodes in the same padded shape: it drafts with the
cached decoder, then repeats one full forward pass that replaces every token by its argmax until nothing
changes (Jacobi iteration; by causality each pass fixes at least the first wrong token, and the fixed point
is the greedy sequence). `cached` is the decoder everybody uses; its one-token shapes round differently, and
solutions without a margin lose tokens to it ([P], section on greedy decoding).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcram import framing
from jaxcram.models import head
from jaxcram.models.decoder import Decoder


def _argmax(model: Decoder, hidden_BxTxD: jax.Array) -> jax.Array:
    return head.sweep(lambda logits: jnp.argmax(logits, axis=-1), model.head_VxD, hidden_BxTxD).astype(
        jnp.int32
    )


@jax.jit
def teacher_forced(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array) -> jax.Array:
    """Argmax of every position given the true tokens before it, int32 [B, T]."""
    return _argmax(model, framing.predict(model, mem_BxKxD, tokens_BxT))


def _cached(model: Decoder, mem_BxKxD: jax.Array, length: int) -> jax.Array:
    batch, num_memory, _ = mem_BxKxD.shape
    cache = model.init_cache(batch, num_memory + length - 1)
    memory = mem_BxKxD.astype(model.embed(jnp.zeros((1, 1), jnp.int32)).dtype)
    hidden, cache = model.extend(memory, cache)
    first_Bx1 = _argmax(model, hidden[:, -1:])

    def step(carry: tuple, _: None) -> tuple:
        token_Bx1, cache = carry
        hidden, cache = model.extend(model.embed(token_Bx1), cache)
        next_Bx1 = _argmax(model, hidden)
        return (next_Bx1, cache), next_Bx1[:, 0]

    _, rest_TxB = jax.lax.scan(step, (first_Bx1, cache), length=length - 1)
    return jnp.concatenate([first_Bx1, rest_TxB.T], axis=1)


@jax.jit(static_argnames="length")
def cached(model: Decoder, mem_BxKxD: jax.Array, length: int) -> jax.Array:
    """Greedy tokens from memory embeddings with a key-value cache, int32 [B, length]."""
    return _cached(model, mem_BxKxD, length)


@jax.jit(static_argnames="length")
def exact(model: Decoder, mem_BxKxD: jax.Array, length: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Greedy tokens from memory embeddings in the shape of a training pass of B lanes and `length` tokens.

    Args:
        model: the frozen decoder.
        mem_BxKxD: memory embeddings, fp32.
        length: tokens to decode: the padded length of the bucket in which the embeddings were measured.

    Returns:
        tokens_BxT, the draft of the cached decoder [B, T], and the number of full passes.
    """
    draft_BxT = _cached(model, mem_BxKxD, length)

    def unsettled(carry: tuple) -> jax.Array:
        return carry[2]

    def iterate(carry: tuple) -> tuple:
        tokens_BxT, passes, _ = carry
        next_BxT = _argmax(model, framing.predict(model, mem_BxKxD, tokens_BxT))
        return next_BxT, passes + 1, jnp.any(next_BxT != tokens_BxT)

    start = (draft_BxT, jnp.zeros((), jnp.int32), jnp.array(True))
    tokens_BxT, passes, _ = jax.lax.while_loop(unsettled, iterate, start)
    return tokens_BxT, draft_BxT, passes

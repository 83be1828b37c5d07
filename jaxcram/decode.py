"""Text back from embeddings: greedy decoding in the shapes of training, and the ordinary cached one.

Under teacher forcing a prefix is exact when every argmax is right. Greedy decoding repeats those argmaxes
only if it rounds as the measuring pass did, so `exact` decodes in the same padded shape: from any draft, it
repeats one full forward pass that replaces every token by its argmax until nothing changes (Jacobi
iteration; by causality each pass fixes at least the first wrong token, and the fixed point is the greedy
sequence). `cached` is the decoder everybody uses; its one-token shapes round differently, and
solutions without a margin lose tokens to it ([P], section on greedy decoding).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.devices import mesh
from jaxcram.forward import predict
from jaxcram.models import head
from jaxcram.models.decoder import Cache, Decoder

Pick = Callable[[jax.Array, jax.Array], jax.Array]


def _argmax(model: Decoder, hidden_BxTxD: jax.Array) -> jax.Array:
    return head.sweep(lambda logits: jnp.argmax(logits, axis=-1), model.head_VxD, hidden_BxTxD).astype(
        jnp.int32
    )


def teacher_forced(model: Decoder, mem_SxKxD: np.ndarray, tokens_SxT: np.ndarray) -> jax.Array:
    """Argmax of every position given the memory and the tokens before it, int32 [S, T].

    S is a multiple of the mesh's places, each of which takes its share of the rows.
    """
    return _teacher_forced(model, mem_SxKxD, tokens_SxT, mesh.of(model))


@jax.jit(static_argnames="devices")
def _teacher_forced(model: Decoder, mem_SxKxD: jax.Array, tokens_SxT: jax.Array, devices: Mesh) -> jax.Array:
    def share(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array) -> jax.Array:
        return _argmax(model, predict(model, mem_BxKxD, tokens_BxT))

    return mesh.spread(share, devices)(model, mem_SxKxD, tokens_SxT).unpack()


def cached(model: Decoder, mem_SxKxD: np.ndarray, length: int) -> jax.Array:
    """Greedy tokens from memory embeddings with a key-value cache, int32 [S, length]; S as above."""
    return _cached(model, mem_SxKxD, length, mesh.of(model))


@jax.jit(static_argnames=("length", "devices"))
def _cached(model: Decoder, mem_SxKxD: jax.Array, length: int, devices: Mesh) -> jax.Array:
    def share(model: Decoder, mem_BxKxD: jax.Array) -> jax.Array:
        cache = model.init_cache(mem_BxKxD.shape[0], mem_BxKxD.shape[1] + length - 1)
        no_keys = jnp.zeros(length)
        return _extend(
            model, mem_BxKxD.astype(model.dtype), cache, no_keys, lambda hidden, _: _argmax(model, hidden)
        )

    return mesh.spread(share, devices)(model, mem_SxKxD).unpack()


def exact(model: Decoder, mem_SxKxD: np.ndarray, draft_SxT: np.ndarray) -> tuple[np.ndarray, int]:
    """Greedy tokens from memory embeddings, in the shape of a training pass with S seats of T tokens.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings, fp32.
        draft_SxT: any tokens; the better the draft, the fewer the passes. T is the padded length of the
            bucket in which the embeddings were measured.

    Returns:
        tokens_SxT, int32, and the number of passes, at most T + 1. They do not depend on the draft.
    """
    tokens_SxT, passes = draft_SxT, 0
    while True:
        next_SxT = np.asarray(teacher_forced(model, mem_SxKxD, tokens_SxT))
        passes += 1
        if np.array_equal(next_SxT, tokens_SxT):
            return tokens_SxT, passes
        tokens_SxT = next_SxT


def continue_prompt(
    model: Decoder, prompt_BxT: np.ndarray, length: int, key: jax.Array, temperature: float = 0.0
) -> jax.Array:
    """Tokens after a prompt, with a key-value cache: greedy, or sampled where `temperature` is above 0.

    Args:
        model: the decoder.
        prompt_BxT: token ids.
        length: tokens to add.
        key: of the sampling.
        temperature: divides the logits; 0 takes the argmax.

    Returns:
        int32 [B, length]; -1 where a logit was not finite, and nothing that follows means anything.

    Raises:
        UserError: the prompt has ids that the model does not.
    """
    model.config.require_ids(prompt_BxT, "the prompt")
    return _continue_prompt(model, prompt_BxT, length, key, temperature)


@jax.jit(static_argnames=("length", "temperature"))
def _continue_prompt(
    model: Decoder, prompt_BxT: jax.Array, length: int, key: jax.Array, temperature: float
) -> jax.Array:
    def pick(hidden_Bx1xD: jax.Array, key: jax.Array) -> jax.Array:
        logits_Bx1xV = model.logits(hidden_Bx1xD)
        if temperature == 0.0:
            picked_Bx1 = jnp.argmax(logits_Bx1xV, axis=-1)
        else:
            picked_Bx1 = jax.random.categorical(key, logits_Bx1xV / temperature, mode="low")
        return jnp.where(jnp.isfinite(logits_Bx1xV).all(axis=-1), picked_Bx1, -1).astype(jnp.int32)

    cache = model.init_cache(prompt_BxT.shape[0], prompt_BxT.shape[1] + length - 1)
    return _extend(model, model.embed(prompt_BxT), cache, jax.random.split(key, length), pick)


def _extend(model: Decoder, inputs_BxTxD: jax.Array, cache: Cache, keys: jax.Array, pick: Pick) -> jax.Array:
    """As many tokens as there are keys, each picked from the last hidden state before it."""

    def step(carry: tuple[jax.Array, Cache], key: jax.Array) -> tuple[tuple[jax.Array, Cache], jax.Array]:
        token_Bx1, cache = carry
        hidden, cache = model.extend(model.embed(token_Bx1), cache)
        next_Bx1 = pick(hidden, key)
        return (next_Bx1, cache), next_Bx1[:, 0]

    hidden, cache = model.extend(inputs_BxTxD, cache)
    first_Bx1 = pick(hidden[:, -1:], keys[0])
    _, rest_TxB = jax.lax.scan(step, (first_Bx1, cache), keys[1:])
    return jnp.concatenate([first_Bx1, rest_TxB.T], axis=1)

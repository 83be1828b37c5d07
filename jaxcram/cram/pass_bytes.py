"""Bytes of device memory that a pass takes, before anything is compiled: they decide on rematerialisation.

A pass holds the frozen weights, what the forward pass stores for the way back, and the working memory of
whatever runs at the moment. What is stored is read off the traced pass, so it follows the checkpoint policy
and the attention kernel of this backend to the byte; the working memory is an account that errs upwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from jaxcram.cram.lanes import Bucket
from jaxcram.devices import device_memory
from jaxcram.forward import predict
from jaxcram.models import head, splash
from jaxcram.models.decoder import Decoder
from jaxcram.models.layers import attention_implementation

ROOM = 0.9  # of the device's memory, for a pass


class PassBytes(NamedTuple):
    """Bytes of one pass.

    Attributes:
        weights: the decoder.
        stored: from the forward to the backward pass, all layers.
        working: the most that the head, or one layer on the way back, needs beside these.
    """

    weights: int
    stored: int
    working: int

    @property
    def total(self) -> int:
        """All together: about the peak of the pass."""
        return sum(self)


def count(model: Decoder, bucket: Bucket, num_memory: int, *, remat: bool) -> PassBytes:
    """Bytes of a forward and backward pass over a bucket; nothing is compiled or allocated.

    Args:
        model: the decoder, or its shapes alone (`jax.eval_shape`).
        bucket: target tokens and lanes.
        num_memory: memory embeddings K per lane.
        remat: layers are recomputed on the way back.

    The lanes themselves (embeddings, moments, records) are left out: megabytes where a pass takes gigabytes.
    """
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model))
    layer = _layer_working(model, bucket, num_memory, remat)
    working = max(layer, _head_working(model, bucket))
    return PassBytes(weights, _stored(model, bucket, num_memory, remat), working)


def needs_remat(model: Decoder, bucket: Bucket, num_memory: int) -> bool:
    """Whether the device cannot hold the activations of passes over a bucket; False where it does not say."""
    available = device_memory.available()
    if available is None:
        return False
    return count(model, bucket, num_memory, remat=False).total > ROOM * available


def _stored(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> int:
    """What the pull-back of the traced forward pass holds, apart from the weights, which are there anyway."""

    def forward(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array) -> tuple:
        return jax.vjp(lambda mem: predict(model, mem, tokens_BxT, remat=remat), mem_BxKxD)

    mem = jax.ShapeDtypeStruct((bucket.lanes, num_memory, model.config.width), jnp.float32)
    tokens = jax.ShapeDtypeStruct((bucket.lanes, bucket.tokens), jnp.int32)
    jaxpr = jax.make_jaxpr(forward)(model, mem, tokens).jaxpr
    # The first result is the hidden states, which the head needs; a value that is held twice is one buffer.
    held: Any = {var for var in jaxpr.outvars if isinstance(var, Var)} - {*jaxpr.invars, *jaxpr.constvars}
    return sum(var.aval.size * var.aval.dtype.itemsize for var in held)


def _head_working(model: Decoder, bucket: Bucket) -> int:
    """A chunk's fp32 logits and their gradient in the weights' dtype, and the fp32 gradient of all tokens."""
    rows, vocab_size = bucket.lanes * bucket.tokens, model.config.vocab_size
    chunk = min(rows, max(1, head.CHUNK_LOGITS // vocab_size))
    return chunk * vocab_size * (4 + model.dtype.itemsize) + rows * model.config.width * 4


def _layer_working(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> int:
    """One layer on the way back: gradients of its products, these themselves if recomputed, attention."""
    config, positions = model.config, num_memory + bucket.tokens - 1
    block = jax.eval_shape(lambda model: model.blocks[0], model)
    # Weights of products are stored [out, in]; norms and biases have one axis.
    outputs = sum(leaf.shape[0] for leaf in jax.tree.leaves(block) if leaf.ndim == 2)
    products = bucket.lanes * positions * outputs * model.dtype.itemsize
    query = jax.ShapeDtypeStruct((bucket.lanes, positions, config.num_heads, config.head_size), model.dtype)
    attention = {
        # Scores, weights and the gradient of the scores, fp32.
        "plain": 3 * bucket.lanes * config.num_heads * positions**2 * 4,
        "cudnn": query.size * 4,  # the fp32 gradient of the queries, summed up over the keys
        "splash": splash.working_bytes(query),
    }[attention_implementation(query)]
    return products * (2 if remat else 1) + attention

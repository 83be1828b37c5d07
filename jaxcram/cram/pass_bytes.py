"""Estimates the bytes of device memory of a pass before it is compiled; this decides on rematerialisation.

A pass needs the frozen weights, the activations stored for the backward pass, and working memory. The stored
activations are read from the traced pass, so they follow the checkpoint policy and this backend's attention
kernel exactly; the working memory is an upper estimate.
"""

from __future__ import annotations

import math
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

ROOM = 0.9  # share of the device's memory that a pass may take


class PassBytes(NamedTuple):
    """Device memory of one pass, in bytes.

    Attributes:
        weights: of the decoder.
        stored: activations of all layers, kept from the forward to the backward pass.
        working: the larger of what the head and the backward pass of one layer need beside these.
    """

    weights: int
    stored: int
    working: int

    @property
    def total(self) -> int:
        """The sum: about the peak of the pass."""
        return sum(self)


def count(model: Decoder, bucket: Bucket, num_memory: int, *, remat: bool) -> PassBytes:
    """Bytes of a forward and backward pass over a bucket; nothing is compiled or allocated.

    Args:
        model: the decoder, or only its shapes (`jax.eval_shape`).
        bucket: target tokens and lanes.
        num_memory: memory embeddings K per lane.
        remat: whether layers are recomputed in the backward pass.

    The lanes themselves (embeddings, moments, records) are left out: they take megabytes, a pass gigabytes.
    """
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model))
    layer = _layer_working(model, bucket, num_memory, remat)
    working = max(layer, _head_working(model, bucket))
    return PassBytes(weights, _stored(model, bucket, num_memory, remat), working)


def most_tokens(model: Decoder, tokens: int, num_memory: int, *, remat: bool) -> float:
    """Padded tokens of passes of lanes of so many tokens that fit into the device's memory.

    Less than `tokens` if not even one lane fits; infinity where the device does not tell its memory.
    """
    available = device_memory.available()
    if available is None:
        return math.inf
    one, two = (count(model, Bucket(tokens, lanes), num_memory, remat=remat).total for lanes in (1, 2))
    return tokens * (1 + (ROOM * available - one) / max(two - one, 1))


def _stored(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> int:
    """Bytes that the VJP function of the traced forward pass holds, without the weights."""

    def forward(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array) -> tuple:
        return jax.vjp(lambda mem: predict(model, mem, tokens_BxT, remat=remat), mem_BxKxD)

    mem = jax.ShapeDtypeStruct((bucket.lanes, num_memory, model.config.width), jnp.float32)
    tokens = jax.ShapeDtypeStruct((bucket.lanes, bucket.tokens), jnp.int32)
    jaxpr = jax.make_jaxpr(forward)(model, mem, tokens).jaxpr
    # Hidden states, which the head needs, and residuals; a set, since a value held twice is one buffer.
    held: Any = {var for var in jaxpr.outvars if isinstance(var, Var)} - {*jaxpr.invars, *jaxpr.constvars}
    return sum(var.aval.size * var.aval.dtype.itemsize for var in held)


def _head_working(model: Decoder, bucket: Bucket) -> int:
    """fp32 logits of a chunk, their gradient in the weights' dtype, and the fp32 gradient of all tokens."""
    rows, vocab_size = bucket.lanes * bucket.tokens, model.config.vocab_size
    chunk = min(rows, max(1, head.CHUNK_LOGITS // vocab_size))
    return chunk * vocab_size * (4 + model.dtype.itemsize) + rows * model.config.width * 4


def _layer_working(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> int:
    """Backward pass of one layer: gradients of its products, the products if recomputed, and attention."""
    config, positions = model.config, num_memory + bucket.tokens - 1
    block = jax.eval_shape(lambda model: model.blocks[0], model)
    # Weights of projections are stored [out, in]; norms and biases have one axis.
    outputs = sum(leaf.shape[0] for leaf in jax.tree.leaves(block) if leaf.ndim == 2)
    products = bucket.lanes * positions * outputs * model.dtype.itemsize
    query = jax.ShapeDtypeStruct((bucket.lanes, positions, config.num_heads, config.head_size), model.dtype)
    kernel = attention_implementation(query) if config.only_causal(positions) else "plain"
    attention = {
        # Scores, attention weights and the gradient of the scores, fp32.
        "plain": 3 * bucket.lanes * config.num_heads * positions**2 * 4,
        "cudnn": query.size * 4,  # the fp32 gradient of the queries, accumulated over the keys
        "splash": splash.working_bytes(query),
    }[kernel]
    return products * (2 if remat else 1) + attention

"""Norms, projections, rotary positions, and attention with knockout."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Linear(nnx.Module):
    """y = W x (+ b), with W stored [out, in] as checkpoints have it, so that porting is copying."""

    def __init__(self, width_in: int, width_out: int, *, bias: bool, dtype: Any, rngs: nnx.Rngs):
        init = nnx.initializers.normal(width_in**-0.5)
        self.weight = nnx.Param(init(rngs.params(), (width_out, width_in), dtype))
        self.bias = nnx.Param(jnp.zeros(width_out, dtype)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., out]."""
        y = jnp.einsum("...i,oi->...o", x, self.weight[...])
        return y if self.bias is None else y + self.bias[...]


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019, eq. 4); statistics in fp32."""

    def __init__(self, width: int, eps: float, *, dtype: Any):
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis; shape and dtype stay."""
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return normed.astype(x.dtype) * self.weight[...]


class LayerNorm(nnx.Module):
    """Layer norm with bias (Ba et al. 2016, eq. 4); statistics in fp32."""

    def __init__(self, width: int, eps: float, *, dtype: Any):
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis; shape and dtype stay."""
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        return (normed * self.weight[...] + self.bias[...]).astype(x.dtype)


def rotary_tables(frequencies: np.ndarray, positions_T: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotation angles, fp32 [T, 1, R/2]: the middle axis is for the heads."""
    angles = positions_T.astype(jnp.float32)[:, None, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BxTxHxC: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary positions (Su et al. 2021, eq. 34): entry i pairs with i + R/2; those from R on stay."""
    cos, sin = tables
    half = cos.shape[-1]
    x32 = x_BxTxHxC[..., : 2 * half].astype(jnp.float32)
    first, second = x32[..., :half], x32[..., half:]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([rotated.astype(x_BxTxHxC.dtype), x_BxTxHxC[..., 2 * half :]], axis=-1)


def attention_implementation(query_BxTxHxC: jax.Array) -> Literal["cudnn", "xla"]:
    """Which kernel the plain causal path takes: the one place to tune it.

    cuDNN's fused attention wants 16-bit values and a head size that is a multiple of 8, at most 128 on every
    GPU it supports. XLA materialises the scores.
    """
    head_size, dtype = query_BxTxHxC.shape[-1], query_BxTxHxC.dtype
    fits = dtype == jnp.bfloat16 and head_size % 8 == 0 and head_size <= 128
    return "cudnn" if fits and jax.default_backend() == "gpu" else "xla"


def attend(
    query_BxTxHxC: jax.Array, key_BxSxGxC: jax.Array, value_BxSxGxC: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Scaled dot-product attention, queries in groups (Ainslie et al. 2023): [B, T, H, C]; softmax in fp32.

    `mask`: boolean, broadcastable to [B, 1, T, S], True where a query may see a key; None is causal (T = S).
    Every row must see at least one key: a row that sees none averages all of them.
    """
    heads = query_BxTxHxC, key_BxSxGxC, value_BxSxGxC
    if mask is None:
        implementation = attention_implementation(query_BxTxHxC)
        return jax.nn.dot_product_attention(*heads, is_causal=True, implementation=implementation)
    return jax.nn.dot_product_attention(*heads, mask=mask, implementation="xla")


def knockout_mask(knocked_B: jax.Array, num_memory: int, length: int) -> jax.Array:
    """Causal mask [B, 1, T, T] of one layer; in knocked lanes no query after the memory sees the memory.

    The memory's own rows keep their keys, so that no row is ever empty.
    """
    query, key = jnp.arange(length)[:, None], jnp.arange(length)[None, :]
    into_memory = (key < num_memory) & (query >= num_memory)
    return (key <= query) & ~(knocked_B[:, None, None, None] & into_memory)

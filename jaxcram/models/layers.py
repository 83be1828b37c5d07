"""Norms, projections, rotary positions, and attention with knockout."""

import functools
from typing import Any, Literal

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxcram.devices.mesh import on_each_device
from jaxcram.models import splash

PRODUCT = "product"  # checkpoint name of a product with weights, for the backward pass


class Linear(nnx.Module):
    """y = W x (+ b), with W stored [out, in] as in checkpoints, so that loading needs no transposition."""

    def __init__(self, width_in: int, width_out: int, *, bias: bool, dtype: Any, rngs: nnx.Rngs):
        init = nnx.initializers.normal(width_in**-0.5)
        self.weight = nnx.Param(init(rngs.params(), (width_out, width_in), dtype))
        self.bias = nnx.Param(jnp.zeros(width_out, dtype)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., out]."""
        y = project(x, self.weight[...])
        return y if self.bias is None else y + self.bias[...]


def project(x: jax.Array, weight_OxI: jax.Array) -> jax.Array:
    """The product W x, [..., I] to [..., O], accumulated in fp32 and rounded to their dtype."""
    if _is_bf16_on_cpu(x, weight_OxI):
        return checkpoint_name(_project_bf16(x, weight_OxI), PRODUCT)
    return jnp.einsum("...i,oi->...o", x, weight_OxI)


def project_wide(x: jax.Array, weight_OxI: jax.Array) -> jax.Array:
    """The product W x, [..., I] to [..., O], in fp32."""
    if _is_bf16_on_cpu(x, weight_OxI) and x.size == x.shape[-1]:
        # XLA has no fast kernel for a matrix and one vector of bf16: two vectors take an eighth of the time.
        twice_2xI = jnp.concatenate([x.reshape(1, -1)] * 2)
        return project_wide(twice_2xI, weight_OxI)[0].reshape(*x.shape[:-1], -1)
    return jnp.einsum("...i,oi->...o", x, weight_OxI, preferred_element_type=jnp.float32)


def _is_bf16_on_cpu(x: jax.Array, weight_OxI: jax.Array) -> bool:
    return jax.default_backend() == "cpu" and x.dtype == weight_OxI.dtype == jnp.bfloat16


@jax.custom_vjp
def _project_bf16(x: jax.Array, weight_OxI: jax.Array) -> jax.Array:
    """`project` for CPUs: XLA has fast kernels for products of bf16 only where their result is fp32.

    The gradient's products are of bf16 arrays too: JAX would widen one factor, and leave the fast kernels.
    """
    return project_wide(x, weight_OxI).astype(jnp.bfloat16)


def _project_bf16_backward(
    factors: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight_OxI = factors
    rows_RxI, grad_RxO = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    grad_x, grad_weight_OxI = wide("...o,oi->...i", grad, weight_OxI), wide("ro,ri->oi", grad_RxO, rows_RxI)
    return grad_x.astype(grad.dtype), grad_weight_OxI.astype(grad.dtype)


_project_bf16.defvjp(
    lambda x, weight_OxI: (_project_bf16(x, weight_OxI), (x, weight_OxI)), _project_bf16_backward
)


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019, eq. 4); statistics in fp32."""

    def __init__(self, width: int, eps: float, *, dtype: Any):
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis; keeps shape and dtype."""
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return normed.astype(x.dtype) * self.weight[...]


class OffsetRMSNorm(RMSNorm):
    """Root-mean-square norm with weights stored less 1, as Gemma has it; multiplied in fp32."""

    def __init__(self, width: int, eps: float, *, dtype: Any):
        super().__init__(width, eps, dtype=dtype)
        self.weight = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis; keeps shape and dtype."""
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return (normed * (1.0 + self.weight[...].astype(jnp.float32))).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer norm with bias (Ba et al. 2016, eq. 4); statistics in fp32."""

    def __init__(self, width: int, eps: float, *, dtype: Any):
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis; keeps shape and dtype."""
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        return (normed * self.weight[...] + self.bias[...]).astype(x.dtype)


def capped(x: jax.Array, cap: float) -> jax.Array:
    """`x` smoothly limited to -cap .. cap (Gemma Team 2024, "Gemma 2", section 2)."""
    return jnp.tanh(x / cap) * cap


def rotary_tables(frequencies: np.ndarray, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotation angles, fp32 [T, 1, R/2] of positions [T], or [B, T, 1, R/2].

    The axis of 1 broadcasts over heads.
    """
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BxTxHxC: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary positions (Su et al. 2021, eq. 34): entry i pairs with i + R/2; entries from R on are kept."""
    cos, sin = tables
    half = cos.shape[-1]
    x32 = x_BxTxHxC[..., : 2 * half].astype(jnp.float32)
    first, second = x32[..., :half], x32[..., half:]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([rotated.astype(x_BxTxHxC.dtype), x_BxTxHxC[..., 2 * half :]], axis=-1)


def attention_implementation(
    query_BxTxHxC: jax.Array | jax.ShapeDtypeStruct,
) -> Literal["cudnn", "splash", "plain"]:
    """The implementation used for causal attention without knockout, caps, or windows shorter than the text.

    cuDNN's fused attention (GPU) requires 16-bit values and a head size that is a multiple of 8 and at most
    128. The splash kernel (TPU) requires 16-bit values and a length of at least one tile. The plain
    implementation stores all scores. It also serves whatever has a mask array: which layers slide is data to
    one program for all of them, while kernels have their windows compiled in.
    """
    head_size = query_BxTxHxC.shape[-1]
    backend, narrow = jax.default_backend(), query_BxTxHxC.dtype == jnp.bfloat16
    if backend == "gpu" and narrow and head_size % 8 == 0 and head_size <= 128:
        return "cudnn"
    return "splash" if backend == "tpu" and splash.fits(query_BxTxHxC) else "plain"


def attend(
    query_BxTxHxC: jax.Array,
    key_BxSxGxC: jax.Array,
    value_BxSxGxC: jax.Array,
    mask: jax.Array | None = None,
    *,
    scale: float | None = None,
    cap: float | None = None,
) -> jax.Array:
    """Scaled dot-product attention, queries in groups (Ainslie et al. 2023): [B, T, H, C]; softmax in fp32.

    Args:
        query_BxTxHxC, key_BxSxGxC, value_BxSxGxC: of all heads.
        mask: boolean, broadcastable to [B, 1, T, S], True where a query may attend to a key; None is causal
            (T = S). Every query must have at least one key: without any, it would average all of them.
        scale: the factor of the scores; None is C^-1/2.
        cap: the scores s become cap tanh(s / cap), by the plain implementation; None leaves them.
    """
    length, head_size = query_BxTxHxC.shape[1], query_BxTxHxC.shape[-1]
    scale = head_size**-0.5 if scale is None else scale
    if mask is None and cap is None:
        heads = query_BxTxHxC, key_BxSxGxC, value_BxSxGxC
        match attention_implementation(query_BxTxHxC):
            case "cudnn":
                cudnn = functools.partial(
                    jax.nn.dot_product_attention, scale=scale, is_causal=True, implementation="cudnn"
                )
                # Its gradient in JAX requires even lengths; by causality, padding at the end changes nothing.
                even = (jnp.pad(x, ((0, 0), (0, length % 2), (0, 0), (0, 0))) for x in heads)
                return on_each_device(cudnn, *even)[:, :length]
            case "splash":
                return on_each_device(functools.partial(splash.attend, scale=scale), *heads)
    weights = attention_weights(query_BxTxHxC, key_BxSxGxC, mask, scale=scale, cap=cap)
    weights = weights.astype(value_BxSxGxC.dtype).reshape(*weights.shape[:2], -1, weights.shape[-1])
    attended = jnp.einsum("BGNS,BSGC->BGNC", weights, value_BxSxGxC)
    return einops.rearrange(attended, "B G (R T) C -> B T (G R) C", T=length)


def attention_weights(
    query_BxTxHxC: jax.Array,
    key_BxSxGxC: jax.Array,
    mask: jax.Array | None,
    *,
    scale: float,
    cap: float | None,
) -> jax.Array:
    """What each query takes of each key, fp32 [B, G, R, T, S]: the plain implementation's softmax.

    The arguments are those of `attend`; head g R + r is entry (g, r).
    """
    length, num_kv_heads = query_BxTxHxC.shape[1], key_BxSxGxC.shape[2]
    if mask is None:
        mask = jnp.tri(length, dtype=bool)[None, None]
    # The R queries of a group become rows of one product with its keys: G larger products instead of H. On
    # CPU, forward and backward take 0.6 of jax.nn.dot_product_attention's time at T = 64, 0.4 at T = 128.
    rows = einops.rearrange(query_BxTxHxC * scale, "B T (G R) C -> B G (R T) C", G=num_kv_heads)
    scores = jnp.einsum("BGNC,BSGC->BGNS", rows, key_BxSxGxC, preferred_element_type=jnp.float32)
    scores = scores if cap is None else capped(scores, cap)
    scores_BxGxRxTxS = einops.rearrange(scores, "B G (R T) S -> B G R T S", T=length)
    seen = jnp.where(mask[:, :, None], scores_BxGxRxTxS, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(seen)


def causal_mask(
    query_T: jax.Array,
    key_S: jax.Array,
    window: jax.Array | None = None,
    knocked_B: jax.Array | None = None,
    num_memory: int = 0,
    own_row_B: jax.Array | None = None,
) -> jax.Array:
    """The mask of one layer, boolean [B or 1, 1, T, S]: each query attends to itself and to earlier keys.

    Args:
        query_T, key_S: positions of queries and keys.
        window: number of keys, up to its own, that a query attends to (int scalar); None is all.
        knocked_B: lanes in which later queries do not attend to the memory; None is none. Queries of the
            memory itself keep their keys, so every query has at least one key.
        num_memory: number of leading positions that are memory.
        own_row_B: in lanes that are knocked out, to how many keys, later ones too, queries of the memory
            attend instead (see `OwnRowKnockout`); None leaves them theirs.
    """
    query, key = query_T[:, None], key_S[None, :]
    mask = (key <= query)[None, None]
    if window is not None:
        mask &= query - key < window
    if knocked_B is None:
        return mask
    into_memory = (key < num_memory) & (query >= num_memory)
    knocked_Bx1x1x1 = knocked_B[:, None, None, None]
    mask = mask & ~(knocked_Bx1x1x1 & into_memory)
    if own_row_B is None:
        return mask
    return jnp.where(knocked_Bx1x1x1 & (query < num_memory), key < own_row_B[:, None, None, None], mask)

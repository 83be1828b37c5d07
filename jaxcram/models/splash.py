"""Causal attention on TPU: JAX's splash kernel, which goes through the keys in blocks and holds no scores."""

import einops
import jax
import jax.numpy as jnp

from jaxcram.devices import private

TILE = 128  # blocks are multiples of the registers' lanes
# With it one block's scores, fp32, take 1 MB of the on-chip memory; there are several such.
LONGEST_BLOCK = 512
# The checkpoint name of the output and of the log-sum-exp, which the way back needs.
KEPT = "splash_attention"


def fits(query_BxTxHxC: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Whether the kernel takes queries like these: 16-bit, and not shorter than one tile.

    Lengths in between are padded. In fp32 the kernel works too, but in a precision of its own; the plain path
    follows JAX's.
    """
    return query_BxTxHxC.dtype == jnp.bfloat16 and query_BxTxHxC.shape[1] >= TILE


def blocks(length: int) -> tuple[int, int]:
    """How many blocks a length is dealt into, and their size: as few as may be, and then as short."""
    number = -(-length // LONGEST_BLOCK)
    return number, -(-length // (number * TILE)) * TILE


def working_bytes(query_BxTxHxC: jax.Array | jax.ShapeDtypeStruct) -> int:
    """What the way back holds of the queries' gradient: one in bf16 for each block of keys, and their sum."""
    number, size = blocks(query_BxTxHxC.shape[1])
    return (number + 1) * number * size * query_BxTxHxC.size // query_BxTxHxC.shape[1] * 2


def attend(query_BxTxHxC: jax.Array, key_BxTxGxC: jax.Array, value_BxTxGxC: jax.Array) -> jax.Array:
    """Causal scaled dot-product attention [B, T, H, C] of one device, queries in groups; softmax in fp32."""
    splash, masks = private.splash_attention()
    batch, length = query_BxTxHxC.shape[:2]
    number, size = blocks(length)
    padded = number * size

    def rows(x_BxTxHxC: jax.Array) -> jax.Array:
        # Lanes are heads to the kernel, with the same mask: under vmap it would write its scratch for each.
        # What is padded lies in every query's future; what is asked from there is cut off.
        x = jnp.pad(x_BxTxHxC, ((0, 0), (0, padded - length), (0, 0), (0, 0)))
        return einops.rearrange(x, "B T H C -> (B H) T C")

    scaled_BxTxHxC = query_BxTxHxC * query_BxTxHxC.shape[-1] ** -0.5  # the kernel does not
    query, key, value = (rows(x) for x in (scaled_BxTxHxC, key_BxTxGxC, value_BxTxGxC))
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.CausalMask((padded, padded))] * query.shape[0]),
        # One kernel on the way back, not two, computes the scores once for the gradients of queries and of
        # keys; it holds the former for each block of keys, and there are few.
        block_sizes=splash.BlockSizes(
            block_q=size, block_kv=size, block_q_dkv=size, block_kv_dkv=size, use_fused_bwd_kernel=True
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=KEPT,
    )
    return einops.rearrange(kernel(query, key, value), "(B H) T C -> B T H C", B=batch)[:, :length]

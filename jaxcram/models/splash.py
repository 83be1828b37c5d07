"""Causal attention on TPU by JAX's splash kernel, which processes the keys in blocks and stores no scores."""

import einops
import jax
import jax.numpy as jnp

from jaxcram.devices import private

TILE = 128  # block sizes are multiples of the width of a vector register
LONGEST_BLOCK = 512  # fp32 scores of one block then take 1 MB of on-chip memory, which holds several
KEPT = "splash_attention"  # checkpoint name of output and log-sum-exp, which the backward pass needs


def fits(query_BxTxHxC: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Whether the kernel is used for these queries: bf16, and at least one tile long.

    Other lengths are padded to a multiple of the tile. In fp32 the kernel ignores JAX's matmul precision, so
    the plain implementation is used.
    """
    return query_BxTxHxC.dtype == jnp.bfloat16 and query_BxTxHxC.shape[1] >= TILE


def blocks(length: int) -> tuple[int, int]:
    """Number and size of the blocks of a length: as few blocks as possible, then as short as possible."""
    number = -(-length // LONGEST_BLOCK)
    return number, -(-length // (number * TILE)) * TILE


def working_bytes(query_BxTxHxC: jax.Array | jax.ShapeDtypeStruct) -> int:
    """Bytes of the queries' gradient in the backward pass: bf16, one per block of keys, and their sum."""
    number, size = blocks(query_BxTxHxC.shape[1])
    return (number + 1) * number * size * query_BxTxHxC.size // query_BxTxHxC.shape[1] * 2


def attend(
    query_BxTxHxC: jax.Array, key_BxTxGxC: jax.Array, value_BxTxGxC: jax.Array, *, scale: float
) -> jax.Array:
    """Causal dot-product attention [B, T, H, C] of one device, queries in groups; softmax in fp32."""
    splash, masks = private.splash_attention()
    batch, length = query_BxTxHxC.shape[:2]
    number, size = blocks(length)
    padded = number * size

    def rows(x_BxTxHxC: jax.Array) -> jax.Array:
        # Lanes are passed as heads, which share one mask: under vmap the kernel would write scratch memory
        # for each lane. By causality, padding does not affect real queries; its own results are sliced off.
        x = jnp.pad(x_BxTxHxC, ((0, 0), (0, padded - length), (0, 0), (0, 0)))
        return einops.rearrange(x, "B T H C -> (B H) T C")

    scaled_BxTxHxC = query_BxTxHxC * scale  # the kernel does not scale
    query, key, value = (rows(x) for x in (scaled_BxTxHxC, key_BxTxGxC, value_BxTxGxC))
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.CausalMask((padded, padded))] * query.shape[0]),
        # The fused backward kernel computes the scores once for the gradients of queries and keys. It stores
        # the queries' gradient for each block of keys, of which there are few.
        block_sizes=splash.BlockSizes(
            block_q=size, block_kv=size, block_q_dkv=size, block_kv_dkv=size, use_fused_bwd_kernel=True
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=KEPT,
    )
    return einops.rearrange(kernel(query, key, value), "(B H) T C -> B T H C", B=batch)[:, :length]

"""The frozen language model: embeddings in, hidden states out.

Layers are stacked along a leading axis and run by one scan, so compile time does not grow with depth. On CPU
a scan copies the weights of every layer that it comes to, so there few layers lie apart and are written out
one after the other (`Decoder.for_backend`).

The decoder is a pytree: pass it to `jax.jit`, `jax.grad` or `jax.vjp` as an argument, never close over it
(its weights would become constants of the program).
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcram.devices import mesh
from jaxcram.models import splash
from jaxcram.models.config import Block, DecoderConfig
from jaxcram.models.layers import attend, knockout_mask, rotary_tables, rotate

# Layers to be written out: so many are compiled as quickly as a scan. Passes hold three times the memory, so
# those of more parameters than this are scanned.
FEW_LAYERS, SMALL_LAYER = 8, 4_000_000


class Cache(NamedTuple):
    """Keys (rotated) and values [L, B, length, G, C] of the inputs so far; the position of the next."""

    keys: jax.Array
    values: jax.Array
    position: jax.Array  # int32 scalar


def keep_products(primitive: Any, *args: Any, **params: Any) -> bool:
    """What the forward pass stores for the way back: products with weights, and attention by a kernel.

    The rest (norms, rotations, softmax, activations) is cheaper to compute again than to write and read.
    """
    policies = jax.checkpoint_policies
    with_weights = policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)
    splashed = policies.save_only_these_names(splash.KEPT)(primitive, *args, **params)
    return with_weights or splashed or primitive.name.startswith("dot_product_attention")


def _through(layers: Any, step: Callable[..., Any], carry: Any, of_layer_L: Any) -> Any:
    """What `step(carry, (block, its entry of of_layer_L)) -> carry, None` makes of it, layer by layer."""
    if not isinstance(layers, nnx.List):
        return jax.lax.scan(step, carry, (layers, of_layer_L))[0]
    for number, block in enumerate(layers):
        carry, _ = step(carry, (block, jax.tree.map(lambda x, i=number: x[i], of_layer_L)))
    return carry


class Decoder(nnx.Module):
    """A decoder of any family, its weights stored and computed in one dtype (bf16 or fp32)."""

    def __init__(self, config: DecoderConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return config.block(dtype=dtype, rngs=rngs)

        init, shape = nnx.initializers.normal(0.02), (config.vocab_size, config.width)
        self.config = config
        self.embedding_VxD = nnx.Param(init(rngs.params(), shape, dtype))
        self.layers = stack(rngs)
        self.final_norm = config.final_norm(dtype=dtype)
        self.untied_head_VxD = None if config.tied_head else nnx.Param(init(rngs.params(), shape, dtype))

    @property
    def dtype(self) -> Any:
        """The dtype of weights, inputs and hidden states."""
        return self.embedding_VxD.dtype

    @property
    def head_VxD(self) -> jax.Array:  # noqa: N802
        """The output embedding [V, D]; the input embedding itself where the head is tied."""
        return mesh.gathered(
            (self.embedding_VxD if self.untied_head_VxD is None else self.untied_head_VxD)[...]
        )

    def embed(self, tokens_BxT: jax.Array) -> jax.Array:
        """Input embeddings [B, T, D] of token ids (int), in the decoder's dtype."""
        with jax.named_scope("embed"):
            return mesh.gathered(self.embedding_VxD[...])[tokens_BxT]

    def __call__(
        self,
        inputs_BxTxD: jax.Array,
        *,
        num_memory: int = 0,
        knockout_BxL: jax.Array | None = None,
        remat: bool = False,
    ) -> jax.Array:
        """Hidden states [B, T, D] after the final norm; causal, at positions 0 to T - 1.

        Where `knockout_BxL` is True, queries from `num_memory` on do not see the memory (the first
        `num_memory` keys) at that layer of that lane; the memory's own rows are untouched. None is the plain
        causal fast path. `remat` recomputes each layer on the way back instead of storing its activations.
        """
        length = inputs_BxTxD.shape[1]
        tables = rotary_tables(self.config.rotary_frequencies(), jnp.arange(length))

        def step(x_BxTxD: jax.Array, layer: tuple[Block, jax.Array | None]) -> tuple[jax.Array, None]:
            block, knocked_B = mesh.gathered(layer[0]), layer[1]
            with jax.named_scope("attention"):
                query, key, value = block.qkv(x_BxTxD)
                mask = None if knocked_B is None else knockout_mask(knocked_B, num_memory, length)
                attended = attend(rotate(query, tables), rotate(key, tables), value, mask)
            return block.finish(x_BxTxD, attended), None

        # Inside a scan nothing can merge the second computation with the first, so no guard against it is
        # needed. Outside XLA merges them on CPU whatever it is told, so those who save memory get the scan.
        step = jax.checkpoint(step, prevent_cse=False, policy=None if remat else keep_products)
        layers = self._stacked() if remat else self.layers
        knockout_LxB = None if knockout_BxL is None else knockout_BxL.T
        hidden_BxTxD = _through(layers, step, inputs_BxTxD.astype(self.dtype), knockout_LxB)
        return mesh.gathered(self.final_norm)(hidden_BxTxD)

    @property
    def is_apart(self) -> bool:
        """Whether the weights of every layer are arrays of their own."""
        return isinstance(self.layers, nnx.List)

    @property
    def blocks(self) -> list[Block]:
        """The layers one by one."""
        layers: Any = self.layers
        if self.is_apart:
            return list(layers)
        return [jax.tree.map(lambda x, i=i: x[i], layers) for i in range(self.config.num_layers)]

    def _stacked(self) -> Any:
        """The layers as one block with a leading axis."""
        return jax.tree.map(lambda *x: jnp.stack(x), *self.blocks) if self.is_apart else self.layers

    def apart(self) -> "Decoder":
        """The same decoder with the weights of every layer as arrays of their own."""
        decoder: Any = copy.copy(self)
        if all(x.is_fully_addressable and x.is_fully_replicated for x in jax.tree.leaves(self.layers)):
            # Cut on the host: on the device each cut is a program to compile, half a second of every start.
            host = jax.tree.map(np.asarray, self.layers)
            layers = [jax.tree.map(lambda x, i=i: x[i], host) for i in range(self.config.num_layers)]
            decoder.layers = nnx.List(mesh.replicated(layers, mesh.of(self.layers)))
        else:
            decoder.layers = nnx.List(self.blocks)
        return decoder

    def for_backend(self) -> "Decoder":
        """The decoder with its layers as they are quickest here: apart, if they are few, small and on CPU.

        The weights of the layers are there twice until the stack is let go.
        """
        size = sum(leaf.size for leaf in jax.tree.leaves(self.layers)) / self.config.num_layers
        small = self.config.num_layers <= FEW_LAYERS and size <= SMALL_LAYER
        return self.apart() if small and jax.default_backend() == "cpu" else self

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores [..., V] of hidden states [..., D], accumulated and returned in fp32."""
        return jnp.einsum("...d,vd->...v", hidden, self.head_VxD, preferred_element_type=jnp.float32)

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `length` positions of `batch` lanes."""
        config = self.config
        shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_size)
        return Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype), jnp.int32(0))

    def extend(self, inputs_BxTxD: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Hidden states [B, T, D] of the next T inputs, and the cache with them in it.

        The caller sees to it that position + T stays within the cache: XLA would clamp, not complain.
        """
        length, seen = inputs_BxTxD.shape[1], cache.position
        positions_T = seen + jnp.arange(length)
        tables = rotary_tables(self.config.rotary_frequencies(), positions_T)
        mask = (jnp.arange(cache.keys.shape[2]) <= positions_T[:, None])[None, None]

        # The whole cache is carried, and one slab of it written per layer, so that XLA can update it in
        # place.
        def step(carry: Any, layer: tuple[Block, jax.Array]) -> tuple[Any, None]:
            (x_BxTxD, keys, values), block, index = carry, mesh.gathered(layer[0]), layer[1]
            with jax.named_scope("attention"):
                query, key, value = block.qkv(x_BxTxD)
                corner = (index, 0, seen, 0, 0)
                keys = jax.lax.dynamic_update_slice(keys, rotate(key, tables)[None], corner)
                values = jax.lax.dynamic_update_slice(values, value[None], corner)
                attended = attend(rotate(query, tables), keys[index], values[index], mask)
            return (block.finish(x_BxTxD, attended), keys, values), None

        carry = (inputs_BxTxD.astype(self.dtype), cache.keys, cache.values)
        numbers_L = jnp.arange(self.config.num_layers)
        hidden_BxTxD, keys, values = _through(self.layers, step, carry, numbers_L)
        return mesh.gathered(self.final_norm)(hidden_BxTxD), Cache(keys, values, seen + length)

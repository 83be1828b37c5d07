"""The frozen language model: embeddings in, hidden states out.

Layers are stacked along a leading axis and run by one scan, so compile time does not grow with depth. On CPU
a scan copies the weights of every layer, so there a small decoder is unstacked and its layers are unrolled
(`Decoder.for_backend`).

The decoder is a pytree: pass it to `jax.jit`, `jax.grad` or `jax.vjp` as an argument, never close over it
(its weights would become constants of the program).
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcram.devices import mesh
from jaxcram.models import kinds, splash
from jaxcram.models.cache import Cache
from jaxcram.models.config import Block, DecoderConfig
from jaxcram.models.head import Head
from jaxcram.models.layers import PRODUCT, attend, attention_weights, causal_mask

# Limits for unrolling. The 30 layers of SmolLM2-135M compile in 3 s, scanned in 1.5 s, but small passes take
# up to 100 ms less of 110 to 290 ms. Unrolled passes take up to three times the device memory, so layers with
# more parameters than this are scanned.
FEW_LAYERS, SMALL_LAYER = 32, 8_000_000


class OwnRowKnockout(NamedTuple):
    """Knockout as published code has it, which bars the memory from its own row too.

    Its softmax then has no key left and is uniform over all of them, the text to come included. There to
    repeat published numbers; the layers alone, an array, are the right knockout.

    Attributes:
        layers_BxL: where the memory is knocked out, bool.
        length_B: positions of each lane that are no padding, memory included; None is all.
    """

    layers_BxL: Any
    length_B: Any = None


Knockout = jax.Array | np.ndarray | OwnRowKnockout


def keep_products(primitive: Any, *args: Any, **params: Any) -> bool:
    """Checkpoint policy: store products with weights and the outputs of attention kernels.

    The rest (norms, rotations, softmax, activations) is cheaper to recompute than to write and read.
    """
    policies = jax.checkpoint_policies
    with_weights = policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)
    named = policies.save_only_these_names(splash.KEPT, PRODUCT)(primitive, *args, **params)
    return with_weights or named or primitive.name.startswith("dot_product_attention")


def _run_layers(layers: Any, step: Callable[..., Any], carry: Any, xs_L: Any) -> Any:
    """Applies `step(carry, (block, x)) -> carry, y` to every layer with its entry x of `xs_L`: carry, ys."""
    if not isinstance(layers, nnx.List):
        return jax.lax.scan(step, carry, (layers, xs_L))
    ys = []
    for number, block in enumerate(layers):
        carry, y = step(carry, (block, jax.tree.map(lambda x, i=number: x[i], xs_L)))
        ys.append(y)
    return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)


class Decoder(nnx.Module):
    """A decoder of any family; weights and activations have one dtype (bf16 or fp32)."""

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
    def head(self) -> Head:
        """The output head: its own matrix, or the input embedding if it is tied."""
        weight_VxD = self.embedding_VxD if self.untied_head_VxD is None else self.untied_head_VxD
        return Head(mesh.gathered(weight_VxD[...]), self.config.logit_cap)

    def embed(self, tokens_BxT: jax.Array) -> jax.Array:
        """Input embeddings [B, T, D] of token ids (int), in the decoder's dtype.

        Scaled where the family does so. Inputs that are no tokens, such as the memory, are not: what enters
        the layers is what was trained.
        """
        with jax.named_scope("embed"):
            inputs_BxTxD = mesh.gathered(self.embedding_VxD[...])[tokens_BxT]
            scale = self.config.embedding_scale
            # The factor is rounded to the dtype first, as transformers does.
            return inputs_BxTxD if scale is None else inputs_BxTxD * jnp.asarray(scale, self.dtype)

    def __call__(
        self,
        inputs_BxTxD: jax.Array,
        *,
        num_memory: int = 0,
        knockout_BxL: Knockout | None = None,
        remat: bool = False,
    ) -> jax.Array:
        """Hidden states [B, T, D] after the final norm; causal, at positions 0 to T - 1.

        Where `knockout_BxL` is True, queries from position `num_memory` on do not attend to the memory (the
        first `num_memory` keys) at that layer of that lane; queries of the memory itself are unchanged,
        unless it is an `OwnRowKnockout`. None and windows that hold all inputs need no mask array, which is
        faster. `remat` recomputes each layer in the backward pass instead of storing its activations.
        """
        hidden_BxTxD, _ = self._pass(inputs_BxTxD, num_memory, knockout_BxL, remat=remat)
        return mesh.gathered(self.final_norm)(hidden_BxTxD)

    def measured(self, inputs_BxTxD: jax.Array, measure: Callable[[jax.Array], Any]) -> Any:
        """What `measure` makes of the attention weights of each layer, arrays with a leading axis L.

        `measure` maps fp32 weights [B, G, R, T, S] of one layer, whose head g R + r is entry (g, r), to
        something smaller, so that the weights of all layers never exist at once.
        """
        return self._pass(inputs_BxTxD, measure=measure)[1]

    def states(self, inputs_BxTxD: jax.Array, num_memory: int, knockout_BxL: Knockout) -> jax.Array:
        """The residual stream before each layer and after the last one, [L + 1, B, T, D]; as `__call__`."""
        step, xs_L = self._step(inputs_BxTxD.shape[1], num_memory, knockout_BxL)

        def kept(x_BxTxD: jax.Array, layer: tuple[Block, tuple]) -> tuple[jax.Array, jax.Array]:
            return step(x_BxTxD, layer)[0], x_BxTxD

        last_BxTxD, before = _run_layers(self.layers, kept, inputs_BxTxD.astype(self.dtype), xs_L)
        return jnp.concatenate([before, last_BxTxD[None]])

    def resumed(
        self, state_BxTxD: jax.Array, first: jax.Array, num_memory: int, knockout_BxL: Knockout
    ) -> jax.Array:
        """Hidden states as of `__call__`, from the residual stream before layer `first` (int scalar) on."""
        step, xs_L = self._step(state_BxTxD.shape[1], num_memory, knockout_BxL)

        def later(x_BxTxD: jax.Array, layer: tuple[Block, tuple]) -> tuple[jax.Array, None]:
            block, (number, x) = layer
            run = functools.partial(step, layer=(block, x))
            return jax.lax.cond(number >= first, lambda x: run(x)[0], lambda x: x, x_BxTxD), None

        numbers_L = jnp.arange(self.config.num_layers)
        hidden_BxTxD, _ = _run_layers(self.layers, later, state_BxTxD, (numbers_L, xs_L))
        return mesh.gathered(self.final_norm)(hidden_BxTxD)

    def _pass(
        self,
        inputs_BxTxD: jax.Array,
        num_memory: int = 0,
        knockout: Knockout | None = None,
        *,
        remat: bool = False,
        measure: Callable[[jax.Array], Any] | None = None,
    ) -> tuple[jax.Array, Any]:
        """Hidden states before the final norm, and what `measure` makes of each layer's attention weights."""
        step, xs_L = self._step(inputs_BxTxD.shape[1], num_memory, knockout, measure)
        # Inside a scan XLA cannot merge the recomputation with the first computation, so prevent_cse is not
        # needed. In unrolled layers XLA merges them on CPU even with it, so `remat` uses the scan.
        step = jax.checkpoint(step, prevent_cse=False, policy=None if remat else keep_products)
        layers = self._stacked() if remat else self.layers
        return _run_layers(layers, step, inputs_BxTxD.astype(self.dtype), xs_L)

    def _step(
        self,
        length: int,
        num_memory: int,
        knockout: Knockout | None,
        measure: Callable[[jax.Array], Any] | None = None,
    ) -> tuple[Callable[..., Any], Any]:
        """A function of the residual stream and a layer, with the data that tells the layers apart."""
        positions_T = jnp.arange(length)
        tables, kinds_L = kinds.of_layers(self.config, positions_T, num_keys=length)
        knockout_BxL, own_row_B = knockout, None
        if isinstance(knockout_BxL, OwnRowKnockout):
            knockout_BxL, own_row_B = knockout_BxL
            own_row_B = jnp.full(len(knockout_BxL), length) if own_row_B is None else own_row_B

        def step(x_BxTxD: jax.Array, layer: tuple[Block, tuple]) -> tuple[jax.Array, Any]:
            block, (kind, knocked_B) = mesh.gathered(layer[0]), layer[1]
            mask = None
            if knocked_B is not None or kind.window is not None:
                mask = causal_mask(positions_T, positions_T, kind.window, knocked_B, num_memory, own_row_B)
            with jax.named_scope("attention"):
                query, key, value = block.qkv(x_BxTxD)
                if own_row_B is not None:  # queries of 0 weigh all keys alike
                    own_BxT = knocked_B[:, None] & (positions_T < num_memory)
                    query = jnp.where(own_BxT[..., None, None], 0, query)
                query, key = kind.rotate(query, tables), kind.rotate(key, tables)
                attended = self._attend(query, key, value, mask)
                seen = None if measure is None else measure(self._weights(query, key, mask))
            return block.finish(x_BxTxD, attended), seen

        return step, (kinds_L, None if knockout_BxL is None else knockout_BxL.T)

    def _weights(self, query: jax.Array, key: jax.Array, mask: jax.Array | None) -> jax.Array:
        config = self.config
        return attention_weights(query, key, mask, scale=config.attention_scale, cap=config.attention_cap)

    def _attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
    ) -> jax.Array:
        config = self.config
        return attend(query, key, value, mask, scale=config.attention_scale, cap=config.attention_cap)

    @property
    def is_unstacked(self) -> bool:
        """Whether every layer has its own weight arrays, instead of one stack for all layers."""
        return isinstance(self.layers, nnx.List)

    @property
    def blocks(self) -> list[Block]:
        """The layers, as a list of blocks."""
        layers: Any = self.layers
        if self.is_unstacked:
            return list(layers)
        return [jax.tree.map(lambda x, i=i: x[i], layers) for i in range(self.config.num_layers)]

    def _stacked(self) -> Any:
        """The layers as one block with a leading axis."""
        return jax.tree.map(lambda *x: jnp.stack(x), *self.blocks) if self.is_unstacked else self.layers

    def unstacked(self) -> "Decoder":
        """The same decoder with separate weight arrays for every layer."""
        decoder: Any = copy.copy(self)
        if all(x.is_fully_addressable and x.is_fully_replicated for x in jax.tree.leaves(self.layers)):
            # Slice on the host: on the device each slice is a program to compile, 0.5 s of every start.
            host = jax.tree.map(np.asarray, self.layers)
            layers = [jax.tree.map(lambda x, i=i: x[i], host) for i in range(self.config.num_layers)]
            decoder.layers = nnx.List(mesh.replicated(layers, mesh.of(self.layers)))
        else:
            decoder.layers = nnx.List(self.blocks)
        return decoder

    def for_backend(self) -> "Decoder":
        """The decoder in the faster form for this backend: unstacked on CPU if its layers are few and small.

        The weights exist twice until the caller drops the stacked decoder.
        """
        size = sum(leaf.size for leaf in jax.tree.leaves(self.layers)) / self.config.num_layers
        small = self.config.num_layers <= FEW_LAYERS and size <= SMALL_LAYER
        return self.unstacked() if small and jax.default_backend() == "cpu" else self

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits [..., V] of hidden states [..., D], accumulated and returned in fp32."""
        return self.head.logits(hidden)

    def init_cache(self, batch: int, length: int, begin_B: jax.Array | None = None) -> Cache:
        """An empty cache for `length` inputs of `batch` lanes, padded in front up to `begin_B` (`Cache`)."""
        return Cache.empty(self.config, (batch, length), self.dtype, begin_B)

    def extend(
        self, inputs_BxTxD: jax.Array, cache: Cache, knockout_BxL: Any = None, num_memory: int = 0
    ) -> tuple[jax.Array, Cache]:
        """Hidden states [B, T, D] of the next T inputs, and the cache extended by them.

        The caller must keep position + T within the cache: XLA silently clamps updates out of range. With
        `knockout_BxL`, bool, later inputs do not see the first `num_memory` of a lane at those layers.
        """
        length, seen = inputs_BxTxD.shape[1], cache.position
        slots_T, slots_S = seen + jnp.arange(length), jnp.arange(cache.keys.shape[2])
        tables, kinds_L = kinds.of_layers(self.config, cache.positions(slots_T), num_keys=len(slots_S))

        # The whole cache is in the carry and each layer writes a slice of it, so that XLA updates in place.
        def step(carry: Any, layer: tuple[Block, tuple]) -> tuple[Any, None]:
            (x_BxTxD, keys, values), block, (kind, index, knocked) = carry, mesh.gathered(layer[0]), layer[1]
            with jax.named_scope("attention"):
                query, key, value = block.qkv(x_BxTxD)
                corner = (index, 0, seen, 0, 0)
                keys = jax.lax.dynamic_update_slice(keys, kind.rotate(key, tables)[None], corner)
                values = jax.lax.dynamic_update_slice(values, value[None], corner)
                mask = cache.mask(slots_T, slots_S, kind.window, knocked, num_memory)
                attended = self._attend(kind.rotate(query, tables), keys[index], values[index], mask)
            return (block.finish(x_BxTxD, attended), keys, values), None

        carry = (inputs_BxTxD.astype(self.dtype), cache.keys, cache.values)
        knocked_LxB = None if knockout_BxL is None else knockout_BxL.T
        xs_L = kinds_L, jnp.arange(self.config.num_layers), knocked_LxB
        (hidden_BxTxD, keys, values), _ = _run_layers(self.layers, step, carry, xs_L)
        hidden_BxTxD = mesh.gathered(self.final_norm)(hidden_BxTxD)
        return hidden_BxTxD, cache._replace(keys=keys, values=values, position=seen + length)

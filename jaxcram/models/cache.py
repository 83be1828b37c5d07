"""The key-value cache of a decoder, for lanes of one length or of several."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcram.models.config import DecoderConfig
from jaxcram.models.layers import causal_mask


class Cache(NamedTuple):
    """Keys (rotated) and values of the inputs so far.

    Lanes of different lengths end in the same slot, so they are padded in front. No input sees the padding,
    and rotary positions count from its end; the hidden states of the padding itself mean nothing.

    Attributes:
        keys, values: [L, B, S, G, C]; an input has slot 0 to S - 1.
        position: the slot of the next input, int32 scalar.
        begin_B: the first slot of each lane that is not padding, int32; None is 0 in all lanes.
    """

    keys: jax.Array
    values: jax.Array
    position: jax.Array
    begin_B: jax.Array | None

    @classmethod
    def empty(
        cls, config: DecoderConfig, size: tuple[int, int], dtype: Any, begin_B: jax.Array | None = None
    ) -> Cache:
        """A cache of B lanes with S slots each, by `size`."""
        shape = (config.num_layers, *size, config.num_kv_heads, config.head_size)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.int32(0), begin_B)

    def positions(self, slots_T: jax.Array) -> jax.Array:
        """Rotary positions [T] of slots, or [B, T] if lanes differ; negative in the padding."""
        return slots_T if self.begin_B is None else slots_T - self.begin_B[:, None]

    def mask(
        self,
        slots_T: jax.Array,
        slots_S: jax.Array,
        window: jax.Array | None,
        knocked_B: jax.Array | None = None,
        num_memory: int = 0,
    ) -> jax.Array:
        """To which of all slots queries attend, boolean [B or 1, 1, T, S] (see `layers.causal_mask`).

        The padding attends to itself, for every query needs a key. The memory are the first inputs of a lane.
        """
        if self.begin_B is None:
            return causal_mask(slots_T, slots_S, window, knocked_B, num_memory)
        mask = causal_mask(slots_T, slots_S, window)
        begin_Bx1x1x1 = self.begin_B[:, None, None, None]
        if knocked_B is not None:
            end_Bx1x1x1 = begin_Bx1x1x1 + num_memory
            into_memory = (slots_S < end_Bx1x1x1) & (slots_T[:, None] >= end_Bx1x1x1)
            mask &= ~(knocked_B[:, None, None, None] & into_memory)
        return mask & ((slots_S >= begin_Bx1x1x1) | (slots_T[:, None] < begin_Bx1x1x1))

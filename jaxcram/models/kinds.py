"""How the layers of a decoder differ in attention, as data to one scan over them."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcram.models.config import DecoderConfig
from jaxcram.models.layers import rotary_tables, rotate


class Kind(NamedTuple):
    """How layers differ in attention, an entry each: data to the scan. None where all are alike.

    Attributes:
        rotary: which of the rotary tables, int.
        window: to how many keys, up to its own, a query attends, int.
    """

    rotary: Any
    window: Any

    def rotate(self, x_BxTxHxC: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Rotary positions of this layer."""
        own = tables if self.rotary is None else (tables[0][self.rotary], tables[1][self.rotary])
        return rotate(x_BxTxHxC, own)


def of_layers(
    config: DecoderConfig, positions: jax.Array, num_keys: int
) -> tuple[tuple[jax.Array, jax.Array], Kind]:
    """Rotary tables of positions [T] or [B, T], of each kind of layer if there are several, and the kinds."""
    rotary_L = None
    frequencies_KxR = np.atleast_2d(config.rotary_frequencies())
    kinds_KxR, which_L = np.unique(frequencies_KxR, axis=0, return_inverse=True)
    if len(kinds_KxR) > 1:
        rotary_L = which_L.reshape(-1).astype(np.int32)
        tables = jax.vmap(rotary_tables, in_axes=(0, None))(kinds_KxR, positions)
    else:
        tables = rotary_tables(kinds_KxR[0], positions)
    return tables, Kind(rotary_L, config.windows_within(num_keys))

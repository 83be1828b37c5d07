"""Lanes of different lengths in one cache, of every kind of decoder."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.models.decoder import Decoder
from tests.models.test_decoder import LENGTH, config, decoder, extend, forward, inputs  # noqa: F401


def test_lanes_of_different_lengths_end_together(decoder: Decoder):  # noqa: F811
    """Padding in front changes no lane, whatever it holds, in one call or in several."""
    x_BxTxD, begin_B = inputs(4), jnp.array([0, 5, 1, 3])
    alone = forward(decoder, x_BxTxD)
    padded_BxTxD = jax.vmap(lambda x_TxD, shift: jnp.roll(x_TxD, shift, axis=0))(x_BxTxD, begin_B)
    cache = decoder.init_cache(4, LENGTH + 3, begin_B)
    pieces = []
    for start, stop in [(0, LENGTH - 1), (LENGTH - 1, LENGTH)]:
        hidden, cache = extend(decoder, padded_BxTxD[:, start:stop], cache)
        pieces.append(hidden)
    found = jnp.concatenate(pieces, axis=1)
    for lane, begin in enumerate(begin_B.tolist()):
        np.testing.assert_allclose(found[lane, begin:], alone[lane, : LENGTH - begin], atol=1e-4)

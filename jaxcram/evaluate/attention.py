"""How much attention the text gives to the memory, beside what it gives to BOS without it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from scipy import stats

from jaxcram.devices import mesh
from jaxcram.evaluate.packing import BATCH_TOKENS, key_of, per_text
from jaxcram.forward import attention_mass
from jaxcram.models.decoder import Decoder


def masses(
    model: Decoder,
    texts: Sequence[np.ndarray],
    mem_IxKxD: np.ndarray | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """`forward.attention_mass` of each layer in each of I texts, fp32 [I, L], 0 to 1.

    Args:
        model: the frozen decoder.
        texts: int32 [n] of each.
        mem_IxKxD: memory embeddings of each, fp32; None measures the mass on the first token, which is BOS if
            the tokenizer adds it, in the text alone. A text of one token has none there, and NaN.
        batch_tokens: tokens of a pass, padding included.
    """
    lengths_I = np.asarray([len(text) for text in texts], np.int32)

    def function(members: list[int], tokens_BxT: np.ndarray) -> jax.Array:
        mem_BxKxD = None if mem_IxKxD is None else mem_IxKxD[members]
        return attention_mass(model, mem_BxKxD, tokens_BxT, lengths_I[members])

    per_item = [texts] if mem_IxKxD is None else [texts, mem_IxKxD]
    keys = [key_of(*item) for item in zip(*per_item, strict=True)]
    places = mesh.places(mesh.of(model))
    found = per_text(function, texts, keys, batch_tokens=batch_tokens, places=places)
    return np.stack(found) if found else np.empty((0, model.config.num_layers), np.float32)


def correlation(mass_L: np.ndarray, other_L: np.ndarray) -> float:
    """Pearson's correlation of two masses over layers; NaN if either is the same at all of them."""
    if np.ptp(mass_L) == 0 or np.ptp(other_L) == 0:
        return float("nan")
    return float(stats.pearsonr(mass_L, other_L).statistic)

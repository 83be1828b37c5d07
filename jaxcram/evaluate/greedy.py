"""Greedy continuations of texts of any lengths, after a memory or without, in passes of few shapes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxcram.decode import continued
from jaxcram.devices import mesh
from jaxcram.errors import UserError
from jaxcram.evaluate.packing import BATCH_TOKENS, key_of, per_text
from jaxcram.models.decoder import Decoder


def generated(
    model: Decoder,
    texts: Sequence[np.ndarray],
    length: int,
    mem_IxKxD: np.ndarray | None = None,
    *,
    knockout_L: np.ndarray | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[np.ndarray]:
    """Greedy tokens after texts, int32 [length] of each (see `decode.continued`), for any number of texts.

    Args:
        model: the frozen decoder.
        texts: int32 [n] of each; may be empty if there is a memory.
        length: tokens to add.
        mem_IxKxD: memory embeddings before each, fp32.
        knockout_L: layers at which no text sees its memory, bool.
        batch_tokens: tokens of a pass, padding included.
    """
    lengths_I = np.asarray([len(text) for text in texts], np.int32)

    def function(members: list[int], tokens_BxT: np.ndarray) -> jax.Array:
        mem_BxKxD = None if mem_IxKxD is None else np.asarray(mem_IxKxD[members], np.float32)
        barred = None if knockout_L is None else np.tile(knockout_L, (len(members), 1))
        return continued(model, mem_BxKxD, tokens_BxT, lengths_I[members], length, barred)

    per_item = [texts] if mem_IxKxD is None else [texts, mem_IxKxD]
    keys = [key_of(*item) for item in zip(*per_item, strict=True)]
    places = mesh.places(mesh.of(model))
    return per_text(function, texts, keys, batch_tokens=batch_tokens, places=places)


def until_end(model: Decoder, new: np.ndarray, what: str) -> list[int]:
    """Generated tokens before the first end token.

    Args:
        model: the decoder.
        new: what `generated` gave for one text.
        what: names the text in an error.

    Raises:
        UserError: a logit was not finite before it.
    """
    tokens: list[int] = []
    for token in new.tolist():
        if token in model.config.eos_token_ids:
            break
        if token < 0:
            raise UserError(
                f"{what}: a logit after its text is not finite; the model is damaged, or overflows in "
                f"{np.dtype(model.dtype)}"
            )
        tokens.append(token)
    return tokens

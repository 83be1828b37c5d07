"""Texts of any lengths in passes of few shapes, and the negative log-likelihood of their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcram.devices import mesh
from jaxcram.forward import token_nll
from jaxcram.models.decoder import Decoder, Knockout, OwnRowKnockout
from jaxcram.text.tokens import pad_tokens

BATCH_TOKENS = 2048  # of a pass, padding included
_FEWEST_BATCHES = 8  # or a batch holds texts of very different lengths
_EIGHTH = 8


class Batch(NamedTuple):
    """Indices of the texts of one pass, its rows (some are repeated if there are more), and padded tokens."""

    members: list[int]
    rows: int
    length: int


def pack(
    lengths: Sequence[int], keys: Sequence[bytes], *, batch_tokens: int = BATCH_TOKENS, places: int = 1
) -> Iterator[Batch]:
    """Yields batches that hold every text once: neighbours in length, the longest first.

    A padded length is a multiple of an eighth of a power of two, and passes of one length have as many rows,
    so there are few shapes; only the last pass is cut to what it holds.

    Args:
        lengths: tokens of each text.
        keys: order texts of one length, so that the batches do not depend on the order of the texts.
        batch_tokens: tokens of a pass, at most, unless one row has more.
        places: rows are a multiple of it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], keys[i]))
    most = _ceil(-(-len(order) // _FEWEST_BATCHES), places)
    start = 0
    while start < len(order):
        length = padded(lengths[order[start]])
        rows = max(places, min(most, batch_tokens // length) // places * places)
        members = order[start : start + rows]
        if len(members) < rows:
            rows = min(rows, _ceil(len(members), _ceil(-(-rows // _EIGHTH), places)))
        yield Batch(members, rows, length)
        start += len(members)


def padded(length: int) -> int:
    """The least padded length that holds so many tokens."""
    return _ceil(length, max(8, (1 << (length - 1).bit_length()) // 8))


def _ceil(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def per_text(
    function: Callable[[list[int], np.ndarray], jax.Array],
    texts: Sequence[np.ndarray],
    keys: Sequence[bytes],
    *,
    batch_tokens: int = BATCH_TOKENS,
    places: int = 1,
) -> list[np.ndarray]:
    """What a function of padded texts has for each of them, in the order of `texts`.

    Args:
        function: maps the indices of B texts and their padded tokens int32 [B, T] to an array [B, ...].
        texts: int32 [n] of each.
        keys, batch_tokens, places: see `pack`.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(texts)

    def fetch(batch: Batch, results: jax.Array) -> None:
        for i, result in zip(batch.members, np.asarray(results), strict=False):
            found[i] = result.copy()

    under_way: tuple[Batch, jax.Array] | None = None
    lengths = [len(text) for text in texts]
    for batch in pack(lengths, keys, batch_tokens=batch_tokens, places=places):
        members = batch.members + batch.members[-1:] * (batch.rows - len(batch.members))
        results = function(members, pad_tokens([texts[i] for i in members], batch.rows, batch.length))
        if under_way:  # read the last pass while this one runs
            fetch(*under_way)
        under_way = batch, results
    if under_way:
        fetch(*under_way)
    return found


def text_nlls(
    model: Decoder,
    texts: Sequence[np.ndarray],
    mem_IxKxD: np.ndarray | None = None,
    *,
    owner_S: np.ndarray | None = None,
    knockout_IxL: Knockout | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[np.ndarray]:
    """-log p of every token of texts, in nats.

    Args:
        model: the frozen decoder.
        texts: int32 [n] of each of S texts.
        mem_IxKxD: memory embeddings of I items, fp32; None for the text alone.
        owner_S: to which item each text belongs; None if every text is an item of its own.
        knockout_IxL: where True, the texts of the item do not see the memory at that layer (see
            `forward.predict`); of an `OwnRowKnockout` the layers alone, the lengths are those of the texts.
        batch_tokens: tokens of a pass, padding included.

    Returns:
        fp32 [n] of each text, in the order of `texts`, whose order changes no bit of them. Without memory
        nothing predicts token 0, which has 0.
    """
    owner_S = np.arange(len(texts)) if owner_S is None else owner_S
    own_row = isinstance(knockout_IxL, OwnRowKnockout)
    layers: Any = knockout_IxL.layers_BxL if isinstance(knockout_IxL, OwnRowKnockout) else knockout_IxL
    layers_IxL = None if layers is None else np.asarray(layers, bool)
    per_item = [x for x in (mem_IxKxD, layers_IxL) if x is not None]
    keys = [key_of(text, *(x[owner] for x in per_item)) for text, owner in zip(texts, owner_S, strict=True)]
    num_memory = 0 if mem_IxKxD is None else mem_IxKxD.shape[1]

    def knockout(members: list[int]) -> Knockout | None:
        if layers_IxL is None:
            return None
        layers_BxL = layers_IxL[owner_S[members]]
        lengths = np.asarray([num_memory + len(texts[i]) for i in members], np.int32)
        return OwnRowKnockout(layers_BxL, lengths) if own_row else layers_BxL

    def nlls(members: list[int], tokens_BxT: np.ndarray) -> jax.Array:
        mem_BxKxD = None if mem_IxKxD is None else mem_IxKxD[owner_S[members]]
        return token_nll(model, mem_BxKxD, tokens_BxT, knockout_SxL=knockout(members))

    places = mesh.places(mesh.of(model))
    found = per_text(nlls, texts, keys, batch_tokens=batch_tokens, places=places)
    return [nll[: len(text)] for nll, text in zip(found, texts, strict=True)]


def key_of(*arrays: np.ndarray) -> bytes:
    """What orders texts of one length: a digest of all that makes their results."""
    return hashlib.blake2b(b"".join(x.tobytes() for x in arrays), digest_size=16).digest()

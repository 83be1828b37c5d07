"""Texts of any lengths in passes of few shapes, and how a model predicts their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcram.devices import mesh
from jaxcram.forward import Fit, token_fits
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
    """The least padded length, which is not 0, that holds so many tokens."""
    return _ceil(max(1, length), max(8, (1 << (length - 1).bit_length()) // 8))


def _ceil(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def per_text(
    function: Callable[[list[int], np.ndarray], Any],
    texts: Sequence[np.ndarray],
    keys: Sequence[bytes],
    *,
    batch_tokens: int = BATCH_TOKENS,
    places: int = 1,
) -> list[Any]:
    """What a function of padded texts has for each of them, in the order of `texts`.

    Args:
        function: maps the indices of B texts and their padded tokens int32 [B, T] to a pytree of arrays
            [B, ...].
        texts: int32 [n] of each.
        keys, batch_tokens, places: see `pack`.
    """
    found: list[Any] = [None] * len(texts)

    def fetch(batch: Batch, results: Any) -> None:
        arrays = jax.tree.map(np.asarray, results)
        for row, i in enumerate(batch.members):
            found[i] = jax.tree.map(lambda x, row=row: x[row].copy(), arrays)

    under_way: tuple[Batch, Any] | None = None
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


def text_fits(
    model: Decoder,
    texts: Sequence[np.ndarray],
    mem_IxKxD: np.ndarray | None = None,
    *,
    owner_S: np.ndarray | None = None,
    knockout_CxL: Knockout | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Fit]:
    """-log p of every token of texts, and whether it is the first of all, under each of some conditions.

    Conditions are one more batch axis, so there is one program for each padded shape, whatever the layers.

    Args:
        model: the frozen decoder.
        texts: int32 [n] of each of S texts.
        mem_IxKxD: memory embeddings of I items, fp32; None for the text alone.
        owner_S: to which item each text belongs; None if every text is an item of its own.
        knockout_CxL: where True, no text sees the memory at that layer under that condition (see
            `forward.predict`); of an `OwnRowKnockout` the layers alone, the lengths are those of the texts.
            None is one condition that bars nothing.
        batch_tokens: tokens of a pass, padding included.

    Returns:
        [n] of each text in the order of `texts`, whose order changes no bit of them, for the first condition,
        then for the second, and so on. Without memory nothing predicts token 0.
    """
    owner_S = np.arange(len(texts)) if owner_S is None else owner_S
    layers_CxL = layers_of(knockout_CxL)
    num_memory = 0 if mem_IxKxD is None else mem_IxKxD.shape[1]
    num_texts = len(texts)

    def knockout(members: np.ndarray) -> Knockout | None:
        if knockout_CxL is None:
            return None
        layers_BxL = layers_CxL[members // num_texts]
        if not isinstance(knockout_CxL, OwnRowKnockout):
            return layers_BxL
        lengths = [num_memory + len(texts[i]) for i in members % num_texts]
        return OwnRowKnockout(layers_BxL, np.asarray(lengths, np.int32))

    def fits(members: list[int], tokens_BxT: np.ndarray) -> Fit:
        rows = np.asarray(members)
        mem_BxKxD = None if mem_IxKxD is None else mem_IxKxD[owner_S[rows % num_texts]]
        return token_fits(model, mem_BxKxD, tokens_BxT, knockout(rows))

    of_items = [] if mem_IxKxD is None else [key_of(mem_KxD) for mem_KxD in mem_IxKxD]
    of_texts = [key_of(text, *(of_items[i : i + 1])) for text, i in zip(texts, owner_S, strict=True)]
    keys = [key_of(own, layers_L) for layers_L in layers_CxL for own in of_texts]
    places = mesh.places(mesh.of(model))
    repeated = list(texts) * len(layers_CxL)
    found = per_text(fits, repeated, keys, batch_tokens=batch_tokens, places=places)
    return [Fit(*(x[: len(text)] for x in fit)) for fit, text in zip(found, repeated, strict=True)]


def layers_of(knockout_CxL: Knockout | None) -> np.ndarray:
    """Where the memory is barred under each condition, bool [C, L]; [1, 0] if there is no knockout."""
    if knockout_CxL is None:
        return np.zeros((1, 0), bool)
    layers: Any = knockout_CxL.layers_BxL if isinstance(knockout_CxL, OwnRowKnockout) else knockout_CxL
    return np.asarray(layers, bool)


def key_of(*parts: np.ndarray | bytes) -> bytes:
    """What orders texts of one length: a digest of all that makes their results."""
    whole = b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
    return hashlib.blake2b(whole, digest_size=16).digest()

"""Texts of any lengths in passes of few shapes, and how a model predicts their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcram.devices import mesh
from jaxcram.forward import Conditions, Fit, token_fits, token_fits_under
from jaxcram.models.decoder import Decoder, Knockout, OwnRowKnockout
from jaxcram.text.tokens import pad_tokens, padded

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

    Passes of one padded length have as many rows, so there are few shapes; only the last pass is cut to what
    it holds.

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

    The layers are data, so there is one program for each padded shape, whatever they are; and conditions
    that are alike in their first layers run these once.

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
    conditions = None if knockout_CxL is None else Conditions.of(layers_CxL)
    num_memory = 0 if mem_IxKxD is None else mem_IxKxD.shape[1]

    def fits(members: list[int], tokens_BxT: np.ndarray) -> Fit:
        mem_BxKxD = None if mem_IxKxD is None else mem_IxKxD[owner_S[members]]
        if conditions is None or mem_BxKxD is None:
            return token_fits(model, mem_BxKxD, tokens_BxT)
        own_rows_B = None
        if isinstance(knockout_CxL, OwnRowKnockout):
            own_rows_B = np.asarray([num_memory + len(texts[i]) for i in members], np.int32)
        return token_fits_under(model, mem_BxKxD, tokens_BxT, conditions, own_rows_B)

    of_items = [] if mem_IxKxD is None else [key_of(mem_KxD) for mem_KxD in mem_IxKxD]
    keys = [key_of(text, *of_items[i : i + 1]) for text, i in zip(texts, owner_S, strict=True)]
    places = mesh.places(mesh.of(model))
    found = per_text(fits, texts, keys, batch_tokens=batch_tokens, places=places)
    return [
        Fit(*(np.atleast_2d(x)[condition, : len(text)] for x in fit))  # [C, T], or [T] of the only condition
        for condition in range(len(layers_CxL))
        for fit, text in zip(found, texts, strict=True)
    ]


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

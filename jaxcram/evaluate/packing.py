"""Texts of any lengths in passes of few shapes, and the negative log-likelihood of their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxcram.devices import mesh
from jaxcram.forward import token_nll
from jaxcram.models.decoder import Decoder
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


def text_nlls(
    model: Decoder,
    texts: Sequence[np.ndarray],
    mem_IxKxD: np.ndarray | None = None,
    *,
    owner_S: np.ndarray | None = None,
    knockout_IxL: np.ndarray | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[np.ndarray]:
    """-log p of every token of texts, in nats.

    Args:
        model: the frozen decoder.
        texts: int32 [n] of each of S texts.
        mem_IxKxD: memory embeddings of I items, fp32; None for the text alone.
        owner_S: to which item each text belongs; None if every text is an item of its own.
        knockout_IxL: where True, the texts of the item do not see the memory at that layer (see
            `forward.predict`).
        batch_tokens: tokens of a pass, padding included.

    Returns:
        fp32 [n] of each text, in the order of `texts`, whose order changes no bit of them. Without memory
        nothing predicts token 0, which has 0.
    """
    owner_S = np.arange(len(texts)) if owner_S is None else owner_S
    per_item = [x for x in (mem_IxKxD, knockout_IxL) if x is not None]
    keys = [_key(text, *(x[owner] for x in per_item)) for text, owner in zip(texts, owner_S, strict=True)]
    nlls: list[np.ndarray] = [np.empty(0)] * len(texts)

    def fetch(batch: Batch, nll_BxT: jax.Array) -> None:
        for i, nll_T in zip(batch.members, np.asarray(nll_BxT), strict=False):
            nlls[i] = nll_T[: len(texts[i])].copy()

    under_way: tuple[Batch, jax.Array] | None = None
    lengths, places = [len(text) for text in texts], mesh.places(mesh.of(model))
    for batch in pack(lengths, keys, batch_tokens=batch_tokens, places=places):
        members = batch.members + batch.members[-1:] * (batch.rows - len(batch.members))
        owner_B = owner_S[members]
        nll_BxT = token_nll(
            model,
            None if mem_IxKxD is None else mem_IxKxD[owner_B],
            pad_tokens([texts[i] for i in members], batch.rows, batch.length),
            knockout_SxL=None if knockout_IxL is None else knockout_IxL[owner_B],
        )
        if under_way:  # read the last pass while this one runs
            fetch(*under_way)
        under_way = batch, nll_BxT
    if under_way:
        fetch(*under_way)
    return nlls


def _key(*arrays: np.ndarray) -> bytes:
    return hashlib.blake2b(b"".join(x.tobytes() for x in arrays), digest_size=16).digest()

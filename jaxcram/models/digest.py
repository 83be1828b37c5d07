"""A digest of a checkpoint's weights: fast for large ones, and independent of the division into files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

WHOLE = 1 << 26  # checkpoints of at most this many bytes are read completely
PIECE, PIECES = 1 << 10, 64  # of larger ones, 64 pieces of 1 KiB are read from each tensor


def weights_digest(tensors: Iterable[Any]) -> str:
    """16 hexadecimal digits of SHA-256 over names, dtypes, shapes and values.

    A tensor has the attributes `name`, `dtype`, `shape`, and `file` and `offset` (bytes) of its values. If
    the tensors have more than `WHOLE` bytes in total, only `PIECES` evenly spaced pieces of each are read.

    Raises:
        OSError: a file cannot be read.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    everything = sum(map(_size, ordered)) <= WHOLE
    digest = hashlib.sha256()
    for tensor in ordered:
        digest.update(f"{tensor.name} {tensor.dtype} {tensor.shape}\n".encode())
        size = _size(tensor)
        with open(tensor.file, "rb") as file:
            if everything or size <= PIECE * PIECES:
                file.seek(tensor.offset)
                digest.update(file.read(size))
                continue
            for start in np.linspace(0, size - PIECE, PIECES, dtype=np.int64).tolist():
                file.seek(tensor.offset + start)
                digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]


def _size(tensor: Any) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize

"""A digest of a checkpoint's weights: cheap for large ones, and the same however they are cut into files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

WHOLE = 1 << 26  # bytes of all tensors up to which every byte is read
PIECE, PIECES = 1 << 10, 64  # bytes, and how many such pieces of each larger tensor are read


def weights_digest(tensors: Iterable[Any]) -> str:
    """16 hexadecimal digits of SHA-256 over names, dtypes, shapes and values.

    A tensor tells its `name`, `dtype` and `shape`, and the `file` and the `offset` in bytes of its values.
    Of a checkpoint larger than `WHOLE` bytes a sample of the values is read: `PIECES` pieces of each tensor,
    evenly spread from its first byte to its last.

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

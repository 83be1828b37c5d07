"""Embeddings as a person gives them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jaxcram.errors import UserError


def memory_of(embedding: npt.ArrayLike, width: int) -> np.ndarray:
    """The memory, fp32 [K, D], of an embedding [K, D], or [D] of one.

    Raises:
        UserError: it has another width, or an entry that is not finite.
    """
    mem_KxD = np.atleast_2d(np.asarray(embedding, np.float32))
    if mem_KxD.ndim != 2 or not len(mem_KxD) or mem_KxD.shape[1] != width:
        raise UserError(
            f"embedding of shape {list(np.shape(embedding))}: the model takes [K, {width}], one row for each "
            "memory embedding"
        )
    if not np.isfinite(mem_KxD).all():
        raise UserError("embedding: it has entries that are not finite")
    return mem_KxD

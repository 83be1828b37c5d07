"""A pytree of many small arrays packed into one array per dtype, for fewer transfers and collectives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed(Generic[T]):
    """A pytree of arrays whose first axis is split into R equal shards.

    Attributes:
        rows: one array [R, n] per dtype; row r is shard r of every leaf, flattened and concatenated.
        treedef: the structure.
        leaves: dtype and shape of one shard of every leaf.
    """

    rows: dict[str, Any]
    treedef: Any = dataclasses.field(metadata={"static": True})
    leaves: tuple[tuple[str, tuple[int, ...]], ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, tree: T, shards: int = 1) -> Packed[T]:
        """Packs NumPy arrays (on the host) or JAX arrays.

        Args:
            tree: arrays [S, ..].
            shards: R; S must be a multiple of it.
        """
        flat, treedef = jax.tree.flatten(tree)
        rows: dict[str, list[Any]] = {}
        leaves = []
        for leaf in flat:
            dtype = str(leaf.dtype)
            leaves.append((dtype, (leaf.shape[0] // shards, *leaf.shape[1:])))
            rows.setdefault(dtype, []).append(leaf.reshape(shards, -1))
        xp: Any = np if all(isinstance(leaf, np.ndarray) for leaf in flat) else jnp
        packed = {dtype: xp.concatenate(row, axis=1) for dtype, row in rows.items()}
        return cls(packed, treedef, tuple(leaves))

    def unpack(self) -> T:
        """The arrays [S, ..], shard after shard; views if they are NumPy arrays."""
        begin = dict.fromkeys(self.rows, 0)
        flat = []
        for dtype, shape in self.leaves:
            end = begin[dtype] + math.prod(shape)
            flat.append(self.rows[dtype][:, begin[dtype] : end].reshape(-1, *shape[1:]))
            begin[dtype] = end
        return jax.tree.unflatten(self.treedef, flat)

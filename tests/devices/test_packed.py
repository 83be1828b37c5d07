"""Packing a pytree into one array per dtype, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.devices.packed import Packed

TREE = {
    "a": np.arange(12, dtype=np.int32).reshape(4, 3),
    "b": (np.linspace(0, 1, 4, dtype=np.float32), np.arange(8, dtype=np.int32).reshape(4, 1, 2)),
}


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_unpacking_inverts_packing_on_host_and_device(shards):
    packed = Packed.of(TREE, shards)
    assert {dtype: row.shape for dtype, row in packed.rows.items()} == {
        "int32": (shards, 20 // shards),
        "float32": (shards, 4 // shards),
    }
    same(packed.unpack(), TREE)
    same(jax.jit(lambda packed: packed.unpack())(packed), TREE)
    same(jax.device_get(jax.jit(lambda tree: Packed.of(tree, shards))(TREE)).unpack(), TREE)


def test_a_row_holds_one_shard_of_every_leaf():
    first = Packed.of(TREE, 2).rows["int32"][0]
    assert first.tolist() == [*range(6), *range(4)]


def test_numpy_arrays_are_packed_on_the_host():
    assert all(isinstance(row, np.ndarray) for row in Packed.of(TREE).rows.values())
    assert all(isinstance(row, jax.Array) for row in Packed.of(jax.tree.map(jnp.asarray, TREE)).rows.values())

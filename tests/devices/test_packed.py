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


@pytest.mark.parametrize("places", [1, 2, 4])
def test_what_was_packed_comes_out_again_on_host_and_device(places):
    packed = Packed.of(TREE, places)
    assert {dtype: row.shape for dtype, row in packed.rows.items()} == {
        "int32": (places, 20 // places),
        "float32": (places, 4 // places),
    }
    same(packed.unpack(), TREE)
    same(jax.jit(lambda packed: packed.unpack())(packed), TREE)
    same(jax.device_get(jax.jit(lambda tree: Packed.of(tree, places))(TREE)).unpack(), TREE)


def test_a_row_has_what_one_place_needs():
    first = Packed.of(TREE, 2).rows["int32"][0]
    assert first.tolist() == [*range(6), *range(4)]


def test_the_host_packs_without_a_device():
    assert all(isinstance(row, np.ndarray) for row in Packed.of(TREE).rows.values())
    assert all(isinstance(row, jax.Array) for row in Packed.of(jax.tree.map(jnp.asarray, TREE)).rows.values())

"""Products with weights: accumulated in fp32, and on CPU by kernels that multiply bf16 fast."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.models.layers import project, project_wide

HALF_ULP = 2**-8  # the most that rounding to bf16 changes a number, as a share of it


def normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(len(shape)), shape).astype(jnp.bfloat16)


def both_ways(x, weight, grad):
    y, pull = jax.vjp(project, x, weight)
    return y, *pull(grad)


def test_a_product_of_bf16_and_its_gradients_are_rounded_once():
    x, weight, grad = normal(2, 3, 512), normal(16, 512), normal(2, 3, 16)
    wide = both_ways(*(a.astype(jnp.float32) for a in (x, weight, grad)))
    for narrow, expected in zip(jax.jit(both_ways)(x, weight, grad), wide, strict=True):
        assert narrow.dtype == jnp.bfloat16
        # The scale of the terms bounds what another order of the fp32 sums makes of a sum near 0.
        np.testing.assert_allclose(narrow.astype(jnp.float32), expected, rtol=1.01 * HALF_ULP, atol=2e-5)


@pytest.mark.parametrize(("backend", "result"), [("cpu", "f32"), ("gpu", "bf16"), ("tpu", "bf16")])
def test_only_cpus_get_products_of_bf16_as_fp32(monkeypatch, backend, result):
    """Both ways; the others' kernels accumulate in fp32 and round by themselves."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    traced = jax.jit(lambda *factors: both_ways(*factors))  # afresh, for this backend
    text = traced.lower(normal(4, 32), normal(16, 32), normal(4, 16)).as_text()
    products = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<\w+x(\w+)>, tensor<\w+x(\w+)>\) -> tensor<\w+x(\w+)>", text
    )
    assert products == [("bf16", "bf16", result)] * 3


def test_fp32_stays_one_plain_product():
    x, weight = normal(4, 32).astype(jnp.float32), normal(16, 32).astype(jnp.float32)
    jaxpr = jax.make_jaxpr(project)(x, weight)
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["dot_general"]


@pytest.mark.parametrize("shape", [(16,), (1, 16), (1, 1, 16)])
def test_one_row_is_multiplied_as_two_are(shape):
    x, weight = normal(*shape), normal(30, 16)
    wide = jax.jit(project_wide)
    text = wide.lower(x, weight).as_text()
    assert "tensor<2x16xbf16>, tensor<30x16xbf16>" in text
    found = wide(x, weight)
    assert (found.dtype, found.shape) == (jnp.float32, (*shape[:-1], 30))
    expected = weight.astype(jnp.float32) @ x.reshape(-1).astype(jnp.float32)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", jnp.float32), ("gpu", jnp.bfloat16)])
def test_elsewhere_and_in_fp32_one_row_is_one(monkeypatch, backend, dtype):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, weight = normal(1, 16).astype(dtype), normal(30, 16).astype(dtype)
    jaxpr = jax.make_jaxpr(lambda *factors: project_wide(*factors))(x, weight)
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["dot_general"]

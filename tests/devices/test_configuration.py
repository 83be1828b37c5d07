"""The caller's JAX configuration does not change results, and is restored afterwards."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.devices import configuration

ODD = {  # public context managers of JAX
    "enable_x64": True,
    "default_prng_impl": "rbg",
    "threefry_partitionable": False,
    "default_matmul_precision": "bfloat16",
    "numpy_rank_promotion": "raise",
    "numpy_dtype_promotion": "strict",
    "debug_nans": True,
    "disable_jit": True,
    "transfer_guard": "disallow",
    "legacy_prng_key": "error",
    "debug_key_reuse": True,
}


def computed() -> list:
    """Values each of which depends on one of the options."""
    key = jax.random.key(7)
    rows = jnp.ones((2, 3)) * jnp.arange(3.0)
    traced = []
    jax.jit(lambda x: traced.append(isinstance(x, jax.core.Tracer)) or x)(1.0)
    product = jax.make_jaxpr(lambda x: x @ x)(jnp.ones((2, 2)))
    odd = jnp.asarray([np.nan]) + np.float32(1)
    return [
        *(str(jnp.arange(3.0).dtype), str(jax.random.key_impl(key)), traced[0], bool(jnp.isnan(odd)[0])),
        *(jax.random.uniform(key, (3,)).tolist(), rows.tolist(), str(product)),
        (jnp.int32(1) + jnp.ones(2)).tolist(),
        jax.random.bits(jax.random.PRNGKey(1)).tolist(),
    ]


@pytest.mark.parametrize("option", ODD)
def test_an_option_set_in_a_thread_is_pinned_and_restored(option):
    with configuration.pinned():
        plain = computed()
    before = getattr(jax.config, f"jax_{option}")
    with getattr(jax, option)(ODD[option]):
        here = getattr(jax.config, f"jax_{option}")
        with configuration.pinned():
            assert computed() == plain
        assert getattr(jax.config, f"jax_{option}") == here
    assert getattr(jax.config, f"jax_{option}") == before


@pytest.mark.parametrize("option", ODD)
def test_an_option_set_for_the_process_is_pinned_in_every_thread(option):
    with configuration.threads(1) as threads:
        plain = threads.submit(computed).result()
    before = getattr(jax.config, f"jax_{option}")
    jax.config.update(f"jax_{option}", ODD[option])
    try:
        with configuration.pinned():
            assert computed() == plain
        with configuration.threads(1) as threads:
            assert threads.submit(computed).result() == plain
        assert getattr(jax.config, f"jax_{option}") == ODD[option]
    finally:
        jax.config.update(f"jax_{option}", before)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_keys_equal_those_of_jax_under_its_defaults(seed):
    key = configuration.key(seed)
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(seed)))
    np.testing.assert_array_equal(jax.random.key_data(key), [0, seed])
    before = jax.config.jax_random_seed_offset
    jax.config.update("jax_random_seed_offset", 3)
    try:
        np.testing.assert_array_equal(jax.random.key_data(configuration.key(seed)), [0, seed])
    finally:
        jax.config.update("jax_random_seed_offset", before)


def test_compiler_options_that_differ_from_the_default_are_recorded(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = jax.config.read("jax_disable_most_optimizations")
    try:
        jax.config.update("jax_disable_most_optimizations", False)
        assert configuration.recorded() == {}
        jax.config.update("jax_disable_most_optimizations", True)
        monkeypatch.setenv("XLA_FLAGS", "--xla_allow_excess_precision=false")
        assert configuration.recorded() == {
            "jax_disable_most_optimizations": True,
            "XLA_FLAGS": "--xla_allow_excess_precision=false",
        }
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


START = """
from jaxcram.devices import configuration
from jaxcram.errors import UserError
try:
    configuration.start()
except UserError as error:
    print(error, error.exit_code, sep="|")
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [("JAX_PLATFORMS", "no_such"), ("JAX_PLATFORMS", "rocm"), ("JAX_PLATFORM_NAME", "no_such")],
)
def test_an_unavailable_platform_is_named(name, value):
    unset = {"JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES"}
    environ = {other: set_to for other, set_to in os.environ.items() if other not in unset}
    done = subprocess.run(
        [sys.executable, "-c", START], env=environ | {name: value}, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{name}={value}: JAX cannot start there (")
    assert line.endswith("; unset it, or name a platform that is here, such as cpu|2")

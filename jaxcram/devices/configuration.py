"""JAX's configuration, fixed to its defaults, so that results do not depend on the user's settings.

Options with a thread-local context manager are set for the thread that computes; the user's own values are
untouched. Options of the whole process are recorded in the run's summary where they differ from the default.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from jaxcram.devices import environment
from jaxcram.errors import UserError

GENERATOR = "threefry2x32"

_PINNED: dict[str, Any] = {  # JAX's public context managers, and the argument of each
    "enable_x64": False,
    "default_matmul_precision": None,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "default_prng_impl": GENERATOR,
    "threefry_partitionable": True,
    "enable_custom_prng": False,
    "legacy_prng_key": "allow",
    "debug_key_reuse": False,
    "softmax_custom_jvp": False,
    "default_device": None,
    "transfer_guard": "allow",
    "array_garbage_collection_guard": "allow",
    "thread_guard": False,
    "debug_nans": False,
    "debug_infs": False,
    "disable_jit": False,
    "no_execution": False,
    "no_tracing": False,
    "check_tracer_leaks": False,
    "enable_checks": False,
}
_RECORDED: dict[str, Any] = {  # process-wide options that reach the compiler, and their defaults
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_compiler_enable_remat_pass": True,
    "jax_enable_pgle": False,
    "jax_allow_f16_reductions": True,
    "jax_use_direct_linearize": True,
    "jax_accurate_erf_inv": False,
    "jax_use_hlo_logistic_lowering": None,
}


_THREAD = threading.local()


@contextmanager
def pinned() -> Iterator[None]:
    """This thread computes with JAX's default configuration while the context is open; also a decorator."""
    with ExitStack() as stack:
        _pin(stack.enter_context)
        yield


def _pin(enter: Callable[[AbstractContextManager[Any]], Any]) -> None:
    for name, value in _PINNED.items():
        if hasattr(jax, name):  # not every version of JAX has every option
            enter(getattr(jax, name)(value))


def threads(count: int) -> ThreadPoolExecutor:
    """A thread pool whose threads run under `pinned`; new threads do not inherit it from their creator."""
    return ThreadPoolExecutor(count, initializer=_pin_thread)


def _pin_thread() -> None:
    # Kept as long as the thread lives: garbage collection would close a generator's context.
    _THREAD.stack = ExitStack()
    _pin(_THREAD.stack.enter_context)


def key(seed: int) -> jax.Array:
    """The key that `jax.random.key(seed)` returns under JAX's defaults, whatever the configuration.

    Args:
        seed: only the lowest 32 bits are used.
    """
    return jax.random.wrap_key_data(jnp.array([0, seed & 0xFFFF_FFFF], jnp.uint32), impl=GENERATOR)


def recorded() -> dict[str, Any]:
    """Compiler options that differ from the default, in JAX's configuration and in the environment."""
    values = jax.config.values
    asked = {name: _plain(values.get(name, default)) for name, default in _RECORDED.items()}
    differing = {name: value for name, value in asked.items() if value != _RECORDED[name]}
    return differing | environment.compiler_variables(os.environ)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def start() -> None:
    """Starts JAX on the platform that the environment names, or on the one that JAX finds.

    Raises:
        UserError: there is no device of that kind.
    """
    try:
        jax.devices()
    except Exception as error:  # JAX raises many types here, among them assertions without a message
        names = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES")
        asked = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
        config: Any = jax.config
        if not asked and config.jax_platforms:  # set from Python
            asked = [f"jax_platforms={config.jax_platforms}"]
        why = str(error).partition(" (set JAX_PLATFORMS")[0] or "no such device here"
        remedy = (
            "unset it, or name a platform that is here, such as cpu" if asked else "see what holds the device"
        )
        raise UserError(
            f"{' '.join(asked) or 'no device'}: JAX cannot start there ({why}); {remedy}"
        ) from error

"""JAX's configuration, pinned: a lane's result is the same whatever the person has JAX do elsewhere.

Options that JAX lets a thread change for a while are pinned for the thread that computes, and the person's
stay as they were. Those that only exist for the whole process are recorded where they are not the default.
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

_PINNED: dict[str, Any] = {  # public context managers of JAX, and their argument
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
_RECORDED: dict[str, Any] = {  # options of the whole process that reach the compiler, and their defaults
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
    """While the context is open, this thread computes under JAX's defaults; also a decorator."""
    with ExitStack() as stack:
        _pin(stack.enter_context)
        yield


def _pin(enter: Callable[[AbstractContextManager[Any]], Any]) -> None:
    for name, value in _PINNED.items():
        if hasattr(jax, name):  # versions differ
            enter(getattr(jax, name)(value))


def threads(count: int) -> ThreadPoolExecutor:
    """Threads under `pinned`, which they do not inherit from the thread that makes them."""
    return ThreadPoolExecutor(count, initializer=_pin_thread)


def _pin_thread() -> None:
    # Kept as long as the thread lives: a context manager made of a generator is left when it is collected.
    _THREAD.stack = ExitStack()
    _pin(_THREAD.stack.enter_context)


def key(seed: int) -> jax.Array:
    """The random key that `jax.random.key(seed)` is by default, whatever the configuration.

    Args:
        seed: its lowest 32 bits count.
    """
    return jax.random.wrap_key_data(jnp.array([0, seed & 0xFFFF_FFFF], jnp.uint32), impl=GENERATOR)


def recorded() -> dict[str, Any]:
    """What the configuration and the environment ask of compilers beyond the default, for a run's summary."""
    values = jax.config.values
    asked = {name: _plain(values.get(name, default)) for name, default in _RECORDED.items()}
    differing = {name: value for name, value in asked.items() if value != _RECORDED[name]}
    return differing | environment.compiler_variables(os.environ)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def start() -> None:
    """Starts JAX on the devices that the environment names, or on those it finds.

    Raises:
        UserError: there are none of that kind.
    """
    try:
        jax.devices()
    except Exception as error:  # JAX has none of its own for this; some are assertions without a word
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

"""Environment variables that programs accept; decided before JAX is imported, which reads them then.

Results must not depend on how JAX happens to be configured. Programs keep the JAX variables that say where
to run, what to cache and what to log, and remove all others, including those of future versions of JAX.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from fnmatch import fnmatchcase

from jaxcram.errors import UserError

_KEPT = (  # patterns
    *("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES", "JAX_*_VISIBLE_DEVICES"),
    *(
        "JAX_COORDINATOR_*",
        "JAX_NUM_PROCESSES",
        "JAX_PROCESS_ID",
        "JAX_LOCAL_DEVICE_IDS",
        "JAX_PARTITION_INDEX",
        "JAX_MTLS_*",
        "JAX_CROSS_HOST_*",
    ),
    *("JAX_CPU_GET_*_TIMEOUT_MINUTES", "JAX_DISTRIBUTED_*", "JAX_CHECK_PROXY_ENVS"),
    *("JAX_COMPILATION_CACHE_*", "JAX_ENABLE_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE_*"),
    *("JAX_RAISE_PERSISTENT_CACHE_ERRORS", "JAX_PJRT_CLIENT_CREATE_OPTIONS"),
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK",
    *("JAX_LOG*", "JAX_EXPLAIN_CACHE_MISSES", "JAX_DEBUG_LOG_MODULES", "JAX_COMPILER_DETAILED_LOGGING_*"),
    *("JAX_DUMP_IR_*", "JAX_INCLUDE_*", "JAX_TRACEBACK_*", "JAX_PPRINT_USE_COLOR"),
    "JAX_DISABLE_MOST_OPTIMIZATIONS",  # speeds up tests; recorded by `configuration.recorded`
)
_COMPILER_VARIABLES = "XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE"
_HARMLESS = "--xla_force_host_platform_device_count", "--xla_dump_"  # prefixes of flags


def remove_unsafe_variables(environ: MutableMapping[str, str]) -> list[str]:
    """Removes JAX variables that could change results, and returns their names.

    Args:
        environ: the environment of this process, before JAX is imported.
    """
    removed = sorted(
        name
        for name in environ
        if name.startswith("JAX_") and not any(fnmatchcase(name, pattern) for pattern in _KEPT)
    )
    for name in removed:
        del environ[name]
    return removed


def compiler_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that compilers read directly and that may change results, without their harmless flags."""
    found = {}
    for name in _COMPILER_VARIABLES:
        flags = environ.get(name, "").split()
        if relevant := [flag for flag in flags if not flag.startswith(_HARMLESS)]:
            found[name] = " ".join(relevant)
    return found


def import_jax() -> None:
    """Imports JAX.

    Raises:
        UserError: JAX cannot read the value of an environment variable.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        given = " ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_"))
        raise UserError(
            f"JAX cannot read its environment ({error}); correct it or unset it: {given}"
        ) from error

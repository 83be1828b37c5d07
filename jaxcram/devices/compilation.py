"""JAX's persistent compilation cache, on by default, and the compile time that it saves."""

from __future__ import annotations

import errno
import logging
import math
import os
import time
from pathlib import Path
from typing import Any, Self

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_SAVED = "/jax/compilation_cache/compile_time_saved_sec"
_LOGGER = logging.getLogger("jaxcram")


def use_cache() -> None:
    """Keep compiled programs in `$XDG_CACHE_HOME/jaxcram/xla` (by default under ~/.cache).

    A relative XDG_CACHE_HOME is ignored, as the XDG specification asks. A directory already set by
    `JAX_COMPILATION_CACHE_DIR` or in JAX's configuration is kept. If the directory cannot be written, the
    cache stays off and a warning says so.
    """
    config: Any = jax.config  # its options are not typed
    if not config.jax_enable_compilation_cache:
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # JAX's default of 1 s would skip many programs of small models, which dominate a short run's start.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if config.jax_compilation_cache_dir:
        return
    base = os.environ.get("XDG_CACHE_HOME", "")
    directory = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "jaxcram", "xla")
    try:
        if not directory.is_absolute():  # this user has no home directory
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _LOGGER.warning(
            "the compilation cache is off: %s cannot be written (%s); "
            "set JAX_COMPILATION_CACHE_DIR=DIR to use another directory",
            *(directory, error.strerror),
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))


def cache_directory() -> Path | None:
    """The directory of the compilation cache; None if it is off."""
    config: Any = jax.config
    return Path(config.jax_compilation_cache_dir) if config.jax_compilation_cache_dir else None


class CompileTime:
    """Measures, while the context is open, the time spent compiling and the time saved by the cache."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []  # (start, end) of compilations in all threads
        self._saved: list[float] = []

    def __enter__(self) -> Self:
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    @property
    def spent_s(self) -> float:
        """Seconds of wall time during which at least one thread was compiling."""
        spent, until = 0.0, -math.inf
        for start, end in sorted(self._spans):
            spent += max(0.0, end - max(start, until))
            until = max(until, end)
        return spent

    @property
    def saved_s(self) -> float:
        """Seconds of compilation that the cache saved, summed over threads."""
        return sum(self._saved)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        seconds = max(0.0, duration_secs)  # JAX measures with a wall clock, which may be set back
        if event == _COMPILED:
            now = time.perf_counter()
            self._spans.append((now - seconds, now))
        elif event == _SAVED:
            self._saved.append(seconds)

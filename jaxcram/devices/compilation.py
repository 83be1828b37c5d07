"""Compiled programs outlive the process: JAX's compilation cache, on by default, and what it saves."""

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

    As its specification wants, a relative XDG_CACHE_HOME counts as none.

    A directory that is set already, by `JAX_COMPILATION_CACHE_DIR` or in JAX's configuration, stays; one that
    cannot be written leaves the cache off, which is told.
    """
    config: Any = jax.config  # its options are not typed
    if not config.jax_enable_compilation_cache:
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # The programs of small models compile in a second or two each, most of a short run's start.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if config.jax_compilation_cache_dir:
        return
    base = os.environ.get("XDG_CACHE_HOME", "")
    directory = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "jaxcram", "xla")
    try:
        if not directory.is_absolute():  # nobody knows a home of this user
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _LOGGER.warning(
            "compiled programs are not kept for the next start: %s cannot be written (%s); "
            "JAX_COMPILATION_CACHE_DIR=DIR keeps them elsewhere",
            *(directory, error.strerror),
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))


def cache_directory() -> Path | None:
    """Where compiled programs are kept, if anywhere."""
    config: Any = jax.config
    return Path(config.jax_compilation_cache_dir) if config.jax_compilation_cache_dir else None


class CompileTime:
    """Time in which programs were compiled, and what the cache saved, while the context is open."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []  # of all threads
        self._saved: list[float] = []

    def __enter__(self) -> Self:
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    @property
    def spent_s(self) -> float:
        """Seconds of wall time in which some thread was compiling."""
        spent, until = 0.0, -math.inf
        for start, end in sorted(self._spans):
            spent += max(0.0, end - max(start, until))
            until = max(until, end)
        return spent

    @property
    def saved_s(self) -> float:
        """Seconds of compilation that the cache saved, those of all threads together."""
        return sum(self._saved)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        seconds = max(0.0, duration_secs)  # JAX takes these from a clock that may be set back
        if event == _COMPILED:
            now = time.perf_counter()
            self._spans.append((now - seconds, now))
        elif event == _SAVED:
            self._saved.append(seconds)

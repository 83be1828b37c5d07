"""SIGINT, SIGTERM and preemption notices as requests to stop, which a run obeys between two chunks."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

import jax

from jaxcram.devices import private, processes


class StopRequest:
    """Records the first SIGINT and every SIGTERM while the context is open; a second SIGINT acts as usual.

    Where `jax.distributed` is initialised, JAX handles SIGTERM and preemption notices itself and reports them
    to all processes before the same chunk. With several processes, one that receives SIGINT sends itself
    SIGTERM, so that the others stop too.
    """

    def __init__(self) -> None:
        self._wanted: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._distributed = jax.distributed.is_initialized()
        self._chunk = 0

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may set signal handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            if number is signal.SIGTERM and self._distributed:
                continue
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
            if sys.stderr.isatty():
                # Not print: the signal may have arrived during one, and print is not reentrant.
                os.write(2, b"\nfinishing the current chunk; interrupt again to stop at once\n")
        self._wanted = signal.Signals(number)
        if processes.count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_chunk(self) -> signal.Signals | None:
        """The signal to obey now, or None; every process must call this after every chunk."""
        self._chunk += 1
        if self._distributed and private.reached_preemption_sync_point(self._chunk):
            wanted = self._wanted or signal.SIGTERM
            return signal.Signals(processes.from_first(lambda: int(wanted)))  # one exit code for all
        return self._wanted if processes.count() == 1 else None

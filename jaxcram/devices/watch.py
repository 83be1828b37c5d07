"""Heartbeats between the processes of a run: when one is lost, all others end with one line."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from jax.errors import JaxRuntimeError

from jaxcram.devices import private
from jaxcram.errors import StoppedError

BEAT_SECONDS = 2.0  # between two heartbeats
MOST_MISSED = 10  # own heartbeats without one from another process before that process counts as dead
LOST = StoppedError.exit_code

_ALIVE = "jaxcram/alive/"
_LEFT = "left "


def end(reason: str, code: int = LOST) -> NoReturn:
    """Ends this process at once, from any thread: the main thread may be blocked by a lost process."""
    remedy = "; what is finished was kept: start all processes again" if code == LOST else ""
    with suppress(OSError):
        os.write(2, f"\njaxcram: error: process {private.process_id()} {reason}{remedy}\n".encode())
    os._exit(code)


_abort_handlers: list[Any] = []  # C may call them until the process exits


def at_abort(lost: Callable[[], str | None] | None) -> None:
    """Makes an abort by JAX that a lost process caused end with one line; other aborts stay crashes.

    Args:
        lost: returns the reason if a lost process caused the abort, else None. In place of the function, None
            restores the default handling.
    """
    # Not Python's signal module: its handlers run in the main thread, which abort() does not wait for.
    libc, abort = ctypes.CDLL(None), int(signal.SIGABRT)
    libc.signal(abort, None)  # SIG_DFL
    if lost is None:
        return

    def handle(_: int) -> None:
        if reason := lost():
            end(reason)
        libc.signal(abort, None)
        os.kill(os.getpid(), abort)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    _abort_handlers.append(handler)
    libc.signal(abort, handler)


def lost_process_0() -> str | None:
    """The reason to end, if process 0, which hosts the coordination service, does not answer; else None."""
    if private.process_id() == 0:
        return None
    host, _, port = private.coordinator_address().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_SECONDS).close()
    except OSError:
        return "ends because process 0 is lost"
    return None


@contextmanager
def _requires_process_0() -> Iterator[None]:
    """Ends this process if a call of the coordination service fails because process 0 is lost."""
    try:
        yield
    except JaxRuntimeError:
        if reason := lost_process_0():
            end(reason)
        raise


class Watch:
    """Sends heartbeats through the coordination service, and ends this process when another sends none.

    A limit in own heartbeats, not in seconds, so that a machine that was suspended or is overloaded does not
    declare the others dead.
    """

    def __init__(self) -> None:
        self._client = private.coordination_client()
        self._stopped = threading.Event()
        self._beats = 0
        self._publish("0")
        self._thread = threading.Thread(target=self._run, name="jaxcram watch", daemon=True)
        self._thread.start()

    def _publish(self, state: str) -> None:
        with _requires_process_0():
            self._client.key_value_set(f"{_ALIVE}{private.process_id()}", state, allow_overwrite=True)

    def stop(self) -> None:
        """Stops the heartbeats: the work is done, or all processes end together."""
        if not self._stopped.is_set():
            self._publish_last("")

    def _publish_last(self, state: str) -> None:
        self._stopped.set()
        self._thread.join()  # or a heartbeat in progress would overwrite the state
        self._publish(state)

    def await_loss(self) -> None:
        """Waits until a process that is lost by now would have been noticed, which ends this one."""
        enough = self._beats + MOST_MISSED + 4  # margin: its last heartbeat may have arrived late
        while self._beats < enough and self._thread.is_alive():
            time.sleep(BEAT_SECONDS / 4)

    def end_all(self, code: int) -> None:
        """Makes all other processes end with `code`, and lets this one exit without waiting for them."""
        self._publish_last(f"{_LEFT}{code}")
        if private.process_id() == 0:
            time.sleep(2 * BEAT_SECONDS)  # the others must read it before the service ends with this process
        atexit.register(_exit_now, code)  # JAX's own exit handler would wait for all others

    def _run(self) -> None:
        latest: dict[str, tuple[str, int]] = {}  # key -> (state, own heartbeat at which it was new)
        while not self._stopped.wait(BEAT_SECONDS):
            self._beats += 1
            self._publish(str(self._beats))
            with _requires_process_0():
                states = self._client.key_value_dir_get(_ALIVE)
            for key, state in states:
                if latest.get(key, ("", 0))[0] != state:
                    latest[key] = state, self._beats
            for key, (state, last) in latest.items():
                missed = self._beats - last
                if state.startswith(_LEFT):
                    code = int(state.removeprefix(_LEFT))
                    self._lose(key, f"ended with exit code {code}", code)
                elif state and missed > MOST_MISSED:
                    self._lose(key, f"is lost (no heartbeat for {missed * BEAT_SECONDS:.0f} s)", LOST)

    def _lose(self, key: str, how: str, code: int) -> None:
        if private.process_id() == 0:
            time.sleep(2 * BEAT_SECONDS)  # the others must notice too, before the service ends
        if not self._stopped.is_set():
            end(f"ends because process {key.removeprefix(_ALIVE)} {how}", code)


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

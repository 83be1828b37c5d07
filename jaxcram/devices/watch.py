"""How processes that work together notice that one of them is gone, and end with one line."""

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

BEAT_SECONDS = 2.0  # between two signs of life
MOST_MISSED = 10  # beats of one's own without one of another, which then is taken for dead
LOST = StoppedError.exit_code

_ALIVE = "jaxcram/alive/"
_LEFT = "left "


def end(what: str, code: int = LOST) -> NoReturn:
    """Ends this process at once, from any thread: the main one may wait for a peer for ever."""
    remedy = "; what is finished was kept: start all processes again" if code == LOST else ""
    with suppress(OSError):
        os.write(2, f"\njaxcram: error: process {private.process_id()} {what}{remedy}\n".encode())
    os._exit(code)


_abort_handlers: list[Any] = []  # C calls them as long as the process lives


def at_abort(lost: Callable[[], str | None] | None) -> None:
    """Let JAX's own abort, when peers are lost, end in one line as well; other aborts stay crashes.

    Args:
        lost: what to say in that line, or None if no peer is the cause; in its place None where none can be.
    """
    # Not Python's signal module: its handlers run in the main thread, which abort() does not wait for.
    libc, abort = ctypes.CDLL(None), int(signal.SIGABRT)
    libc.signal(abort, None)  # what is done by default
    if lost is None:
        return

    def handle(_: int) -> None:
        if what := lost():
            end(what)
        libc.signal(abort, None)
        os.kill(os.getpid(), abort)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    _abort_handlers.append(handler)
    libc.signal(abort, handler)


def first_gone() -> str | None:
    """Whether the coordination service, and with it process 0, is gone, in words."""
    if private.process_id() == 0:
        return None
    host, _, port = private.coordinator_address().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_SECONDS).close()
    except OSError:
        return "ends because process 0 is gone"
    return None


@contextmanager
def _first_there() -> Iterator[None]:
    """What cannot be asked of the coordination service because process 0 is gone ends this process."""
    try:
        yield
    except JaxRuntimeError:
        if what := first_gone():
            end(what)
        raise


class Watch:
    """Gives signs of life through the coordination service, and ends this process when another gives none.

    Beats are counted, not timed, so that a machine that was suspended, or is short of CPU, blames nobody.
    """

    def __init__(self) -> None:
        self._client = private.coordination_client()
        self._stopped = threading.Event()
        self._beats = 0
        self._say("0")
        self._thread = threading.Thread(target=self._run, name="jaxcram watch", daemon=True)
        self._thread.start()

    def _say(self, what: str) -> None:
        with _first_there():
            self._client.key_value_set(f"{_ALIVE}{private.process_id()}", what, allow_overwrite=True)

    def stop(self) -> None:
        """The work is done, or ends in all processes: no sign of life is due any more."""
        if not self._stopped.is_set():
            self._last_word("")

    def _last_word(self, what: str) -> None:
        self._stopped.set()
        self._thread.join()  # a beat under way would overwrite it
        self._say(what)

    def listen(self) -> None:
        """Waits until a peer that is gone by now would have been missed."""
        enough = self._beats + MOST_MISSED + 4  # its last one may have come late, and so may be missed late
        while self._beats < enough and self._thread.is_alive():
            time.sleep(BEAT_SECONDS / 4)

    def leave(self, code: int) -> None:
        """Tells the others that this process leaves alone, and lets it go without waiting for them."""
        self._last_word(f"{_LEFT}{code}")
        if private.process_id() == 0:
            time.sleep(2 * BEAT_SECONDS)  # the service, and with it what was said, leaves with this process
        atexit.register(_leave, code)  # JAX's own way out waits for all others

    def _run(self) -> None:
        heard: dict[str, tuple[str, int]] = {}
        while not self._stopped.wait(BEAT_SECONDS):
            self._beats += 1
            self._say(str(self._beats))
            with _first_there():
                all_said = self._client.key_value_dir_get(_ALIVE)
            for key, said in all_said:
                if heard.get(key, ("", 0))[0] != said:
                    heard[key] = said, self._beats
            for key, (said, last) in heard.items():
                missed = self._beats - last
                if said.startswith(_LEFT):
                    code = int(said.removeprefix(_LEFT))
                    self._lose(key, f"ended with exit code {code}", code)
                elif said and missed > MOST_MISSED:
                    self._lose(key, f"has died (no sign of life for {missed * BEAT_SECONDS:.0f} s)", LOST)

    def _lose(self, key: str, how: str, code: int) -> None:
        if private.process_id() == 0:
            time.sleep(2 * BEAT_SECONDS)  # the others hear it too, before the service goes
        if not self._stopped.is_set():
            end(f"ends because process {key.removeprefix(_ALIVE)} {how}", code)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

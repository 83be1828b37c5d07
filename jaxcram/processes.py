"""Several processes as one run: how they find each other, agree, and notice that one of them is gone.

All run the same program, so whatever decides what is done next has to be the same in all of them. What only
one can know (files that are there, a mistake in what it was given) it tells the others through JAX's
coordination service, which process 0 hosts. With one process everything here does nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import jax
from jax._src import clusters, distributed  # the service's client and the clusters have no public names
from jax.errors import JaxRuntimeError

from jaxcram.errors import Interrupted, StoppedError, UserError

JOIN_SECONDS = 300  # until all processes have to be there
BEAT_SECONDS = 2.0  # between two signs of life
MOST_MISSED = 10  # beats of one's own without one of another, which then is taken for dead
LOST = StoppedError.exit_code

_CLUSTERS = "ompi", "slurm", "gketpu", "gcetpu"  # JAX's names; of Kubernetes without TPUs the flags tell
_FOREVER_MS = 10 * 24 * 3600 * 1000  # a peer that is gone ends the wait by ending this process
_ALIVE = "jaxcram/alive/"
_LEFT = "left "

T = TypeVar("T")
_talks = itertools.count()  # of the same number in all processes, as all say the same things in turn


def number() -> int:
    """Which process this is; 0 tells the person what there is to tell, and keeps the run's common files."""
    return distributed.global_state.process_id


def count() -> int:
    """How many processes there are."""
    return distributed.global_state.num_processes


def _service() -> Any:
    """The client of the coordination service: keys and values that all processes see."""
    return distributed.global_state.client


@contextmanager
def joined(address: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """This process as one of several while the context is open.

    Args:
        address: host:port of process 0; None leaves all three to Slurm, Open MPI, a TPU slice or GKE, and is
            one process alone where there is none of these, or one task of it.
        processes, process: how many there are, and which this is.

    Raises:
        UserError: there are other processes already under this address.

    A process that leaves with an error of its own ends all others with one line and its exit code; one that
    dies or cannot be reached, with exit code 75.
    """
    cluster = next((env for env in clusters.ClusterEnv._cluster_types if _is_here(env)), None)
    if address is None and (cluster is None or cluster.get_process_count() == 1):
        yield
        return
    late = time.monotonic() + 0.9 * JOIN_SECONDS
    unreached = f"cannot reach the other processes within {JOIN_SECONDS} s; check that all were started"
    _at_abort(lambda: unreached if time.monotonic() > late else _first_gone())
    if address is not None and process == 0:
        _refuse_taken(address)
    jax.distributed.initialize(
        address,
        processes,
        process,
        cluster_detection_method=cluster.name if cluster else "deactivate",
        initialization_timeout=JOIN_SECONDS,
    )
    _at_abort(_first_gone if number() > 0 else None)
    watch = _Watch()
    try:
        yield
    except BaseException as error:
        if isinstance(error, JaxRuntimeError):
            watch.listen()  # a peer may be the cause, whose silence then ends us here
        if not isinstance(error, Interrupted) and not getattr(error, "agreed", False):
            watch.leave(_exit_code(error))
        raise
    finally:
        watch.stop()


def _is_here(env: type[clusters.ClusterEnv]) -> bool:
    return env.name in _CLUSTERS and env.is_env_present()


def _refuse_taken(address: str) -> None:
    """JAX would crash at a port that is taken."""
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(f"coordinator_address {address}: port {port} is taken; choose another") from error


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _end(what: str, code: int = LOST) -> NoReturn:
    """Ends this process at once, from any thread: the main one may wait for a peer for ever."""
    remedy = "; what is finished was kept: start all processes again" if code == LOST else ""
    os.write(2, f"\njaxcram: error: process {number()} {what}{remedy}\n".encode())
    os._exit(code)


_abort_handlers: list[Any] = []  # C calls them as long as the process lives


def _at_abort(lost: Callable[[], str | None] | None) -> None:
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
            _end(what)
        libc.signal(abort, None)
        os.kill(os.getpid(), abort)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    _abort_handlers.append(handler)
    libc.signal(abort, handler)


def _first_gone() -> str | None:
    """Whether the coordination service, and with it process 0, is gone, in words."""
    if number() == 0:
        return None
    host, _, port = str(distributed.global_state.coordinator_address).rpartition(":")
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
        if what := _first_gone():
            _end(what)
        raise


class _Watch:
    """Gives signs of life through the coordination service, and ends this process when another gives none.

    Beats are counted, not timed, so that a machine that was suspended, or is short of CPU, blames nobody.
    """

    def __init__(self) -> None:
        self._client = _service()
        self._stopped = threading.Event()
        self._beats = 0
        self._say("0")
        self._thread = threading.Thread(target=self._run, name="jaxcram watch", daemon=True)
        self._thread.start()

    def _say(self, what: str) -> None:
        with _first_there():
            self._client.key_value_set(f"{_ALIVE}{number()}", what, allow_overwrite=True)

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
        if number() == 0:
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
        if number() == 0:
            time.sleep(2 * BEAT_SECONDS)  # the others hear it too, before the service goes
        if not self._stopped.is_set():
            _end(f"ends because process {key.removeprefix(_ALIVE)} {how}", code)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def together() -> Iterator[None]:
    """Work that each process does for itself; nobody goes on before all have done it.

    Raises:
        UserError: in all processes, if it is raised in one; process 0 tells it.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        if count() == 1:
            raise
        error = raised
    if count() == 1:
        return
    everyone = range(count())
    told = _exchange(None if error is None else [str(error), error.exit_code], everyone)
    for process, mistake in zip(everyone, told, strict=True):
        if mistake:
            message, code = mistake
            raise _agreed(message if process == 0 else f"process {process}: {message}", code) from error


def from_first(function: Callable[[], T]) -> T:
    """What `function` returns on process 0 (as JSON can say it), on all processes; its UserError, too."""
    if count() == 1:
        return function()
    answer: dict[str, Any] = {}
    if number() == 0:
        try:
            answer = {"value": function()}
        except UserError as error:
            answer = {"mistake": [str(error), error.exit_code]}
    (answer,) = _exchange(answer, [0])
    if "mistake" in answer:
        raise _agreed(*answer["mistake"])
    return answer["value"]


def _exchange(what: Any, speakers: Sequence[int]) -> list[Any]:
    """What every speaker says, on all processes; `what` is this one's part, if it is one of them."""
    talk, client = next(_talks), _service()
    if number() in speakers:
        client.key_value_set(f"jaxcram/talk{talk}/{number()}", json.dumps(what))
    said = [client.blocking_key_value_get(f"jaxcram/talk{talk}/{one}", _FOREVER_MS) for one in speakers]
    return [json.loads(one) for one in said]


def _agreed(message: str, exit_code: int) -> UserError:
    error = UserError(message)
    error.exit_code, error.agreed = exit_code, True
    return error

"""Several processes as one run: how they connect, agree on values, and notice a lost process.

All processes run the same program, so every decision must be based on the same values. Values that only one
process knows (existing files, an error in its arguments) are sent to the others through JAX's coordination
service, which process 0 hosts. With one process, everything here is a no-op.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
from jax.errors import JaxRuntimeError

from jaxcram.devices import launched, private
from jaxcram.devices.rendezvous import rendezvous
from jaxcram.devices.watch import Watch, at_abort, lost_process_0
from jaxcram.errors import Interrupted, UserError

JOIN_SECONDS = 300  # time in which all processes must have connected

_FOREVER_MS = 10 * 24 * 3600 * 1000  # if a process is lost, `Watch` ends this one, and with it the wait

T = TypeVar("T")
_exchanges = itertools.count()  # the same in all processes, since all make the same exchanges in order


def number() -> int:
    """The rank of this process; process 0 prints messages and writes the files that the run shares."""
    return private.process_id()


def count() -> int:
    """The number of processes."""
    return private.num_processes()


@contextmanager
def joined(address: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """Connects this process to the others while the context is open.

    Args:
        address: host:port of process 0. None takes all three from Slurm, Open MPI, a TPU slice or GKE;
            without these, or with one task, this process runs alone.
        processes, process: number of processes, and rank of this one.

    Raises:
        UserError: the arguments contradict those of another process, or a launcher started several processes
            that are not connected.
        StoppedError: not all processes connected in time.

    If a process fails with an error, all others end with one line and the same exit code. If a process dies
    or becomes unreachable, all others end with exit code 75.
    """
    cluster = None
    if address is None:
        cluster = private.cluster()
        launched.require_joined(os.environ, cluster and cluster[1:])
        if cluster is None or cluster[1] == 1:
            yield
            return
    elif processes is not None and process is not None:
        rendezvous(address, processes, process, JOIN_SECONDS)
    late = time.monotonic() + 0.9 * JOIN_SECONDS
    unreached = f"cannot reach the other processes within {JOIN_SECONDS} s; check that all were started"
    at_abort(lambda: unreached if time.monotonic() > late else lost_process_0())
    # Processes connect directly, whatever proxy is set for downloads; this also silences JAX's warning.
    os.environ["grpc_proxy"] = ""  # noqa: SIM112
    jax.config.update("jax_check_proxy_envs", False)
    jax.distributed.initialize(
        address,
        processes,
        process,
        cluster_detection_method=cluster[0] if cluster else "deactivate",
        initialization_timeout=JOIN_SECONDS,
    )
    at_abort(lost_process_0 if number() > 0 else None)
    watch = Watch()
    try:
        yield
    except BaseException as error:
        if isinstance(error, JaxRuntimeError):
            watch.await_loss()  # if a lost process is the cause, this call ends the process with that reason
        if not isinstance(error, Interrupted) and not getattr(error, "agreed", False):
            watch.end_all(_exit_code(error))
        raise
    finally:
        watch.stop()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


@contextmanager
def together() -> Iterator[None]:
    """Runs the body in each process and waits until all have finished it.

    Raises:
        UserError: raised in all processes if the body raised it in one; process 0 reports it.
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
    ranks = range(count())
    failures = _exchange(None if error is None else [str(error), error.exit_code], ranks)
    for process, failure in zip(ranks, failures, strict=True):
        if failure:
            message, code = failure
            raise _agreed(message if process == 0 else f"process {process}: {message}", code) from error


def from_first(function: Callable[[], T]) -> T:
    """Calls `function` on process 0; returns its value (JSON) or raises its UserError on all processes."""
    if count() == 1:
        return function()
    answer: dict[str, Any] = {}
    if number() == 0:
        try:
            answer = {"value": function()}
        except UserError as error:
            answer = {"failure": [str(error), error.exit_code]}
    (answer,) = _exchange(answer, [0])
    if "failure" in answer:
        raise _agreed(*answer["failure"])
    return answer["value"]


def _exchange(value: Any, senders: Sequence[int]) -> list[Any]:
    """Sends `value`, if this process is a sender, and returns the values of all senders in order."""
    prefix, client = f"jaxcram/exchange{next(_exchanges)}", private.coordination_client()
    if number() in senders:
        client.key_value_set(f"{prefix}/{number()}", json.dumps(value))
    return [json.loads(client.blocking_key_value_get(f"{prefix}/{rank}", _FOREVER_MS)) for rank in senders]


def _agreed(message: str, exit_code: int) -> UserError:
    error = UserError(message)
    error.exit_code, error.agreed = exit_code, True
    return error

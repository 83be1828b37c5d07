"""Several processes as one run: how they find each other, agree, and notice that one of them is gone.

All run the same program, so whatever decides what is done next has to be the same in all of them. What only
one can know (files that are there, a mistake in what it was given) it tells the others through JAX's
coordination service, which process 0 hosts. With one process everything here does nothing.
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
from jaxcram.devices.roll_call import roll_call
from jaxcram.devices.watch import Watch, at_abort, first_gone
from jaxcram.errors import Interrupted, UserError

JOIN_SECONDS = 300  # until all processes have to be there

_FOREVER_MS = 10 * 24 * 3600 * 1000  # a peer that is gone ends the wait by ending this process

T = TypeVar("T")
_talks = itertools.count()  # of the same number in all processes, as all say the same things in turn


def number() -> int:
    """Which process this is; 0 tells the person what there is to tell, and keeps the run's common files."""
    return private.process_id()


def count() -> int:
    """How many processes there are."""
    return private.num_processes()


@contextmanager
def joined(address: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """This process as one of several while the context is open.

    Args:
        address: host:port of process 0; None leaves all three to Slurm, Open MPI, a TPU slice or GKE, and is
            one process alone where there is none of these, or one task of it.
        processes, process: how many there are, and which this is.

    Raises:
        UserError: the three do not fit those of the other processes, or a launcher has started several that
            do not find each other.
        StoppedError: the others have not come.

    A process that leaves with an error of its own ends all others with one line and its exit code; one that
    dies or cannot be reached, with exit code 75.
    """
    cluster = None
    if address is None:
        cluster = private.cluster()
        launched.refuse_strangers(os.environ, cluster and cluster[1:])
        if cluster is None or cluster[1] == 1:
            yield
            return
    elif processes is not None and process is not None:
        roll_call(address, processes, process, JOIN_SECONDS)
    late = time.monotonic() + 0.9 * JOIN_SECONDS
    unreached = f"cannot reach the other processes within {JOIN_SECONDS} s; check that all were started"
    at_abort(lambda: unreached if time.monotonic() > late else first_gone())
    # Processes talk to each other directly, whatever proxy downloads may need; JAX would warn of it.
    os.environ["grpc_proxy"] = ""  # noqa: SIM112
    jax.config.update("jax_check_proxy_envs", False)
    jax.distributed.initialize(
        address,
        processes,
        process,
        cluster_detection_method=cluster[0] if cluster else "deactivate",
        initialization_timeout=JOIN_SECONDS,
    )
    at_abort(first_gone if number() > 0 else None)
    watch = Watch()
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


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


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
    talk, client = next(_talks), private.coordination_client()
    if number() in speakers:
        client.key_value_set(f"jaxcram/talk{talk}/{number()}", json.dumps(what))
    said = [client.blocking_key_value_get(f"jaxcram/talk{talk}/{one}", _FOREVER_MS) for one in speakers]
    return [json.loads(one) for one in said]


def _agreed(message: str, exit_code: int) -> UserError:
    error = UserError(message)
    error.exit_code, error.agreed = exit_code, True
    return error

"""Processes that were given an address by hand meet there first, and compare what they were told.

JAX's own service waits minutes for processes that can never come, crashes at a port that is taken, and knows
no words for two processes of one number. So process 0 listens at the port before that service does.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, suppress

from jaxcram.errors import StoppedError, UserError

NAME_SECONDS = 60.0  # for a host's name to appear, as that of a pod that has just been made
_PAUSE = 0.2  # seconds between two attempts
_TELL_SECONDS = 3.0  # for those who come after a mistake was found, to hear of it too
_MOST_BYTES = 4096  # of what one process says


def roll_call(address: str, processes: int, process: int, seconds: float) -> None:
    """Returns when all processes are there and were told the same.

    Args:
        address: host:port of process 0.
        processes, process: how many there are, and which this is.
        seconds: to wait for the others.

    Raises:
        UserError: they were told different numbers, two of them have the same one, no host has that name, or
            the port is taken.
        StoppedError: not all have come in time.
    """
    host, _, digits = address.rpartition(":")
    host, port, deadline = host.strip("[]"), int(digits), time.monotonic() + seconds
    _require_name(address, host, port)
    if process == 0:
        _call(address, port, processes, deadline)
    elif not _answer(host, port, {"process": process, "processes": processes}, deadline):
        raise StoppedError(
            f"coordinator_address {address}: process 0 has not answered within {seconds:.0f} s; check that "
            "it was started, that it runs on that host, and that no firewall is in between"
        )


def _require_name(address: str, host: str, port: int) -> None:
    deadline = time.monotonic() + NAME_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"coordinator_address {address}: no host of this name is known here ({error}); check it"
                ) from error
            time.sleep(_PAUSE)


def _call(address: str, port: int, processes: int, deadline: float) -> None:
    """As process 0: hear all others, then tell them to go on, or what is wrong."""
    present: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            door = socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=processes)
        except OSError as error:
            why = "is taken" if port >= 1024 else f"cannot be used ({error.strerror})"
            raise UserError(f"coordinator_address {address}: port {port} {why}; choose another") from error
        stack.enter_context(door)
        while len(present) < processes - 1:
            if time.monotonic() > deadline:
                missing = [str(i) for i in range(1, processes) if i not in present]
                raise StoppedError(
                    f"coordinator_address {address}: of {processes} processes {', '.join(missing)} have not "
                    "come; check that they were started, then start all again"
                )
            if (arrival := _arrival(stack, door, deadline)) is None:
                continue
            peer, said = arrival
            present = {one: old for one, old in present.items() if not _has_left(old)}
            if mistake := _mistake(said, processes, {0, *present}):
                _tell([*present.values(), peer], mistake)
                until = time.monotonic() + _TELL_SECONDS
                while arrival := _arrival(stack, door, until):
                    _tell([arrival[0]], mistake)
                raise UserError(mistake)
            present[said["process"]] = peer
        _tell(list(present.values()), "")


def _arrival(
    stack: ExitStack, door: socket.socket, deadline: float
) -> tuple[socket.socket, dict[str, int]] | None:
    """The next process and what it says; None at the deadline, and of a stranger."""
    door.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        peer = stack.enter_context(door.accept()[0])
        peer.settimeout(5.0)
        said = json.loads(_line(peer))
        return peer, {name: int(said[name]) for name in ("process", "processes")}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _has_left(peer: socket.socket) -> bool:
    """Whether a process that waits here was stopped."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _tell(peers: list[socket.socket], mistake: str) -> None:
    for peer in peers:
        peer.settimeout(5.0)
        with suppress(OSError):
            peer.sendall(json.dumps({"mistake": mistake}).encode() + b"\n")
    for peer in peers:  # who closes first keeps the port, and JAX's service needs it next
        with suppress(OSError):
            peer.recv(1)


def _mistake(said: dict[str, int], processes: int, taken: set[int]) -> str:
    if said["processes"] != processes:
        return (
            f"num_processes is {processes} for process 0 and {said['processes']} for process "
            f"{said['process']}; give all the same"
        )
    if said["process"] in taken:
        return f"process_id {said['process']} was given to two processes; number them 0 to {processes - 1}"
    return ""


def _line(peer: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"\n") and len(said) < _MOST_BYTES:
        if not (more := peer.recv(_MOST_BYTES)):
            break
        said += more
    return said


def _answer(host: str, port: int, said: dict[str, int], deadline: float) -> bool:
    """As another process: whether process 0 has heard this one and all others, before the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 10.0)) as first:
                first.sendall(json.dumps(said).encode() + b"\n")
                first.settimeout(left)
                reply = json.loads(_line(first))
        except (OSError, ValueError):  # process 0 is not there yet, or was stopped
            time.sleep(_PAUSE)
            continue
        if reply["mistake"]:
            raise UserError(reply["mistake"])
        return True
    return False

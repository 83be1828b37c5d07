"""Checks, before JAX connects them, that all processes are present and were given consistent arguments.

JAX's own service waits minutes for missing processes, crashes if the port is in use, and does not detect two
processes with the same rank. So process 0 first listens on the port itself, and JAX's service follows.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, suppress

from jaxcram.errors import StoppedError, UserError

NAME_SECONDS = 60.0  # time for a host name to become known, for example that of a new pod
_PAUSE = 0.2  # seconds between two attempts
_REPORT_SECONDS = 3.0  # after an error, time in which processes that connect late receive it too
_MOST_BYTES = 4096  # of one message


def rendezvous(address: str, processes: int, process: int, seconds: float) -> None:
    """Returns when all processes have connected and their arguments are consistent.

    Args:
        address: host:port of process 0.
        processes, process: number of processes, and rank of this one.
        seconds: time to wait for the others.

    Raises:
        UserError: processes were given different counts or the same rank, the host name is unknown, or the
            port is in use.
        StoppedError: not all processes connected in time.
    """
    host, _, digits = address.rpartition(":")
    host, port, deadline = host.strip("[]"), int(digits), time.monotonic() + seconds
    _require_name(address, host, port)
    if process == 0:
        _listen(address, port, processes, deadline)
    elif not _connect(host, port, {"process": process, "processes": processes}, deadline):
        raise StoppedError(
            f"coordinator_address {address}: process 0 has not answered within {seconds:.0f} s; check that "
            "it was started, that it runs on that host, and that no firewall blocks the port"
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
                    f"coordinator_address {address}: the host name is unknown ({error}); check it"
                ) from error
            time.sleep(_PAUSE)


def _listen(address: str, port: int, processes: int, deadline: float) -> None:
    """Process 0: wait for all others, then tell them to continue or what is wrong."""
    present: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=processes)
        except OSError as error:
            why = "is in use" if port >= 1024 else f"cannot be used ({error.strerror})"
            raise UserError(f"coordinator_address {address}: port {port} {why}; choose another") from error
        stack.enter_context(server)
        while len(present) < processes - 1:
            if time.monotonic() > deadline:
                missing = [str(i) for i in range(1, processes) if i not in present]
                raise StoppedError(
                    f"coordinator_address {address}: {', '.join(missing)} of {processes} processes have not "
                    "connected; check that they were started, then start all again"
                )
            if (accepted := _accept(stack, server, deadline)) is None:
                continue
            peer, message = accepted
            present = {rank: other for rank, other in present.items() if not _has_closed(other)}
            if problem := _problem(message, processes, {0, *present}):
                _reply([*present.values(), peer], problem)
                until = time.monotonic() + _REPORT_SECONDS
                while accepted := _accept(stack, server, until):
                    _reply([accepted[0]], problem)
                raise UserError(problem)
            present[message["process"]] = peer
        _reply(list(present.values()), "")


def _accept(
    stack: ExitStack, server: socket.socket, deadline: float
) -> tuple[socket.socket, dict[str, int]] | None:
    """The next process to connect and its message; None at the deadline or if the message is not ours."""
    server.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        peer = stack.enter_context(server.accept()[0])
        peer.settimeout(5.0)
        message = json.loads(_line(peer))
        return peer, {name: int(message[name]) for name in ("process", "processes")}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _has_closed(peer: socket.socket) -> bool:
    """Whether a waiting process has closed its connection, because it was stopped."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _reply(peers: list[socket.socket], problem: str) -> None:
    for peer in peers:
        peer.settimeout(5.0)
        with suppress(OSError):
            peer.sendall(json.dumps({"problem": problem}).encode() + b"\n")
    # Let the peers close first: TIME_WAIT then stays on their side, and JAX's service can bind the port.
    for peer in peers:
        with suppress(OSError):
            peer.recv(1)


def _problem(message: dict[str, int], processes: int, connected: set[int]) -> str:
    """What is inconsistent in the message of a process; "" if nothing is."""
    if message["processes"] != processes:
        return (
            f"num_processes is {processes} for process 0 and {message['processes']} for process "
            f"{message['process']}; give all the same"
        )
    if message["process"] in connected:
        return f"process_id {message['process']} was given to two processes; number them 0 to {processes - 1}"
    return ""


def _line(peer: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _MOST_BYTES:
        if not (more := peer.recv(_MOST_BYTES)):
            break
        line += more
    return line


def _connect(host: str, port: int, message: dict[str, int], deadline: float) -> bool:
    """Any other process: whether process 0 confirmed before the deadline that all have connected."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 10.0)) as connection:
                connection.sendall(json.dumps(message).encode() + b"\n")
                connection.settimeout(left)
                reply = json.loads(_line(connection))
        except (OSError, ValueError):  # process 0 does not listen yet, or was stopped
            time.sleep(_PAUSE)
            continue
        if reply["problem"]:
            raise UserError(reply["problem"])
        return True
    return False

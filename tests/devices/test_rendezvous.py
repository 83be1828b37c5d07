"""Processes check that their arguments agree; here each process is a thread."""

import contextlib
import random
import socket
import threading
import time

import pytest

from jaxcram.devices import rendezvous as module
from jaxcram.devices.rendezvous import rendezvous
from jaxcram.errors import StoppedError, UserError


def free_port() -> int:
    """A free port below the ephemeral range, so that the system gives it to no other program."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return port


def outcomes(*arguments: tuple[int, int], seconds: float = 10.0) -> list[str]:
    """The result of each process, given its (processes, process): "" or the error."""
    address = f"localhost:{free_port()}"
    ended = [""] * len(arguments)

    def one(i: int) -> None:
        try:
            rendezvous(address, *arguments[i], seconds)
        except UserError as error:
            ended[i] = f"{error.exit_code} {error}".replace(address, "ADDRESS")

    threads = [threading.Thread(target=one, args=[i]) for i in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_returns_in_every_process_once_all_have_connected():
    assert outcomes((1, 0)) == [""]
    assert outcomes((3, 2), (3, 0), (3, 1)) == ["", "", ""]


def test_a_rank_given_twice_is_an_error_in_every_process(monkeypatch):
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.5)
    error = "2 process_id 1 was given to two processes; number them 0 to 2"
    assert outcomes((3, 0), (3, 1), (3, 1)) == [error] * 3


def test_different_process_counts_are_an_error_in_every_process(monkeypatch):
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.5)
    error = "2 num_processes is 2 for process 0 and 3 for process 1; give all the same"
    assert outcomes((2, 0), (3, 1)) == [error] * 2


def test_missing_processes_are_named_with_the_exit_code_for_a_retry():
    assert outcomes((4, 0), (4, 2), seconds=1.0) == [
        "75 coordinator_address ADDRESS: 1, 3 of 4 processes have not connected; check that they were "
        "started, then start all again",
        "75 coordinator_address ADDRESS: process 0 has not answered within 1 s; check that it was started, "
        "that it runs on that host, and that no firewall blocks the port",
    ]


def test_a_process_stopped_while_waiting_may_connect_again():
    port, ended = free_port(), []
    first = threading.Thread(target=lambda: ended.append(rendezvous(f"localhost:{port}", 3, 0, 10.0)))
    first.start()
    while True:
        with contextlib.suppress(OSError):
            stopped = socket.create_connection(("localhost", port))
            break
        time.sleep(0.01)
    stopped.sendall(b'{"process": 1, "processes": 3}\n')
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    stopped.close()
    others = [threading.Thread(target=rendezvous, args=(f"localhost:{port}", 3, i, 10.0)) for i in (1, 2)]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert ended == [None]


def test_a_port_in_use_is_an_error():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as error:
            rendezvous(f"localhost:{port}", 2, 0, 5.0)
    message = f"coordinator_address localhost:{port}: port {port} is in use; choose another"
    assert (str(error.value), error.value.exit_code) == (message, 2)


@pytest.mark.parametrize("process", [0, 1])
def test_an_unknown_host_name_is_an_error(process, monkeypatch):
    monkeypatch.setattr(module, "NAME_SECONDS", 0.3)
    with pytest.raises(UserError) as error:
        rendezvous("no-such-host.invalid:2000", 2, process, 5.0)
    assert not isinstance(error.value, StoppedError)
    beginning = "coordinator_address no-such-host.invalid:2000: the host name is unknown ("
    assert str(error.value).startswith(beginning)

"""Processes compare what they were told; here each is a thread."""

import contextlib
import random
import socket
import threading
import time

import pytest

from jaxcram.devices import roll_call as rooms
from jaxcram.devices.roll_call import roll_call
from jaxcram.errors import StoppedError, UserError


def free_port() -> int:
    """One below those that the system gives to whoever asks for any: nobody else gets it meanwhile."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return port


def outcomes(*told: tuple[int, int], seconds: float = 10.0) -> list[str]:
    """What becomes of processes that were told (processes, process): "" or the error."""
    address = f"localhost:{free_port()}"
    ended = [""] * len(told)

    def one(i: int) -> None:
        try:
            roll_call(address, *told[i], seconds)
        except UserError as error:
            ended[i] = f"{error.exit_code} {error}".replace(address, "ADDRESS")

    threads = [threading.Thread(target=one, args=[i]) for i in range(len(told))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_all_go_on_when_all_are_there():
    assert outcomes((1, 0)) == [""]
    assert outcomes((3, 2), (3, 0), (3, 1)) == ["", "", ""]


def test_two_of_one_number_are_told(monkeypatch):
    monkeypatch.setattr(rooms, "_TELL_SECONDS", 0.5)
    said = "2 process_id 1 was given to two processes; number them 0 to 2"
    assert outcomes((3, 0), (3, 1), (3, 1)) == [said] * 3


def test_different_counts_are_told(monkeypatch):
    monkeypatch.setattr(rooms, "_TELL_SECONDS", 0.5)
    said = "2 num_processes is 2 for process 0 and 3 for process 1; give all the same"
    assert outcomes((2, 0), (3, 1)) == [said] * 2


def test_who_does_not_come_is_named_and_another_start_may_help():
    assert outcomes((4, 0), (4, 2), seconds=1.0) == [
        "75 coordinator_address ADDRESS: of 4 processes 1, 3 have not come; check that they were started, "
        "then start all again",
        "75 coordinator_address ADDRESS: process 0 has not answered within 1 s; check that it was started, "
        "that it runs on that host, and that no firewall is in between",
    ]


def test_a_process_that_was_stopped_while_it_waited_may_come_again():
    port, ended = free_port(), []
    first = threading.Thread(target=lambda: ended.append(roll_call(f"localhost:{port}", 3, 0, 10.0)))
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
    others = [threading.Thread(target=roll_call, args=(f"localhost:{port}", 3, i, 10.0)) for i in (1, 2)]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert ended == [None]


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as error:
            roll_call(f"localhost:{port}", 2, 0, 5.0)
    said = f"coordinator_address localhost:{port}: port {port} is taken; choose another"
    assert (str(error.value), error.value.exit_code) == (said, 2)


@pytest.mark.parametrize("process", [0, 1])
def test_a_host_that_no_one_knows(process, monkeypatch):
    monkeypatch.setattr(rooms, "NAME_SECONDS", 0.3)
    with pytest.raises(UserError) as error:
        roll_call("no-such-host.invalid:2000", 2, process, 5.0)
    assert not isinstance(error.value, StoppedError)
    beginning = "coordinator_address no-such-host.invalid:2000: no host of this name is known here ("
    assert str(error.value).startswith(beginning)

"""The signs of life of processes: what a process makes of those of the others."""

import sys
import time
from typing import Any

import pytest

from jaxcram.devices import private, watch


class Service:
    """Keys and values as JAX's coordination service has them, of two processes, without the service."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.slow = 0.0
        self.ended: list[tuple] = []

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        if value not in ("", "0"):
            time.sleep(self.slow)
        self.said[key] = value

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        return list(self.said.items())


@pytest.fixture
def service(monkeypatch):
    """The service; how a process would end stands in `ended`."""
    service = Service()

    def end(*how: Any) -> None:
        service.ended.append(how)
        sys.exit()  # of the thread alone

    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(private, "coordination_client", lambda: service)
    monkeypatch.setattr(watch, "end", end)
    return service


ends_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@ends_thread
@pytest.mark.parametrize("code", [1, 2, 75, 130])
def test_what_one_process_leaves_with_all_end_with(code, service):
    watching = watch.Watch()
    service.said["jaxcram/alive/1"] = f"left {code}"
    watching._thread.join(20)
    assert service.ended == [(f"ends because process 1 ended with exit code {code}", code)]


@ends_thread
def test_a_process_that_falls_silent_is_dead(service):
    service.said["jaxcram/alive/1"] = "7"
    watch.Watch()._thread.join(20)
    assert service.ended == [("ends because process 1 has died (no sign of life for 0 s)", 75)]


def test_nothing_is_said_after_the_last_word(service):
    service.slow = 0.2
    watching = watch.Watch()
    time.sleep(0.1)  # a beat is under way
    watching.stop()
    time.sleep(0.3)
    assert service.said == {"jaxcram/alive/0": ""}
    assert service.ended == []

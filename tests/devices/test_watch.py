"""Heartbeats: how a process reacts to those of the others."""

import sys
import time
from typing import Any

import pytest

from jaxcram.devices import private, watch


class Service:
    """A stand-in for JAX's coordination service."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.slow = 0.0
        self.ended: list[tuple] = []

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        if value not in ("", "0"):
            time.sleep(self.slow)
        self.states[key] = value

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        return list(self.states.items())


@pytest.fixture
def service(monkeypatch):
    """The service; `ended` records the calls of `watch.end`."""
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
def test_all_processes_end_with_the_exit_code_of_the_first(code, service):
    watching = watch.Watch()
    service.states["jaxcram/alive/1"] = f"left {code}"
    watching._thread.join(20)
    assert service.ended == [(f"ends because process 1 ended with exit code {code}", code)]


@ends_thread
def test_a_process_without_heartbeats_counts_as_lost(service):
    service.states["jaxcram/alive/1"] = "7"
    watch.Watch()._thread.join(20)
    assert service.ended == [("ends because process 1 is lost (no heartbeat for 0 s)", 75)]


def test_no_heartbeat_overwrites_the_final_state(service):
    service.slow = 0.2
    watching = watch.Watch()
    time.sleep(0.1)  # a heartbeat is in progress
    watching.stop()
    time.sleep(0.3)
    assert service.states == {"jaxcram/alive/0": ""}
    assert service.ended == []

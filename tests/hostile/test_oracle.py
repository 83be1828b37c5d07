"""The judge of the hostile cases sees every way to fail."""

import time

import pytest

from jaxcram.errors import UserError
from tests.hostile import oracle
from tests.hostile.oracle import Attack, problems


def verdict(call, *, must_refuse=False) -> list[str]:
    return problems(
        "trial", lambda folder, rng: Attack([lambda: call(folder)], ["config.json"], must_refuse), [7]
    )


def refuse(line):
    def call(folder):
        error = UserError("x")
        error.args = (line,)  # what the class itself would not let through
        raise error

    return call


def test_a_result_or_a_clear_refusal_is_accepted():
    assert verdict(lambda folder: None) == []
    assert verdict(refuse("config.json: bad; correct it")) == []


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda folder: 1 / 0, "ZeroDivisionError"),
        (lambda folder: [].pop(), "IndexError"),
        (refuse("config.json:\nbad"), "control characters"),
        (refuse("config.json: \x1b[31m"), "control characters"),
        (refuse("config.json" * 200), "a refusal of 2200 characters"),
        (refuse("something is wrong"), "names none of"),
        (lambda folder: (folder / oracle.CANARY).touch(), "ran code"),
        (lambda folder: bytearray(2 * oracle.CONSTANT), "took "),
    ],
)
def test_each_fault_is_found(call, problem):
    (found,) = verdict(call)
    assert found.startswith("(trial, 7): ")
    assert problem in found


def test_a_call_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(oracle, "SECONDS", 0.05)
    assert verdict(lambda folder: time.sleep(5)) == ["(trial, 7): took more than 0.05 s"]


def test_a_case_that_should_be_refused_but_is_not():
    assert verdict(lambda folder: None, must_refuse=True) == ["(trial, 7): was not refused"]

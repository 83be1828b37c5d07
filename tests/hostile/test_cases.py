"""Thousands of hostile inputs: each returns or is refused in one clear line. `long.py` runs more of them."""

import pytest

from tests.hostile.kinds import KINDS
from tests.hostile.oracle import problems

BLOCK = 70
FEW = 8  # of each kind are among the fast tests
BLOCKS = [
    (kind, range(first, min(first + BLOCK, count)))
    for kind, (_, count) in KINDS.items()
    for first in range(0, count, BLOCK)
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_there_are_enough_cases():
    assert sum(len(seeds) for _, seeds in BLOCKS) == sum(count for _, count in KINDS.values()) >= 2000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of futures in Orbax
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bomb"])
def test_the_first_cases_of_a_kind(kind):
    assert problems(kind, KINDS[kind][0], range(FEW)) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of futures in Orbax
@pytest.mark.parametrize(("kind", "seeds"), BLOCKS, ids=[f"{kind}-{seeds[0]}" for kind, seeds in BLOCKS])
def test_every_case_is_accepted_or_refused_in_one_line(kind, seeds):
    assert problems(kind, KINDS[kind][0], seeds) == []

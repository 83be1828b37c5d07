"""Which chunk the host reads next."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from jaxcram.cram.groups import Chunk, DeviceGroups
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.scheduler import Turn


class Group:
    """A device group whose chunk ends when the test says so."""

    def __init__(self, group: int) -> None:
        seated = np.array([group])
        turn = Turn(group, Bucket(16, 1), seated, stays=False, floor=1)
        self.chunk = Chunk(turn, seated, Future())

    def end(self) -> None:
        self.chunk.result.set_result(f"of {self.chunk.turn.group}")


@pytest.fixture
def three():
    groups = DeviceGroups.__new__(DeviceGroups)
    groups._groups = [Group(number) for number in range(3)]
    return groups


def turns(groups: DeviceGroups, *numbers: int) -> list[Turn]:
    return [groups._groups[number].chunk.turn for number in numbers]


def test_the_first_chunk_to_finish_is_returned_first(three):
    threading.Timer(0.05, three._groups[1].end).start()
    chunk, result = three.wait(turns(three, 0, 1, 2))
    assert (chunk, result) == (three._groups[1].chunk, "of 1")


def test_of_several_finished_chunks_the_first_turn_is_returned(three):
    for group in three._groups:
        group.end()
    assert [three.wait(turns(three, *order))[1] for order in ((2, 0, 1), (1, 0, 2))] == ["of 2", "of 1"]


def test_a_failed_chunk_raises_its_error(three):
    three._groups[2].chunk.result.set_exception(MemoryError("no room"))
    with pytest.raises(MemoryError, match="no room"):
        three.wait(turns(three, 0, 1, 2))

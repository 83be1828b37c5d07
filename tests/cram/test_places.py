"""Which chunk the host takes in next."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.places import Chunk, Places
from jaxcram.cram.scheduler import Turn


class Place:
    """One whose chunk ends when the test says so."""

    def __init__(self, group: int) -> None:
        seated = np.array([group])
        turn = Turn(group, Bucket(16, 1), seated, stays=False, floor=1)
        self.chunk = Chunk(turn, seated, Future(), Future())

    def end(self) -> None:
        self.chunk.result.set_result(f"of {self.chunk.turn.group}")


@pytest.fixture
def three():
    places = Places.__new__(Places)
    places._places = [Place(group) for group in range(3)]
    return places


def turns(places: Places, *groups: int) -> list[Turn]:
    return [places._places[group].chunk.turn for group in groups]


def test_whoever_ends_first_is_taken_in_first(three):
    threading.Timer(0.05, three._places[1].end).start()
    chunk, result = three.wait(turns(three, 0, 1, 2))
    assert (chunk, result) == (three._places[1].chunk, "of 1")


def test_of_several_that_have_ended_the_one_that_began_first_is_taken_in(three):
    for place in three._places:
        place.end()
    assert [three.wait(turns(three, *order))[1] for order in ((2, 0, 1), (1, 0, 2))] == ["of 2", "of 1"]


def test_one_that_failed_has_ended_too(three):
    three._places[2].chunk.result.set_exception(MemoryError("no room"))
    with pytest.raises(MemoryError, match="no room"):
        three.wait(turns(three, 0, 1, 2))

"""jaxcram with chunks that end when the tokens of their passes say, whatever the machine is at.

Each takes as long as it has tokens and ten more a pass (the knee of a CPU); devices work them off in the
order of their start. The arguments are those of jaxcram; JAX_NUM_CPU_DEVICES says how many devices there are.
"""

import dataclasses
import heapq
import os
import sys
from unittest import mock

from jaxcram.cli.main import main
from jaxcram.cram.autotune import DEFAULT_COST
from jaxcram.cram.groups import Chunk, DeviceGroups
from jaxcram.cram.lanes import ChunkResult
from jaxcram.cram.scheduler import Turn


@dataclasses.dataclass
class Clock:
    """What chunks are under way, and when each of them ends.

    Attributes:
        free: when each device has worked off what it was given.
        running: the ends of chunks, the how manieth they are, and their turns.
        begun: chunks until now.
        now: when the last of those taken in ended.
    """

    free: list[float]
    running: list[tuple[float, int, Turn]] = dataclasses.field(default_factory=list)
    begun: int = 0
    now: float = 0.0

    def begin(self, turn: Turn, passes: int) -> None:
        """Give a chunk to the device that is free first."""
        work = passes * (DEFAULT_COST["cpu"].knee + turn.bucket.lanes * turn.bucket.tokens)
        end = max(self.now, heapq.heappop(self.free)) + work
        heapq.heappush(self.free, end)
        heapq.heappush(self.running, (end, self.begun, turn))
        self.begun += 1

    def next(self) -> Turn:
        """The chunk that ends first."""
        self.now, _, turn = heapq.heappop(self.running)
        return turn


wait = DeviceGroups.wait


def clocked(places: DeviceGroups, turns: list[Turn], clock: Clock) -> tuple[Chunk, ChunkResult]:
    """Take in the chunk that ends first by the clock."""
    for turn in turns:
        if not any(turn is other for _, _, other in clock.running):
            _, result = wait(places, [turn])
            clock.begin(turn, int(result.passes.max()))
    return wait(places, [clock.next()])


if __name__ == "__main__":
    own = Clock([0.0] * int(os.environ["JAX_NUM_CPU_DEVICES"]))
    with mock.patch.object(DeviceGroups, "wait", lambda places, turns: clocked(places, turns, own)):
        sys.exit(main())

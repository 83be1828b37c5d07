"""Which lanes run next, in which padded shape.

A pass takes a fixed number of tokens, so the shapes are padded lengths with floor(budget / length) lanes
each. A lane's shape follows from its own prefix alone: what its neighbours do, and how often the run was
interrupted, changes no bit of its result. The price is empty seats at the end of a run, when fewer lanes
are left than a pass holds; small passes keep it low where they are as efficient as large ones.
"""

from __future__ import annotations

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.stages import Stop

SHORTEST_BUCKET = 16


def bucket_lengths(longest: int, max_positions: int) -> list[int]:
    """Padded lengths up to `longest`, growing by a half and a third in turn: 16, 24, 32, 48, 64, ... tokens.

    The last one is cut to `max_positions`, which the targets themselves respect.
    """
    lengths, power = [SHORTEST_BUCKET], SHORTEST_BUCKET
    while lengths[-1] < longest:
        lengths += [power + power // 2, 2 * power]
        power *= 2
    needed = next(i for i, length in enumerate(lengths) if length >= longest)
    return [*lengths[:needed], min(lengths[needed], max_positions)]


class Scheduler:
    """Host-side view of the pool: which lanes are alive, and in which bucket each belongs.

    Args:
        count: lanes to run.
        longest: tokens of the longest target of the whole run.
        max_positions: target tokens that the model has room for.
        token_budget: padded tokens of one pass on one device.
        num_lanes: lanes of the whole run, also those that an earlier start has finished.
        devices: places on the mesh's lanes axis.
    """

    def __init__(
        self, count: int, longest: int, max_positions: int, token_budget: int, num_lanes: int, devices: int
    ) -> None:
        self._lengths = bucket_lengths(longest, max_positions)
        self._prefix_N = np.ones(count, np.int32)
        self._alive_N = np.ones(count, bool)
        self._most_lanes = -(-num_lanes // devices)
        self._devices = devices
        self.token_budget = token_budget

    @property
    def alive(self) -> int:
        """Lanes that have not ended."""
        return int(self._alive_N.sum())

    @property
    def longest_bucket(self) -> int:
        """Padded length of the longest bucket: what the pool's token array must hold."""
        return self._lengths[-1]

    def padded_length(self, prefix: int) -> int:
        """Padded length of the bucket to which a prefix belongs."""
        return self._lengths[int(np.searchsorted(self._lengths, prefix))]

    def bucket(self, length: int) -> Bucket:
        """The shape of passes of `length` padded tokens."""
        return Bucket(length, max(1, min(self.token_budget // length, self._most_lanes)))

    def halve_budget(self) -> bool:
        """Make passes smaller after memory ran out; False when they are as small as they get."""
        if self.token_budget <= self._lengths[0]:
            return False
        self.token_budget //= 2
        return True

    def observe(self, slots: np.ndarray, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Take in the prefixes and stop reasons of lanes after a chunk (or at the start)."""
        self._prefix_N[slots] = prefix_B
        self._alive_N[slots] = stop_B == Stop.RUNNING

    def next(self) -> tuple[Bucket, np.ndarray] | None:
        """Bucket and lanes of the next chunk, at most as many as all devices seat; None when all have ended.

        The shortest bucket with enough lanes for a whole pass goes first; when none has, the shortest with
        any: its lanes either end cheaply or move up, where they fill longer buckets. Lanes keep their seats
        until they leave, so that only the last passes of a bucket are short of lanes.
        """
        place_N = np.searchsorted(self._lengths, self._prefix_N)
        waiting = [np.flatnonzero(self._alive_N & (place_N == i)) for i in range(len(self._lengths))]
        occupied = [i for i, slots in enumerate(waiting) if len(slots)]
        if not occupied:
            return None
        buckets = [self.bucket(length) for length in self._lengths]
        seats = [bucket.lanes * self._devices for bucket in buckets]
        full = [i for i in occupied if len(waiting[i]) >= seats[i]]
        chosen = (full or occupied)[0]
        return buckets[chosen], waiting[chosen][: seats[chosen]]

    def stays(self, bucket: Bucket, seated: np.ndarray) -> bool:
        """Whether the lanes of the last chunk are those of the next one."""
        following = self.next()
        return following is not None and following[0] == bucket and np.array_equal(following[1], seated)

"""Which lanes run next, in which padded shape.

A pass takes a fixed number of tokens at most, so the shapes are padded lengths with up to
floor(budget / length) lanes each. A lane's length follows from its own prefix; the number of lanes steps
down in fours when few wait, so that the tail of a run does not pay for empty seats.
"""

from __future__ import annotations

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.stages import Stop

SHORTEST_BUCKET = 16
# Each lane count is a trace of its own; a factor of four keeps them few and a seat rarely empty.
LANES_STEP = 4


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
        length_N: tokens of every lane's target.
        max_positions: target tokens that the model has room for.
        token_budget: padded tokens of one pass.
    """

    def __init__(self, length_N: np.ndarray, max_positions: int, token_budget: int) -> None:
        self._lengths = bucket_lengths(int(length_N.max()), max_positions)
        self._prefix_N = np.ones_like(length_N)
        self._alive_N = np.ones(length_N.shape, bool)
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

    def bucket(self, length: int, waiting: int | None = None) -> Bucket:
        """The shape of passes of `length` padded tokens when `waiting` lanes (None: all) are there for it.

        The most lanes that are certain to be filled; a shape with empty seats is taken only when the smallest
        one is still too large.
        """
        lanes = max(1, min(self.token_budget // length, len(self._alive_N)))
        while waiting is not None and lanes > waiting and lanes > 1:
            lanes = -(-lanes // LANES_STEP)
        return Bucket(length, lanes)

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
        """Bucket and lanes of the next chunk, or None when every lane has ended.

        The shortest bucket with enough lanes for a whole pass goes first; when none has, the shortest with
        any: its lanes either end cheaply or move up, where they fill longer buckets. Lanes keep their seats
        until they leave, so that only the last passes of a bucket are short of lanes.
        """
        place_N = np.searchsorted(self._lengths, self._prefix_N)
        waiting = [np.flatnonzero(self._alive_N & (place_N == i)) for i in range(len(self._lengths))]
        occupied = [i for i, slots in enumerate(waiting) if len(slots)]
        if not occupied:
            return None
        full = [i for i in occupied if len(waiting[i]) >= self.bucket(self._lengths[i]).lanes]
        chosen = (full or occupied)[0]
        bucket = self.bucket(self._lengths[chosen], len(waiting[chosen]))
        return bucket, waiting[chosen][: bucket.lanes]

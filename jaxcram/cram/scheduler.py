"""The scheduler: which lanes run next, and in which padded shape.

The shape of a lane's passes depends only on its own prefix and on the run as a whole. So neither the other
lanes of a batch nor interruptions change a bit of its result. In return, passes are partly empty once a
bucket has fewer lanes than fit; the batch size weighs that waste against the fixed cost of a pass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.plan import Plan
from jaxcram.cram.stages import Stop


class Turn(NamedTuple):
    """One chunk of one device group, as scheduled.

    Attributes:
        group: index of the device group.
        bucket: the shape of its passes.
        seated: indices in the pool of the lanes of its batch, ascending.
        stays: whether bucket and lanes are the same as in the group's previous turn.
        floor: a device stops early once fewer of its lanes than this are active.
    """

    group: int
    bucket: Bucket
    seated: np.ndarray
    stays: bool
    floor: int


class Scheduler:
    """Host-side view of the pool: which lanes are running, and the bucket of each.

    Args:
        count: lanes to run.
        plan: of the whole run, including lanes that an earlier start has finished.
        groups: device groups, each of which runs its own chunks.
    """

    def __init__(self, count: int, plan: Plan, groups: int = 1) -> None:
        self.plan = plan
        self._prefix_N = np.ones(count, np.int32)
        self._alive_N = np.ones(count, bool)
        self._group_size = -(-plan.at_once // groups)
        self._now: dict[int, Turn] = {}  # turns in progress by group, in the order in which they were made
        self._last: list[Turn | None] = [None] * groups

    @property
    def alive(self) -> int:
        """Lanes that have not ended."""
        return int(self._alive_N.sum())

    def observe(self, slots: np.ndarray, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Update the prefixes and stop reasons of lanes, after a chunk or at the start."""
        self._prefix_N[slots] = prefix_B
        self._alive_N[slots] = stop_B == Stop.RUNNING

    def next(self, group: int = 0) -> tuple[Bucket, np.ndarray] | None:
        """Bucket and lanes of a group's next chunk, at most one batch; None if no lane is waiting.

        Chosen is the shortest bucket with enough waiting lanes for a full batch; if there is none, the
        shortest with any: its lanes either end cheaply or move up and fill longer buckets. Lanes of the
        group's last chunk come first, so that a batch changes only when one of its lanes leaves.
        """
        buckets = self.plan.buckets
        bucket_N = np.searchsorted([bucket.tokens for bucket in buckets], self._prefix_N)
        waits_N = self._alive_N.copy()
        for turn in self.under_way:
            waits_N[turn.seated] = False
        waiting = [np.flatnonzero(waits_N & (bucket_N == i)) for i in range(len(buckets))]
        occupied = [i for i, slots in enumerate(waiting) if len(slots)]
        if not occupied:
            return None
        batch_sizes = [bucket.lanes * self._group_size for bucket in buckets]
        full = [i for i in occupied if len(waiting[i]) >= batch_sizes[i]]
        chosen = (full or occupied)[0]
        last = self._last[group]
        in_last = np.isin(waiting[chosen], last.seated if last else ())
        first = np.argsort(~in_last, kind="stable")[: batch_sizes[chosen]]
        return buckets[chosen], np.sort(waiting[chosen][first])

    def turns(self) -> list[Turn]:
        """Assign waiting lanes to every device group without a chunk in progress; the chunks to start."""
        made: list[Turn] = []
        # Groups that had a chunk come first, so that their lanes can stay.
        for group in sorted(range(len(self._last)), key=lambda group: self._last[group] is None):
            if group in self._now:
                continue
            choice, last = self.next(group), self._last[group]
            if not choice:
                self._last[group] = None
                continue
            bucket, seated = choice
            stays = last is not None and last.bucket == bucket and np.array_equal(last.seated, seated)
            # A group of one device ends its chunk early, to get new lanes, once over a quarter of its lanes
            # are done. Devices of a larger group would only wait for each other.
            floor = 1 if self._group_size > 1 else -(-3 * len(seated) // 4)
            made.append(Turn(group, bucket, seated, stays, floor))
            self._now[group] = self._last[group] = made[-1]
        return made

    @property
    def busy(self) -> int:
        """Devices, or passes that share the cores, that have a chunk."""
        return min(len(self._now) * self._group_size, self.plan.at_once)

    @property
    def under_way(self) -> list[Turn]:
        """The turns in progress, in the order in which they were made."""
        return list(self._now.values())

    def done(self, turn: Turn, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Mark a turn as finished, and update the prefixes and stop reasons of its lanes."""
        self.observe(turn.seated, prefix_B, stop_B)
        del self._now[turn.group]

    def drop(self) -> None:
        """Discard all turns in progress, after an error."""
        self._now.clear()
        self._last = [None] * len(self._last)

"""The scheduler: which lanes run next, and in which padded shape.

The shape of a lane's passes depends only on its own prefix and on the run as a whole. So neither the other
lanes of a batch nor interruptions change a bit of its result. In return, passes are partly empty once a
bucket has fewer lanes than fit; the batch size weighs that waste against the fixed cost of a pass.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.stages import Stop

# With this many lanes, one more short bucket (SOME), or twice as many buckets per octave (MANY), save more
# time than they take to compile.
SOME_LANES, MANY_LANES = 16, 96
# With so few tokens XLA computes several lanes in one vector on CPU, and since JAX 0.12 it rounds those
# beyond the last whole vector otherwise. Without such lanes each has the same bits in every seat.
_SHORT, _VECTOR = 8, 8


@dataclasses.dataclass(frozen=True)
class PassCost:
    """Cost of a pass on a device as a function of its shape: proportional to knee + padded tokens.

    Attributes:
        token_budget: most padded tokens of one pass.
        knee: fixed cost of a pass, in padded tokens; 0 makes every pass as large as the budget allows.
    """

    token_budget: int
    knee: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The lengths of buckets, and the assumption by which their batch sizes are chosen.

    Attributes:
        lengths: padded target tokens T of the buckets, ascending.
        drains: half-empty passes charged per bucket, as a multiple of the passes of one lane (E in
            `Scheduler.bucket`): 3 with many lanes, where no other value was better in simulations of recorded
            runs; else 2, measured with 8 to 32 lanes (`benchmarks/NOTES.md`).
    """

    lengths: tuple[int, ...]
    drains: int

    @classmethod
    def of(cls, num_lanes: int, longest: int, max_positions: int) -> Plan:
        """The plan of a run.

        Two buckets per octave from 16 to 64, then four: 16, 24, 32, 48, 64, 80, 96, ... From SOME_LANES lanes
        on, 10 is added before them; from MANY_LANES on, the lengths are 4, 6, and four per octave from 8 on.

        Args:
            num_lanes: lanes of the whole run.
            longest: tokens of its longest target.
            max_positions: most target tokens that the model has positions for; limits the last bucket.
        """
        many = num_lanes >= MANY_LANES
        if many:
            lengths = [4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64]
        else:
            lengths = [*([10] if num_lanes >= SOME_LANES else []), 16, 24, 32, 48, 64]
        while lengths[-1] < longest:
            octave = lengths[-1]
            lengths += [octave + quarter * octave // 4 for quarter in (1, 2, 3, 4)]
        needed = next(i for i, length in enumerate(lengths) if length >= longest)
        return cls((*lengths[:needed], min(lengths[needed], max_positions)), drains=3 if many else 2)


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
        plan: of the whole run.
        cost: of passes.
        num_lanes: lanes of the whole run, including those that an earlier start has finished.
        devices: shards into which the lanes of a pass are split (`mesh.places`).
        groups: device groups, each of which runs its own chunks; there may be more groups than devices.
    """

    def __init__(
        self, count: int, plan: Plan, cost: PassCost, num_lanes: int, devices: int, groups: int = 1
    ) -> None:
        self._lengths = plan.lengths
        self._drains = plan.drains
        self._prefix_N = np.ones(count, np.int32)
        self._alive_N = np.ones(count, bool)
        self._num_lanes = num_lanes
        self._devices = devices
        self._group_size = -(-devices // groups)
        self._now: dict[int, Turn] = {}  # turns in progress by group, in the order in which they were made
        self._last: list[Turn | None] = [None] * groups
        self._knee = cost.knee
        self.token_budget = cost.token_budget

    @property
    def alive(self) -> int:
        """Lanes that have not ended."""
        return int(self._alive_N.sum())

    @property
    def longest_bucket(self) -> int:
        """Padded length of the longest bucket, which is the length of the pool's token array."""
        return self._lengths[-1]

    def padded_length(self, prefix: int) -> int:
        """Padded length of the bucket of a prefix."""
        return self._lengths[int(np.searchsorted(self._lengths, prefix))]

    @property
    def devices(self) -> int:
        """Shards into which the lanes of a pass are split."""
        return self._devices

    def pass_cost(self, bucket: Bucket) -> float:
        """Cost of a pass of a bucket on one device, in padded tokens."""
        return self._knee + bucket.tokens * bucket.lanes

    def bucket(self, length: int) -> Bucket:
        """The shape of passes of `length` padded tokens on one device.

        N lanes of W steps on R devices, B lanes in a pass, take N W / (R B) full passes, and E W partly empty
        ones while the bucket drains. With a cost of knee + B T per pass, the total is least at
        B^2 = N knee / (R E T). E is the plan's `drains`.
        """
        lanes = min(self.token_budget // length, -(-self._num_lanes // self._devices))
        if self._knee:
            best = math.sqrt(self._num_lanes * self._knee / (self._devices * self._drains * length))
            lanes = min(lanes, round(best))
        if length <= _SHORT and lanes > 2 * _VECTOR:
            lanes -= lanes % _VECTOR
        return Bucket(length, max(1, lanes))

    def halve_budget(self) -> bool:
        """Halve the largest pass after running out of device memory; False if all passes have one lane."""
        buckets = [self.bucket(length) for length in self._lengths]
        largest = max((bucket.tokens * bucket.lanes for bucket in buckets if bucket.lanes > 1), default=0)
        if largest:
            self.token_budget = largest // 2
        return bool(largest)

    def observe(self, slots: np.ndarray, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Update the prefixes and stop reasons of lanes, after a chunk or at the start."""
        self._prefix_N[slots] = prefix_B
        self._alive_N[slots] = stop_B == Stop.RUNNING

    def next(self, group: int = 0) -> tuple[Bucket, np.ndarray] | None:
        """Bucket and lanes of a group's next chunk, at most one batch; None if no lane is waiting.

        Chosen is the shortest bucket with enough waiting lanes for a full batch; if there is none, the
        shortest with any: its lanes either end cheaply or move up and fill longer buckets. Lanes of the
        group's last chunk come first, so that a batch changes only when one of its lanes leaves: then a
        chunk that was dispatched ahead for the same lanes is not wasted.
        """
        bucket_N = np.searchsorted(self._lengths, self._prefix_N)
        waits_N = self._alive_N.copy()
        for turn in self.under_way:
            waits_N[turn.seated] = False
        waiting = [np.flatnonzero(waits_N & (bucket_N == i)) for i in range(len(self._lengths))]
        occupied = [i for i, slots in enumerate(waiting) if len(slots)]
        if not occupied:
            return None
        buckets = [self.bucket(length) for length in self._lengths]
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
    def under_way(self) -> list[Turn]:
        """The turns in progress, in the order in which they were made."""
        return list(self._now.values())

    @property
    def idle(self) -> bool:
        """Whether some group has no turn in progress."""
        return len(self._now) < len(self._last)

    def done(self, turn: Turn, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Mark a turn as finished, and update the prefixes and stop reasons of its lanes."""
        self.observe(turn.seated, prefix_B, stop_B)
        del self._now[turn.group]

    def drop(self) -> None:
        """Discard all turns in progress, after an error."""
        self._now.clear()
        self._last = [None] * len(self._last)

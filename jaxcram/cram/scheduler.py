"""Which lanes run next, in which padded shape.

A lane's shape follows from its own prefix and from the run as a whole: what its neighbours do, and how often
the run was interrupted, changes no bit of its result. The price is empty seats whenever a bucket runs dry, so
a pass holds no more lanes than pay for themselves.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.stages import Stop

# From so many lanes on, one short bucket, or tight ones all along, save more than it takes to compile them.
SOME_LANES, MANY_LANES = 16, 96
# With so few tokens XLA computes several lanes in one vector on CPU, and since JAX 0.12 it rounds those
# beyond the last whole vector otherwise. Without such lanes each has the same bits in every seat.
_SHORT, _VECTOR = 8, 8


@dataclasses.dataclass(frozen=True)
class PassCost:
    """What passes cost on a device, as far as their shapes are concerned.

    Attributes:
        token_budget: padded tokens of one pass, at most.
        knee: tokens that cost as much as a pass without any; 0 fills every pass up to its budget.
    """

    token_budget: int
    knee: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the shapes of passes are chosen by.

    Attributes:
        lengths: padded target tokens of the buckets, ascending.
        drains: in full passes a bucket, what it costs that buckets run dry (`Scheduler.bucket`): 3 with many
            lanes, as good as any in simulations of recorded runs; else 2, measured with 8 to 32 lanes
            (`benchmarks/NOTES.md`).
    """

    lengths: tuple[int, ...]
    drains: int

    @classmethod
    def of(cls, num_lanes: int, longest: int, max_positions: int) -> Plan:
        """The plan of a run.

        Two buckets to the octave from 16 to 64, then four: 16, 24, 32, 48, 64, 80, 96, ... With some lanes
        10 before them, with many four to the octave from 8 on: 4, 6, 8, 10, 12, 16, 20, 24, ...

        Args:
            num_lanes: lanes of the whole run.
            longest: tokens of its longest target.
            max_positions: target tokens that the model has room for; cuts the last bucket.
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
    """A chunk of one group of devices.

    Attributes:
        group: which.
        bucket: the shape of its passes.
        seated: the slots of its lanes.
        stays: whether these are those of the group's last turn.
        floor: with how few of its lanes that can go on a device still runs passes.
    """

    group: int
    bucket: Bucket
    seated: np.ndarray
    stays: bool
    floor: int


class Scheduler:
    """Host-side view of the pool: which lanes are alive, and in which bucket each belongs.

    Args:
        count: lanes to run.
        plan: of the whole run.
        cost: what passes cost.
        num_lanes: lanes of the whole run, also those that an earlier start has finished.
        devices: shares into which the lanes are dealt (`mesh.places`).
        groups: into how many groups these are divided; each runs chunks by itself. More of them than devices
            share these.
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
        self._together = -(-devices // groups)
        self._now: dict[int, Turn] = {}  # by group, in the order in which they were made
        self._last: list[Turn | None] = [None] * groups
        self._knee = cost.knee
        self.token_budget = cost.token_budget

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

    @property
    def devices(self) -> int:
        """Shares into which the lanes are dealt."""
        return self._devices

    def pass_cost(self, bucket: Bucket) -> float:
        """What a pass of a bucket costs on one device, in tokens."""
        return self._knee + bucket.tokens * bucket.lanes

    def bucket(self, length: int) -> Bucket:
        """The shape of passes of `length` padded tokens on one device.

        With N lanes of W steps on R devices, B in a pass, there are N W / (R B) full passes, and as a bucket
        runs dry another E W with empty seats; at knee + B T each, the sum is least for
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
        """Halve the largest pass of several lanes after memory ran out; False when none has several."""
        buckets = [self.bucket(length) for length in self._lengths]
        largest = max((bucket.tokens * bucket.lanes for bucket in buckets if bucket.lanes > 1), default=0)
        if largest:
            self.token_budget = largest // 2
        return bool(largest)

    def observe(self, slots: np.ndarray, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Take in the prefixes and stop reasons of lanes after a chunk (or at the start)."""
        self._prefix_N[slots] = prefix_B
        self._alive_N[slots] = stop_B == Stop.RUNNING

    def next(self, group: int = 0) -> tuple[Bucket, np.ndarray] | None:
        """Bucket and lanes of a group's next chunk, as many as it seats at most; None when nobody waits.

        The shortest bucket with enough waiting lanes for a whole pass goes first; when none has, the shortest
        with any: its lanes either end cheaply or move up, where they fill longer buckets. Lanes keep their
        seats until they leave, whoever has come to their bucket meanwhile: only the last passes of a bucket
        are short of lanes, and what was started ahead for the same lanes is not in vain.
        """
        place_N = np.searchsorted(self._lengths, self._prefix_N)
        waits_N = self._alive_N.copy()
        for turn in self.under_way:
            waits_N[turn.seated] = False
        waiting = [np.flatnonzero(waits_N & (place_N == i)) for i in range(len(self._lengths))]
        occupied = [i for i, slots in enumerate(waiting) if len(slots)]
        if not occupied:
            return None
        buckets = [self.bucket(length) for length in self._lengths]
        seats = [bucket.lanes * self._together for bucket in buckets]
        full = [i for i in occupied if len(waiting[i]) >= seats[i]]
        chosen = (full or occupied)[0]
        last = self._last[group]
        sat = np.isin(waiting[chosen], last.seated if last else ())
        first = np.argsort(~sat, kind="stable")[: seats[chosen]]
        return buckets[chosen], np.sort(waiting[chosen][first])

    def turns(self) -> list[Turn]:
        """Seat waiting lanes wherever no chunk is under way; the chunks that are to start."""
        made: list[Turn] = []
        # Who has been at a chunk goes before those who had none: its lanes may keep their seats.
        for group in sorted(range(len(self._last)), key=lambda group: self._last[group] is None):
            if group in self._now:
                continue
            choice, last = self.next(group), self._last[group]
            if not choice:
                self._last[group] = None
                continue
            bucket, seated = choice
            stays = last is not None and last.bucket == bucket and np.array_equal(last.seated, seated)
            # On one device a chunk may end whenever seats are idle; several wait for each other.
            floor = 1 if self._together > 1 else -(-3 * len(seated) // 4)
            made.append(Turn(group, bucket, seated, stays, floor))
            self._now[group] = self._last[group] = made[-1]
        return made

    @property
    def under_way(self) -> list[Turn]:
        """The turns that have not been `done`, in the order in which they were made."""
        return list(self._now.values())

    @property
    def idle(self) -> bool:
        """Whether some group has nothing to do."""
        return len(self._now) < len(self._last)

    def done(self, turn: Turn, prefix_B: np.ndarray, stop_B: np.ndarray) -> None:
        """Take in that a turn is over, and what its seated lanes have come to."""
        self.observe(turn.seated, prefix_B, stop_B)
        del self._now[turn.group]

    def drop(self) -> None:
        """Take in that all turns under way are lost."""
        self._now.clear()
        self._last = [None] * len(self._last)

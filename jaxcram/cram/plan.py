"""The plan of a run: the shapes of its passes, by predicted time.

A pass follows a roofline: a fixed part (the weights are read, kernels started) and a part for every padded
token. Short buckets save padding, and wide passes share the fixed part; but every bucket is a program to
compile, and wide passes run half empty while a bucket drains.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import StageSettings

# Expected optimiser steps for each token of a prefix. Stages near the horizon take hundreds, and nobody knows
# before where that is; lanes of the bundled model took 80 for each token of theirs, of SmolLM2-135M 75.
STEPS_PER_TOKEN = 100
# Half-empty passes of a bucket that drains, as a multiple of the passes of one lane (`benchmarks/NOTES.md`):
# while lanes come one by one from shorter buckets, and if all of them wait from the first step on.
DRAINS_GROWING, DRAINS_FULL = 4.0, 1.0
# To compile a bucket's program, s; a constant, so that a full compilation cache does not change the plan.
COMPILE_S = 4.0
# With so few tokens XLA computes several lanes in one vector on CPU, and since JAX 0.12 it rounds those
# beyond the last whole vector otherwise. Without such lanes each has the same bits in every seat.
_SHORT, _VECTOR = 8, 8


@dataclasses.dataclass(frozen=True)
class PassTime:
    """Seconds of a pass by its shape.

    Attributes:
        fixed_s: of every pass.
        token_s: for every padded token more.
        before: tokens of a lane besides those of its target: K - 1, since the last is predicted and not read.
    """

    fixed_s: float
    token_s: float
    before: int = 0

    def __call__(self, bucket: Bucket) -> float:
        """Seconds of one pass."""
        return self.fixed_s + self.token_s * (bucket.tokens + self.before) * bucket.lanes


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """The steps that the lanes of a run are expected to take, by prefix length.

    Attributes:
        lanes_N: lanes that have a stage of so many tokens; index 0 is unused.
        steps_N: steps that each of them takes there.
        growing: whether a lane passes through all lengths up to its own; otherwise it has only its own.
    """

    lanes_N: np.ndarray
    steps_N: np.ndarray
    growing: bool

    @classmethod
    def of(cls, lengths: Sequence[int], lanes_per_text: int, stages: StageSettings) -> Self:
        """The work of a run.

        Args:
            lengths: tokens of every target.
            lanes_per_text: learning rates x seeds.
            stages: the procedure.
        """
        tokens_N = np.arange(max(lengths) + 1)
        ending_N = lanes_per_text * np.bincount(lengths, minlength=len(tokens_N))
        if stages.mode == "full":
            return cls(ending_N, np.minimum(STEPS_PER_TOKEN * tokens_N, stages.max_steps), growing=False)
        step, first = stages.progressive_step, min(stages.min_tokens, max(lengths))
        visited_N = (tokens_N >= first) & ((tokens_N - first) % step == 0) | (ending_N > 0)
        steps = min(STEPS_PER_TOKEN * step, stages.max_steps_per_stage)
        return cls(ending_N[::-1].cumsum()[::-1], steps * visited_N, growing=True)

    @property
    def drains(self) -> float:
        """Half-empty passes of a bucket, as a multiple of the passes of one of its lanes."""
        return DRAINS_GROWING if self.growing else DRAINS_FULL

    def between(self, low: int, high: int) -> tuple[int, float]:
        """Lanes with stages of more than `low` and at most `high` tokens, and their mean steps there."""
        lanes_N, steps_N = self.lanes_N[low + 1 : high + 1], self.steps_N[low + 1 : high + 1]
        lanes_N = np.where(steps_N > 0, lanes_N, 0)
        lanes = int(lanes_N.max(initial=0) if self.growing else lanes_N.sum())
        return lanes, float(lanes_N @ steps_N) / max(lanes, 1)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The shapes of the passes of a run, which determine the rounding of its lanes.

    Attributes:
        buckets: padded shapes of passes on one device, by ascending length.
        at_once: passes that run at once: on CPU those that share its cores, elsewhere one on each device.
        time: of a pass while so many run; where nothing was measured, its padded tokens.
        seconds: predicted time of the run with compilation; 0 where nothing was measured.
    """

    buckets: tuple[Bucket, ...]
    at_once: int
    time: PassTime
    seconds: float

    @classmethod
    def best(
        cls, work: Work, time: PassTime, at_once: int, max_positions: int, most_tokens: float = math.inf
    ) -> Self:
        """The plan with the shortest predicted time, by dynamic programming over the lengths of buckets.

        Args:
            work: of the run.
            time: of a pass while `at_once` of them run.
            at_once: passes that run at once.
            max_positions: most target tokens that the model has positions for; limits the last bucket.
            most_tokens: padded tokens that a pass may have, if it has more than one lane.
        """
        lengths = _candidates(len(work.lanes_N) - 1, max_positions)
        best: list[tuple[float, tuple[Bucket, ...]]] = [(0.0, ())]  # up to each candidate
        for high in lengths:
            options = []
            for low, (before_s, buckets) in zip([0, *lengths], best, strict=False):
                found = _widest(work, (low, high), time, at_once, most_tokens)
                if found is None:
                    options.append((before_s, buckets))
                else:
                    options.append((before_s + found[1] + COMPILE_S, (*buckets, found[0])))
            best.append(min(options, key=lambda option: option[0]))
        return cls(best[-1][1], at_once, time, best[-1][0])

    @classmethod
    def of_budget(cls, work: Work, token_budget: int, at_once: int, max_positions: int) -> Self:
        """The plan whose passes are as large as so many padded tokens allow; nothing is measured.

        The lengths of its buckets are 4, 8, 12, 16, and four per octave from there on.
        """
        buckets, low = [], 0
        for length in _candidates(len(work.lanes_N) - 1, max_positions):
            if length % 4 and length < len(work.lanes_N) - 1:
                continue
            lanes, _ = work.between(low, length)
            if lanes:
                width = min(-(-lanes // at_once), token_budget // length)
                buckets.append(Bucket(length, _seats(max(1, width), length)))
            low = length
        return cls(tuple(buckets), at_once, PassTime(0.0, 1.0), 0.0)

    @property
    def token_budget(self) -> int:
        """The budget that `of_budget` keeps to with passes no larger than these; 1 if all have one lane."""
        return max((tokens * lanes for tokens, lanes in self.buckets if lanes > 1), default=1)

    def bucket(self, prefix: int) -> Bucket:
        """The shape of passes in which a prefix is optimised."""
        return next(bucket for bucket in self.buckets if bucket.tokens >= prefix)

    def halved(self) -> Self | None:
        """The plan with at most half the tokens in a pass; None if all passes have one lane."""
        if all(lanes == 1 for _, lanes in self.buckets):
            return None
        buckets = []
        for tokens, lanes in self.buckets:
            fewer = max(1, min(lanes, self.token_budget // 2 // tokens))
            buckets.append(Bucket(tokens, _seats(fewer, tokens)))
        return dataclasses.replace(self, buckets=tuple(buckets))

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        """The plan that `dataclasses.asdict` made this of.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """
        buckets = tuple(Bucket(int(tokens), int(lanes)) for tokens, lanes in values["buckets"])
        lengths = [bucket.tokens for bucket in buckets]
        if (
            not buckets
            or lengths != sorted(set(lengths))
            or min(map(min, buckets)) < 1
            or values["at_once"] < 1
        ):
            raise ValueError(f"no plan of passes: {values}")
        return cls(buckets, int(values["at_once"]), PassTime(**values["time"]), float(values["seconds"]))


def _candidates(longest: int, max_positions: int) -> list[int]:
    """Lengths that buckets may have: all up to 8, every second up to 16, four per octave, the longest."""
    lengths = [*range(1, 9), 10, 12, 14, 16]
    while lengths[-1] < longest:
        octave = lengths[-1]
        lengths += [octave + quarter * octave // 4 for quarter in (1, 2, 3, 4)]
    last = longest if longest <= 16 else -(-longest // 8) * 8
    last = min(last, max_positions)
    return [*(length for length in lengths if length < last), last]


def _widest(
    work: Work, between: tuple[int, int], time: PassTime, at_once: int, most_tokens: float
) -> tuple[Bucket, float] | None:
    """The best bucket for a range of prefixes, and its seconds; None if no lane has any (`Work.between`).

    N lanes of W steps in R passes of B lanes at once take N W / (R B) full passes, and E W half-empty ones
    while the bucket drains (`Work.drains`). With a + b B T seconds a pass the sum is least at
    B^2 = N a / (R E b T).
    """
    (lanes, steps), length = work.between(*between), between[1]
    if not lanes:
        return None
    own = length + time.before
    most = max(1, int(min(-(-lanes // at_once), most_tokens / own)))
    root = math.sqrt(lanes * time.fixed_s / (at_once * work.drains * time.token_s * own))
    options = []
    for width in (math.floor(root), math.ceil(root)):
        bucket = Bucket(length, _seats(min(max(1, width), most), length))
        passes = steps * (lanes / (at_once * bucket.lanes) + work.drains)
        options.append((passes * time(bucket), bucket))
    seconds, bucket = min(options)
    return bucket, seconds


def _seats(lanes: int, length: int) -> int:
    """So many lanes, or the next smaller number that leaves no part of a vector in passes of few tokens."""
    return lanes - lanes % _VECTOR if length <= _SHORT and lanes > 2 * _VECTOR else lanes

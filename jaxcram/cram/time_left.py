"""How long a run still takes: the steps that its lanes are expected to take, at the speed of the last while.

Short lanes end first, so the mean of the ended ones says little about the others. What is known of a lane is
how long its stage has lasted; how often stages that lasted so long still became exact is counted over all
lanes of the run (the Kaplan-Meier estimate, in which stages under way count for as long as they last).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.rows import LaneRows
from jaxcram.cram.scheduler import Scheduler
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Progress, Stop

LAST_STAGES = 3  # exact stages of a lane that count: earlier ones were shorter than those to come
_EVERY_S = 1.0  # between two estimates
_LEAST_S = 2.0  # after which a speed says something
_MEAN_S = 10.0  # over which the speed is a mean, at least; later, half of the time so far


class TimeLeft:
    """The estimate of one run, made anew every second.

    Passes are counted by what they cost (`Scheduler.pass_cost`). Those to come follow from the steps that
    lanes still need: each bucket runs passes until its longest lane has ended, its seats filled as far as
    there are lanes. They share the devices, but the passes of one lane follow each other.

    Args:
        stages: the caps, and how prefixes grow.
        length_N: tokens of every lane's target.
    """

    def __init__(self, stages: StageSettings, length_N: np.ndarray) -> None:
        self._stages = stages
        self._length_N = length_N
        self._cost = self._busy_s = self._now = 0.0
        self._speed: _Speed | None = None
        self._first = self._next = 0.0
        self._known: float | None = None

    def book(self, now: float, scheduler: Scheduler, bucket: Bucket, passes: int) -> None:
        """Take in passes of a bucket; `now` are the seconds since the start."""
        busy = min(len(scheduler.under_way), scheduler.devices)
        self._busy_s += busy * (now - self._now)
        self._now = now
        self._cost += passes * scheduler.pass_cost(bucket)

    def seconds(self, scheduler: Scheduler, progress: Progress, rows: Sequence[LaneRows]) -> float | None:
        """Seconds until the last lane is expected to end, or None.

        Args:
            scheduler: knows which passes a lane is in.
            progress: of all lanes [N]; rows: of the same.
        """
        running = np.flatnonzero(np.asarray(progress.stop) == Stop.RUNNING)
        if not len(running):
            return 0.0
        if self._now < self._next:
            return self._known
        self._next = self._now + _EVERY_S
        if self._speed is None:  # until now programs were compiled
            self._first, self._speed = self._now, _Speed(self._now, np.array([self._cost, self._busy_s]))
        cost, busy_s = self._speed.update(self._now, np.array([self._cost, self._busy_s]))
        if busy_s > 0 and cost > 0 and self._now >= self._first + _LEAST_S:
            steps_B = self._steps_left(running, progress, rows)
            left = _cost_left(steps_B, np.asarray(progress.prefix)[running], scheduler)
            self._known = left * float(busy_s / cost)
        return self._known

    def _steps_left(self, running: np.ndarray, progress: Progress, rows: Sequence[LaneRows]) -> np.ndarray:
        """Of the running lanes [B]."""
        prefix_N, _, stage_steps_N, total_steps_N, stop_N = map(np.asarray, progress)
        ahead_B = self._length_N[running] - prefix_N[running]
        now = Standing(
            -(-ahead_B // self._stages.progressive_step),
            stage_steps_N[running],
            total_steps_N[running],
            sum(len(lane.rows) for lane in rows) - int(np.sum(stop_N > Stop.COMPLETE)),
        )
        recent = [steps for lane in rows for steps in lane.exact_stages(LAST_STAGES)]
        failed = stage_steps_N[stop_N == Stop.STAGE_CAP]
        return steps_left(now, np.array(recent, int), failed, self._stages)


class Standing(NamedTuple):
    """Where the running lanes stand, int arrays [B].

    Attributes:
        stages: that a lane may still enter after the present one.
        stage_steps, total_steps: optimiser steps of the present stage, and of the lane.
        exact_stages: how many stages of all lanes became exact.
    """

    stages: np.ndarray
    stage_steps: np.ndarray
    total_steps: np.ndarray
    exact_stages: int


def steps_left(now: Standing, recent: np.ndarray, failed: np.ndarray, settings: StageSettings) -> np.ndarray:
    """Optimiser steps that each running lane is expected to take yet, float [B].

    Args:
        now: the running lanes.
        recent: steps of stages that became exact, the last few of each lane [E].
        failed: steps of stages that ended their lane without becoming exact [F].
        settings: the caps.
    """
    cap = settings.max_steps_per_stage
    times_U, exact_U = np.unique(recent, return_counts=True)
    lasting_U = (len(recent) - np.cumsum(exact_U) + exact_U).astype(float)
    for steps in (now.stage_steps, failed):
        lasting_U += len(steps) - np.searchsorted(np.sort(steps), times_U)
    # Before lanes have ended nobody knows that stages fail: one of all exact ones so far might have.
    lasting_U += len(recent) / max(now.exact_stages, 1)
    starts = np.concatenate([[0.0], times_U])
    survival = np.concatenate([[1.0], np.cumprod(1 - exact_U / lasting_U)])
    area = np.concatenate([[0.0], np.cumsum(survival[:-1] * np.diff(starts))])  # of survival before `starts`

    def of_stage(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps that stages which have lasted so long still take, and how likely they become exact."""
        at, end = (np.searchsorted(starts, x, side="right") - 1 for x in (steps, cap))
        until_cap = area[end] + survival[end] * (cap - starts[end])
        own = until_cap - area[at] - survival[at] * (steps - starts[at])
        return own / survival[at], 1 - survival[end] / survival[at]

    own_B, exact_B = of_stage(now.stage_steps)
    (mean,), (chance,) = of_stage(np.zeros(1))
    later_B = mean * (1 - chance**now.stages) / (1 - chance)
    return np.clip(own_B + exact_B * later_B, 0, settings.max_steps - now.total_steps)


def _cost_left(steps_B: np.ndarray, prefix_B: np.ndarray, scheduler: Scheduler) -> float:
    """What passes cost until the device that is at it longest has ended.

    At best lanes that grow meet others in full passes, at worst each bucket runs dry by itself. The default
    run, played again on 2 and 4 devices, was two thirds of the way to the worst.
    """
    prefix_U, of_B = np.unique(prefix_B, return_inverse=True)
    tokens_B = np.array([scheduler.padded_length(prefix) for prefix in prefix_U])[of_B]
    devices, full, longest = [0.0] * scheduler.devices, 0.0, 0.0
    for tokens in np.unique(tokens_B):  # short buckets first, as the scheduler has it
        bucket = scheduler.bucket(int(tokens))
        cost = scheduler.pass_cost(bucket) * np.sort(steps_B[tokens_B == tokens])[::-1]
        full, longest = full + cost.sum() / bucket.lanes, max(longest, cost[0])
        for of_pass in cost[:: bucket.lanes]:
            heapq.heapreplace(devices, devices[0] + of_pass)
    return (max(full / scheduler.devices, longest) + 2 * max(devices)) / 3


class _Speed:
    """Amounts per second over the last while."""

    def __init__(self, now: float, done: np.ndarray) -> None:
        self._then, self._done = now, done
        self._mean_s, self._mean = 0.0, np.zeros_like(done)

    def update(self, now: float, done: np.ndarray) -> np.ndarray:
        """Take in what has been done from the start until now, amount by amount; the speeds."""
        kept = np.exp(-(now - self._then) / max(_MEAN_S, now / 2))
        self._mean = kept * self._mean + done - self._done
        self._mean_s = kept * self._mean_s + now - self._then
        self._then, self._done = now, done
        return self._mean / max(self._mean_s, 1e-9)

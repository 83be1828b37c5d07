"""Estimates the time left of a run: the steps that its lanes are expected to take, at the recent speed.

Short lanes end first, so the mean over ended lanes would be biased. Instead, the steps that a stage takes
until it becomes exact are treated as survival times: their distribution over all lanes is the Kaplan-Meier
estimate, in which current and failed stages are censored.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.plan import Plan
from jaxcram.cram.rows import LaneRows
from jaxcram.cram.scheduler import Scheduler
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Progress, Stop

LAST_STAGES = 3  # latest exact stages of each lane in the estimate: earlier ones took fewer steps
_EVERY_S = 1.0  # between two estimates
_LEAST_S = 2.0  # of measurement before the first estimate
_MEAN_S = 10.0  # time constant of the mean speed, at least; later, half of the elapsed time


class TimeLeft:
    """The estimate of one run, updated every second.

    Passes are weighted by their cost (`Plan.time`). The passes left follow from the steps that
    lanes still need: each bucket runs batches of its lanes until the longest lane of each batch has ended.
    Batches are distributed over the devices, but the passes of one lane are sequential.

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
        """Record that passes of a bucket have run; `now` is the time since the start, in seconds."""
        self._busy_s += scheduler.busy * (now - self._now)
        self._now = now
        self._cost += passes * scheduler.plan.time(bucket)

    def seconds(self, scheduler: Scheduler, progress: Progress, rows: Sequence[LaneRows]) -> float | None:
        """Seconds until the last lane is expected to end; None if they cannot be estimated yet.

        Args:
            scheduler: gives the bucket and the cost of passes.
            progress: of all lanes [N].
            rows: of all lanes.
        """
        running = np.flatnonzero(np.asarray(progress.stop) == Stop.RUNNING)
        if not len(running):
            return 0.0
        if self._now < self._next:
            return self._known
        self._next = self._now + _EVERY_S
        if self._speed is None:  # measure from the first call on, to leave out compilation
            self._first, self._speed = self._now, _Speed(self._now, np.array([self._cost, self._busy_s]))
        cost, busy_s = self._speed.update(self._now, np.array([self._cost, self._busy_s]))
        if busy_s > 0 and cost > 0 and self._now >= self._first + _LEAST_S:
            steps_B, stages_B = self._steps_left(running, progress, rows)
            # Steps still to come are of longer prefixes: on average of those half-way to the last one.
            prefix_B = np.asarray(progress.prefix)[running] + stages_B / 2 * self._stages.progressive_step
            left = _cost_left(steps_B, np.minimum(prefix_B, self._length_N[running]), scheduler.plan)
            self._known = left * float(busy_s / cost)
        return self._known

    def _steps_left(
        self, running: np.ndarray, progress: Progress, rows: Sequence[LaneRows]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Steps that the running lanes still need, and stages after the current one [B]."""
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
    """The progress of the running lanes; int arrays [B].

    Attributes:
        stages: stages of a lane after the current one.
        stage_steps, total_steps: optimiser steps of the current stage, and of the lane.
        exact_stages: number of stages of all lanes that became exact.
    """

    stages: np.ndarray
    stage_steps: np.ndarray
    total_steps: np.ndarray
    exact_stages: int


def steps_left(
    now: Standing, recent: np.ndarray, failed: np.ndarray, settings: StageSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Optimiser steps that each running lane is still expected to take, and stages after its own, float [B].

    Args:
        now: the running lanes.
        recent: steps of the stages that became exact, the last few of each lane [E].
        failed: steps of the stages that ended their lane without becoming exact [F].
        settings: the caps.
    """
    cap = settings.max_steps_per_stage
    times_U, exact_U = np.unique(recent, return_counts=True)
    lasting_U = (len(recent) - np.cumsum(exact_U) + exact_U).astype(float)
    for steps in (now.stage_steps, failed):
        lasting_U += len(steps) - np.searchsorted(np.sort(steps), times_U)
    # Before any stage has failed the estimate would be that none ever does, so add one failure in all exact
    # stages so far.
    lasting_U += len(recent) / max(now.exact_stages, 1)
    starts = np.concatenate([[0.0], times_U])
    survival = np.concatenate([[1.0], np.cumprod(1 - exact_U / lasting_U)])
    area = np.concatenate(
        [[0.0], np.cumsum(survival[:-1] * np.diff(starts))]
    )  # under survival, up to `starts`

    def of_stage(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected remaining steps, and probability of becoming exact, of stages after `steps` steps."""
        at, end = (np.searchsorted(starts, x, side="right") - 1 for x in (steps, cap))
        until_cap = area[end] + survival[end] * (cap - starts[end])
        own = until_cap - area[at] - survival[at] * (steps - starts[at])
        return own / survival[at], 1 - survival[end] / survival[at]

    own_B, exact_B = of_stage(now.stage_steps)
    (mean,), (chance,) = of_stage(np.zeros(1))
    stages_B = exact_B * (1 - chance**now.stages) / (1 - chance)
    steps_B = np.clip(own_B + mean * stages_B, 0, settings.max_steps - now.total_steps)
    return steps_B, stages_B


def _cost_left(steps_B: np.ndarray, prefix_B: np.ndarray, plan: Plan) -> float:
    """Cost of the passes left on the device that finishes last.

    At best all passes are full; at worst each bucket drains on its own, in partly empty passes. The result is
    two thirds of the way to the worst case, as in the default run replayed on 2 and 4 devices.
    """
    number_B = np.searchsorted([bucket.tokens for bucket in plan.buckets], prefix_B)
    devices, full, longest = [0.0] * plan.at_once, 0.0, 0.0
    for number in np.unique(number_B):  # short buckets first, as in the scheduler
        bucket = plan.buckets[number]
        cost = plan.time(bucket) * np.sort(steps_B[number_B == number])[::-1]
        full, longest = full + cost.sum() / bucket.lanes, max(longest, cost[0])
        for of_pass in cost[:: bucket.lanes]:
            heapq.heapreplace(devices, devices[0] + of_pass)
    return (max(full / plan.at_once, longest) + 2 * max(devices)) / 3


class _Speed:
    """Amounts per second, as an exponential moving average."""

    def __init__(self, now: float, done: np.ndarray) -> None:
        self._then, self._done = now, done
        self._mean_s, self._mean = 0.0, np.zeros_like(done)

    def update(self, now: float, done: np.ndarray) -> np.ndarray:
        """The speeds, given the cumulative amounts `done` until `now`."""
        kept = np.exp(-(now - self._then) / max(_MEAN_S, now / 2))
        self._mean = kept * self._mean + done - self._done
        self._mean_s = kept * self._mean_s + now - self._then
        self._then, self._done = now, done
        return self._mean / max(self._mean_s, 1e-9)

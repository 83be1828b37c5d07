"""Time left: what stages took tells what is to come; a run that is played again ends when it was said to."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.scheduler import Scheduler
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Progress, Stop
from jaxcram.cram.time_left import Standing, TimeLeft, steps_left

FULL = StageSettings(mode="full", max_steps=500)
RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "default_run_stages.json"
CHUNK = 16  # passes
TOKENS_PER_S = 10_000  # of a device


def standing(stages, stage_steps, total_steps, exact_stages) -> Standing:
    return Standing(np.array(stages), np.array(stage_steps), np.array(total_steps), exact_stages)


def test_in_full_mode_lanes_are_expected_to_reach_their_cap_until_one_is_exact():
    now = standing([0, 0, 0], [0, 100, 499], [0, 100, 499], 0)
    steps, stages = steps_left(now, np.array([], int), np.array([], int), FULL)
    assert (steps.tolist(), stages.tolist()) == ([500, 400, 1], [0, 0, 0])


def test_stages_are_expected_to_last_as_long_as_earlier_ones():
    """Of four stages one took 100 steps, one 300; one is at 200; one has ended at its cap of 500."""
    now = standing([0], [200], [200], 10**9)
    # Of those that last 200 steps, one of two ends at 300: 100 steps, or 300.
    assert steps_left(now, np.array([100, 300]), np.array([500]), FULL)[0].tolist() == pytest.approx([200])


def test_an_exact_stage_is_followed_by_others_up_to_the_end_of_the_text():
    settings = StageSettings(max_steps_per_token=100)
    now = standing([0, 1, 2], [0, 0, 0], [0, 0, 0], 10**9)
    # A stage takes 20 steps, or the whole 100, as often as not: 60, and half the time one more.
    steps, stages = steps_left(now, np.array([20]), np.array([100]), settings)
    assert steps.tolist() == pytest.approx([60, 90, 105])
    assert stages.tolist() == pytest.approx([0, 0.5, 0.75])


def test_steps_left_are_limited_by_the_cap_of_a_lane():
    settings = StageSettings(max_steps_per_token=100, max_steps=150)
    now = standing([50], [0], [140], 10**9)
    assert steps_left(now, np.array([20, 30]), np.array([], int), settings)[0].tolist() == [10]


class Rows:
    """What is asked of the rows of a lane: `LaneRows`, of which stage after stage becomes exact."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def exact_stages(self, most: int) -> list[int]:
        return self.rows[-most:]


class Replay:
    """The default run again, from the steps of its stages; each device has a clock of what passes cost."""

    def __init__(self, devices: int) -> None:
        recorded = json.loads(RECORDED.read_text())
        self.stages, self.lengths = recorded["steps"], np.array(recorded["lengths"])
        lanes = len(self.stages)
        time = PassTime(10 / TOKENS_PER_S, 1 / TOKENS_PER_S)
        plan = Plan.best(Work.of(self.lengths, 1, StageSettings()), time, devices, 512)
        self.scheduler = Scheduler(lanes, plan, devices)
        zeros = np.zeros(lanes, int)
        self.progress = Progress(zeros + 1, zeros.copy(), zeros.copy(), zeros.copy(), zeros.copy())
        self.rows = [Rows() for _ in range(lanes)]
        self.left = TimeLeft(StageSettings(), self.lengths)

    def step(self, lane: int) -> None:
        """One step of a lane, if it has not ended."""
        now, steps, rows = self.progress, self.stages[lane], self.rows[lane]
        while now.stop[lane] == Stop.RUNNING and now.stage_steps[lane] == steps[len(rows.rows)]:
            if len(rows.rows) == len(steps) - 1:  # the stage that ended the lane
                now.stop[lane] = Stop.STAGE_CAP
                return
            rows.rows.append(now.stage_steps[lane])
            now.stage_steps[lane] = 0
            now.prefix[lane] += 1
        if now.stop[lane] == Stop.RUNNING:
            now.stage_steps[lane] += 1
            now.total_steps[lane] += 1

    def run(self):
        """Yields seconds, and the seconds that are said to be left, after each chunk."""
        ends: dict[int, float] = {}  # of the chunks under way, by group of devices
        now = 0.0
        while self.scheduler.alive:
            for turn in self.scheduler.turns():
                ends[turn.group] = now + CHUNK * self.scheduler.plan.time(turn.bucket)
            turn = min(self.scheduler.under_way, key=lambda turn: ends[turn.group])
            now = ends[turn.group]
            for lane in list(turn.seated) * CHUNK:
                self.step(lane)
            self.left.book(now, self.scheduler, turn.bucket, CHUNK)
            self.scheduler.done(turn, self.progress.prefix[turn.seated], self.progress.stop[turn.seated])
            yield now, self.left.seconds(self.scheduler, self.progress, self.rows)


@pytest.mark.parametrize("devices", [2, 4])
def test_after_half_the_time_the_estimate_is_close_on_a_replayed_run(devices):
    told = list(Replay(devices).run())
    end = told[-1][0]
    assert told[-1][1] == 0
    late = [(end - now, left) for now, left in told if end / 2 <= now]
    assert len(late) > 100
    assert [(actual, left) for actual, left in late if abs(left - actual) > 0.3 * actual + 1] == []

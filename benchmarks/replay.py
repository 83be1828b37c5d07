"""Finished runs played again without a model: what the schedule makes of their lanes on other devices.

    jaxcram cram --texts=stories:32 --trajectory=none --out=RUN
    python benchmarks/replay.py --runs=RUN --devices=1,2,8 --knee=6 --token_budget=192

The rows tell how many steps a lane spent on every prefix, and a pass does the same to a lane whatever runs
beside it: so the passes and the useful share of another schedule follow without computing one. For a run of
one start in one process, on one device and with stages of one token, played with its own pass cost, they are
those of its summary. On several devices who ends first, and so who sits together next, is up to the machine;
here it follows from what passes cost, and the share is another by a hundredth or so. (Other shapes round
differently too: a real run of them takes other steps.) --lengths and --drains try another plan than the run's
own. One JSON line each:

  passes        of all devices
  useful_share  tokens of unfinished lanes' current prefixes / padded tokens paid for
  cost          time that devices work, in the tokens they could have done meanwhile, per useful token:
                passes count knee + their own tokens
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
import workload

from jaxcram.cli.flags import Doc
from jaxcram.cram.autotune import DEFAULT_COST
from jaxcram.cram.scheduler import PassCost, Plan, Scheduler, Turn
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.stages import Stop
from jaxcram.errors import UserError
from jaxcram.results.reading import load_lanes, load_settings, load_summary


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    runs: tuple[str, ...] = ()
    devices: tuple[int, ...] = (2,)
    spare: int = 1
    token_budget: int = DEFAULT_COST["cpu"].token_budget
    knee: float = DEFAULT_COST["cpu"].knee
    chunk_passes: int = CramSettings.chunk_passes
    lengths: tuple[int, ...] = ()
    drains: int = 0
    json: str | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("--runs is needed: directories of finished runs")
        if self.lengths and list(self.lengths) != sorted({*self.lengths} - {0}):
            raise UserError(f"--lengths={','.join(map(str, self.lengths))}: give ascending lengths from 1 on")
        if (
            min(self.devices) < 1
            or min(self.spare, self.drains) < 0
            or min(self.token_budget, self.chunk_passes) < 1
            or not self.knee >= 0
        ):
            raise UserError(
                "--devices, --token_budget and --chunk_passes start at 1, --spare, --knee and --drains at 0"
            )


TOPICS = {
    "Lanes": {"runs": Doc("Directories of finished runs")},
    "Schedule": {
        "devices": Doc("Places on the mesh's lanes axis; one measurement each"),
        "spare": Doc("Chunks that share the devices with one each; on CPU 1, elsewhere 0"),
        "token_budget": Doc("Padded tokens of one pass, at most", "tokens"),
        "knee": Doc("Tokens that cost as much as a pass without any", "tokens"),
        "chunk_passes": Doc("Passes between two looks of the host"),
        "lengths": Doc("Shortest buckets to try; longer ones follow as in the run's own plan", "tokens"),
        "drains": Doc("Drains to try; 0 takes those of the run's own plan"),
    },
    "Results": {"json": workload.TOPICS["Results"]["json"]},
}
COLUMNS = {
    **{"run": "", "lanes": "", "devices": "", "chunks": "", "passes": ""},
    **{"useful_share": ".3f", "cost": ".2f"},
}


class Lane(NamedTuple):
    """A lane's prefixes: the first it had, that of every step it took, and the last."""

    first: int
    of_steps: list[int]
    last: int


def lanes_of(run: Path) -> tuple[list[Lane], int]:
    """The lanes of a finished run in its own order, and the length of its longest target."""
    settings, lanes, longest = load_settings(run), {}, 0
    load_summary(run)  # without one it is not finished
    for job, table in load_lanes(run):
        place = settings["seeds"].index(job.seed), settings["learning_rates"].index(job.learning_rate)
        prefixes = table["stage_seq_len"].to_numpy()
        of_steps = np.repeat(prefixes, table["steps"].to_numpy())
        lanes[job.sample_id, *place] = Lane(int(prefixes[0]), of_steps.tolist(), int(prefixes[-1]))
        longest = max(longest, table["num_input_tokens"][0].as_py())
    return [lanes[place] for place in sorted(lanes)], longest


def plan_for(lanes: list[Lane], longest: int, command: Command) -> Plan:
    """The run's own plan, or what is to be tried; the model is taken to have room for the longest bucket."""
    plan = Plan.of(len(lanes), longest, 2 * longest)
    if command.lengths:
        longer = (length for length in plan.lengths if length > command.lengths[-1])
        plan = dataclasses.replace(plan, lengths=(*command.lengths, *longer))
    return dataclasses.replace(plan, drains=command.drains or plan.drains)


class Replay:
    """The lanes of a finished run under a schedule.

    Args:
        lanes: in the order of their slots.
        plan: chooses the shapes.
        cost: what passes cost.
        devices: each works off one chunk after the other.
        spare: chunks under way beside one a device, where several are; they begin as devices become free.
        chunk_passes: passes of a chunk, at most.
    """

    def __init__(
        self, lanes: list[Lane], plan: Plan, cost: PassCost, devices: int, spare: int, chunk_passes: int
    ) -> None:
        self._lanes = lanes
        self._knee = cost.knee
        self._devices = devices
        self._chunk_passes = chunk_passes
        groups = devices + spare if devices > 1 else 1
        self._scheduler = Scheduler(len(lanes), plan, cost, len(lanes), devices, groups)
        self._prefix_N = np.array([lane.first for lane in lanes], np.int32)
        self._done_N, self._stop_N = np.zeros(len(lanes), int), np.full(len(lanes), Stop.RUNNING)
        self._scheduler.observe(np.arange(len(lanes)), self._prefix_N, self._stop_N)

    def _chunk(self, turn: Turn) -> tuple[int, int]:
        """Move a turn's lanes on: its passes, and the tokens of unfinished lanes' prefixes in them."""
        tokens, active, passes, useful = turn.bucket.tokens, turn.seated.tolist(), 0, 0
        while passes < self._chunk_passes and len(active) >= turn.floor:
            useful += int(self._prefix_N[active].sum())
            passes += 1
            for slot in list(active):
                _, of_steps, last = self._lanes[slot]
                steps_left = self._done_N[slot] < len(of_steps)
                prefix = of_steps[self._done_N[slot]] if steps_left else last
                if prefix > tokens:
                    self._prefix_N[slot] = tokens + 1  # it sees no further here
                elif steps_left:
                    self._prefix_N[slot] = prefix
                    self._done_N[slot] += 1
                    continue
                else:  # the pass measures that the lane has ended
                    self._stop_N[slot] = Stop.COMPLETE
                active.remove(slot)
        return passes, useful

    def play(self) -> dict[str, Any]:
        """Counts as the columns name them; the host takes no time."""
        waiting: collections.deque[Turn] = collections.deque(self._scheduler.turns())
        running: list[tuple[float, int, Turn]] = []  # a heap: the first to end, then the first to begin
        now, chunks, passes, useful, paid, time = 0.0, 0, 0, 0, 0, 0.0
        while waiting or running:
            while waiting and len(running) < self._devices:
                turn = waiting.popleft()
                own_passes, own_useful = self._chunk(turn)
                own_paid = own_passes * turn.bucket.lanes * turn.bucket.tokens
                duration = own_passes * self._knee + own_paid
                heapq.heappush(running, (now + duration, chunks, turn))
                chunks += 1
                passes += own_passes
                useful += own_useful
                paid += own_paid
                time += duration
            now, _, turn = heapq.heappop(running)
            self._scheduler.done(turn, self._prefix_N[turn.seated], self._stop_N[turn.seated])
            waiting.extend(self._scheduler.turns())
        return {
            **{"chunks": chunks, "passes": passes},
            **{"useful_share": useful / paid, "cost": time / useful},
        }


def main(command: Command) -> None:
    cost = PassCost(command.token_budget, command.knee)
    records = []
    for run in command.runs:
        lanes, longest = lanes_of(Path(run))
        plan = plan_for(lanes, longest, command)
        for devices in command.devices:
            played = Replay(lanes, plan, cost, devices, command.spare, command.chunk_passes).play()
            records.append({"run": Path(run).name, "lanes": len(lanes), "devices": devices, **played})
    machine = measure.machine()
    print(machine)
    print(measure.table(records, COLUMNS))
    common = {"benchmark": "replay", "machine": machine, "settings": workload.described(command)}
    measure.write_json_lines([common | record for record in records], command.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)

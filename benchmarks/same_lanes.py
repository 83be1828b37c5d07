"""Two runs of the same lanes, by two versions or on two machines: are they further apart than two seeds?

    jaxcram cram --texts=stories:16 --seeds=0,1 --trajectory=none --out=AFTER     (and BEFORE by the other)
    python benchmarks/same_lanes.py --before=BEFORE --after=AFTER

Long optimisations amplify rounding, so other shapes of passes give other horizons. One JSON line: mean
absolute differences of horizon (tokens) and steps, between the runs over all lanes, and between seeds over
all pairs of lanes that differ in the seed alone, in the first run. The record keeps the directories' names.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from pathlib import Path
from typing import Any

import measure
import workload

from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError
from jaxcram.results.reading import load_summary

Place = tuple[int, float, int]  # sample, learning rate, seed


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    before: str = ""
    after: str = ""
    json: str | None = None


TOPICS = {
    "Runs": {
        "before": Doc("Directory of a finished run"),
        "after": Doc("Directory of another one of the same lanes"),
    },
    "Results": {"json": workload.TOPICS["Results"]["json"]},
}
COLUMNS = {
    **{"lanes": "", "equal_horizons": "", "equal_steps": "", "mean_before": ".2f", "mean_after": ".2f"},
    **{"horizon_between_runs": ".2f", "horizon_between_seeds": ".2f"},
    **{"steps_between_runs": ".0f", "steps_between_seeds": ".0f"},
}


def lanes_of(run: str) -> dict[Place, dict[str, Any]]:
    """What a run's summary says of its lanes."""
    lanes = load_summary(run)["lanes"]
    return {(lane["sample_id"], lane["learning_rate"], lane["seed"]): lane for lane in lanes}


def compared(before: dict[Place, dict[str, Any]], after: dict[Place, dict[str, Any]]) -> dict[str, Any]:
    """The record; `None` between seeds where there is only one.

    Raises:
        UserError: the runs have other lanes.
    """
    if before.keys() != after.keys():
        raise UserError("--before and --after: give runs of the same texts, learning rates and seeds")
    seeds = [(a, b) for a, b in itertools.combinations(sorted(before), 2) if a[:2] == b[:2]]
    record: dict[str, Any] = {"lanes": len(before)}
    for name, plural in (("horizon", "horizons"), ("steps", "steps")):
        runs = [abs(before[place][name] - after[place][name]) for place in before]
        between = [abs(before[a][name] - before[b][name]) for a, b in seeds]
        record[f"equal_{plural}"] = runs.count(0)
        record[f"{name}_between_runs"] = statistics.fmean(runs)
        record[f"{name}_between_seeds"] = statistics.fmean(between) if between else None
    for when, lanes in (("before", before), ("after", after)):
        record[f"mean_{when}"] = statistics.fmean(lane["horizon"] for lane in lanes.values())
    return record


def main(command: Command) -> None:
    record = compared(lanes_of(command.before), lanes_of(command.after))
    machine = measure.machine()
    print(measure.table([record], COLUMNS))
    runs = {"before": Path(command.before).name, "after": Path(command.after).name}
    common = {"benchmark": "same_lanes", "machine": machine, "runs": runs}
    measure.write_json_lines([common | record], command.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)

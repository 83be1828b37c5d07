"""What the schedule makes of a run: how much of it was needed, and what more learning rates cost.

    python benchmarks/schedule.py --texts=stories --num_samples=32 --json=results.jsonl

All learning rates at once, then each of them alone; every run twice, and the second one counts, when all is
compiled. One JSON line each:

  rates         learning rates of the run
  useful_share  tokens of unfinished lanes' current prefixes / padded tokens computed
  over_one      wall time / the mean of the runs with one learning rate
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import engine
import measure
import workload
from workload import Workload

from jaxcram.cli.flags import Doc
from jaxcram.models.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    workload: Workload = dataclasses.field(default_factory=lambda: Workload(num_samples=32))
    learning_rates: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    alone: bool = True


TOPICS = {
    **workload.TOPICS,
    "Measurement": {
        "learning_rates": Doc("Crossed with the texts as lanes", "per step"),
        "alone": Doc("Also run each learning rate alone"),
    },
}
COLUMNS = {
    "rates": "",
    "lanes": "",
    "wall_s": ".1f",
    "passes": "",
    "lane_steps": "",
    "useful_share": ".3f",
    "over_one": ".2f",
}


def measured(model: Decoder, command: Command) -> list[dict[str, Any]]:
    """One record a run."""
    samples = command.workload.samples(model)
    groups = [command.learning_rates, *((rate,) for rate in command.learning_rates if command.alone)]
    records = []
    for rates in groups:
        settings = command.workload.settings(*rates)
        engine.whole_run(model, samples, settings)
        result = engine.whole_run(model, samples, settings)
        records.append(
            {
                "rates": ",".join(f"{rate:g}" for rate in rates),
                "lanes": len(result.outcomes),
                "wall_s": result.total.wall_s,
                "passes": result.total.passes,
                "lane_steps": result.total.lane_steps,
                "useful_share": result.total.useful_tokens / result.total.paid_tokens,
                "mean_horizon": statistics.fmean(outcome.horizon for outcome in result.outcomes),
            }
        )
    one = statistics.fmean(record["wall_s"] for record in records[1:]) if records[1:] else None
    return [record | {"over_one": one and record["wall_s"] / one} for record in records]


def main(command: Command) -> None:
    machine = measure.machine()
    records = measured(command.workload.decoder(), command)
    print(machine)
    print(measure.table(records, COLUMNS))
    common = {"benchmark": "schedule", "machine": machine, "settings": workload.described(command)}
    measure.write_json_lines([common | record for record in records], command.workload.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)

"""What the schedule makes of a run: how much of it was needed, and what more learning rates cost.

    python benchmarks/schedule.py --texts=stories --num_samples=32 --json=results.jsonl

All learning rates at once, and each of them alone, in turns of two seconds for each rate, after a run of
either kind has compiled all programs. With --commands, whole commands one after the other, each in a process
of its own with all programs in the cache: what a user waits for, with loading, decoding back and the figure.
One JSON line each:

  timed         loop or command
  rates         learning rates of the run
  useful_share  tokens of unfinished lanes' current prefixes / padded tokens computed
  over_one      wall time / the mean of the runs with one learning rate
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import engine
import measure
import startup
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
    commands: bool = False

    def groups(self) -> list[tuple[float, ...]]:
        """The learning rates of every run."""
        return [self.learning_rates, *((rate,) for rate in self.learning_rates if self.alone)]


TOPICS = {
    **workload.TOPICS,
    "Measurement": {
        "learning_rates": Doc("Crossed with the texts as lanes", "per step"),
        "alone": Doc("Also run each learning rate alone"),
        "commands": Doc("Time whole commands, not the loop in this process"),
    },
}
COLUMNS = {
    "timed": "",
    "rates": "",
    "lanes": "",
    "wall_s": ".1f",
    "passes": "",
    "lane_steps": "",
    "useful_share": ".3f",
    "over_one": ".2f",
}


def loops(model: Decoder, command: Command) -> list[dict[str, Any]]:
    """One record a run in this process."""
    samples = command.workload.samples(model)
    several = [command.workload.settings(*rates) for rates in command.groups()]
    for settings in several[:2]:  # those of one rate have the same programs
        engine.whole_run(model, samples, settings)
    return [
        {
            "timed": "loop",
            "rates": _given(settings.learning_rates),
            "lanes": len(outcomes),
            "wall_s": total.wall_s,
            "passes": total.passes,
            "lane_steps": total.lane_steps,
            "useful_share": total.useful_tokens / total.paid_tokens,
            "mean_horizon": statistics.fmean(outcome.horizon for outcome in outcomes),
        }
        for settings, (outcomes, total) in zip(
            several, engine.runs_in_turns(model, samples, several), strict=True
        )
    ]


def whole_commands(command: Command) -> list[dict[str, Any]]:
    """One record a command; raises UserError with what a command says of a mistake in the flags."""
    flags = {name: value for name, value in workload.described(command.workload).items() if value}
    arguments = ["cram", "--trajectory=none", *(f"--{name}={value}" for name, value in flags.items())]
    groups, records = command.groups(), []
    compile_first = groups[:2]  # those of one rate have the same programs
    with tempfile.TemporaryDirectory() as name:
        for number, rates in enumerate([*compile_first, *groups]):
            out = Path(name) / str(number)
            own = [*arguments, f"--learning_rates={_given(rates)}", f"--out={out}"]
            wall_s = startup.timed(own, Path.cwd(), Path(name) / "cache")
            summary = json.loads((out / "summary.json").read_text())
            records.append(
                {
                    "timed": "command",
                    "rates": _given(rates),
                    "lanes": len(summary["lanes"]),
                    "wall_s": wall_s,
                    **{key: summary[key] for key in ("passes", "lane_steps", "useful_share")},
                    "mean_horizon": statistics.fmean(lane["horizon"] for lane in summary["lanes"]),
                }
            )
    return records[len(compile_first) :]


def _given(rates: tuple[float, ...]) -> str:
    """Learning rates as a flag takes them."""
    return ",".join(f"{rate:g}" for rate in rates)


def compared(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with what all learning rates at once, the first, cost in runs of one."""
    one = statistics.fmean(record["wall_s"] for record in records[1:]) if records[1:] else None
    return [record | {"over_one": one and record["wall_s"] / one} for record in records]


def main(command: Command) -> None:
    if command.commands:
        records = compared(whole_commands(command))
    else:
        records = compared(loops(command.workload.decoder(), command))
    machine = measure.machine()
    print(machine)
    print(measure.table(records, COLUMNS))
    common = {"benchmark": "schedule", "machine": machine, "settings": workload.described(command)}
    measure.write_json_lines([common | record for record in records], command.workload.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)

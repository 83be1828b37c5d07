"""What the schedule makes of a run: how much of it was needed, and what more learning rates cost.

    python benchmarks/schedule.py --texts=stories --num_samples=32 --json=results.jsonl

All learning rates at once, and each of them alone, in turns of a second, after a run of either kind has
compiled all programs. With --commands, whole commands one after the other, each in a process of its own with
all programs in the cache: what a user waits for, with loading, decoding back and the figure.
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
            "rates": ",".join(f"{rate:g}" for rate in settings.learning_rates),
            "lanes": len(result.outcomes),
            "wall_s": result.total.wall_s,
            "passes": result.total.passes,
            "lane_steps": result.total.lane_steps,
            "useful_share": result.total.useful_tokens / result.total.paid_tokens,
        }
        for settings, result in zip(several, engine.runs_in_turns(model, samples, several), strict=True)
    ]


def whole_commands(command: Command) -> list[dict[str, Any]]:
    """One record a command."""
    work, groups = command.workload, command.groups()
    texts = str(Path(work.texts).resolve()) if Path(work.texts).exists() else work.texts
    flags = {name: value for name, value in dataclasses.asdict(work).items() if value and name != "json"}
    arguments = ["cram", "--trajectory=none"]
    arguments += [f"--{name}={value}" for name, value in (flags | {"texts": texts}).items()]
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, rates in enumerate([*groups[:2], *groups]):
            given, out = ",".join(f"{rate:g}" for rate in rates), folder / str(number)
            wall_s = startup.timed(
                [*arguments, f"--learning_rates={given}", f"--out={out}"], folder, folder / "cache"
            )
            summary = json.loads((out / "summary.json").read_text())
            counts = {key: summary[key] for key in ("passes", "lane_steps", "useful_share")}
            lanes = len(list((out / "rows").iterdir()))
            records.append({"timed": "command", "rates": given, "lanes": lanes, "wall_s": wall_s, **counts})
    return records[len(groups[:2]) :]  # those before have compiled the programs


def compared(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with what all learning rates at once, the first, cost in runs of one."""
    one = statistics.fmean(record["wall_s"] for record in records[1:]) if records[1:] else None
    return [record | {"over_one": one and record["wall_s"] / one} for record in records]


def main(command: Command) -> None:
    machine = measure.machine()
    if command.commands:
        records = compared(whole_commands(command))
    else:
        records = compared(loops(command.workload.decoder(), command))
    print(machine)
    print(measure.table(records, COLUMNS))
    common = {"benchmark": "schedule", "machine": machine, "settings": workload.described(command)}
    measure.write_json_lines([common | record for record in records], command.workload.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)
